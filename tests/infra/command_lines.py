"""What is wrong with a command line in infra/: read by the parser of the program that it starts,
experiments and retrainings by our own loaders. Nothing is run.
"""

import itertools
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from components.config.retraining import load_retraining
from components.errors import UserError
from pipelines.cli import app
from pipelines.experiments import load_experiment

INFRA = Path(__file__).resolve().parents[2] / "infra"
OURS = (("prefixprop",), ("python", "-m", "pipelines.cli"))
OF_OTHERS = {
    *(
        "[",
        "cut",
        "date",
        "done",
        "echo",
        "exit",
        "export",
        "fi",
        "hostname",
        "kill",
        "mkdir",
        "mv",
    ),
    *("openssl", "rm", "set", "sh", "sleep", "test", "true", "umask", "wait"),
    *("mc", "pg_dump", "pg_isready", "pg_restore", "rclone", "redis-server"),
}
"""Programs that infra/ starts and whose options nobody here can check."""
KEYWORDS = ("do", "else", "exec", "if", "then", "until", "while", "!")
SEPARATORS = re.compile(r"[;&|()]+")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
REDIRECTION = re.compile(r"\d*>&\d|\d*[<>]+\s*\S+")


def problems_of_script(script: str) -> list[str]:
    """Of every simple command in a text for /bin/sh."""
    text = re.sub(r"\\\n", " ", script)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in lines:
        for words in _simple_commands(line):
            found += problems_of(words)
    return found


def problems_of(words: Sequence[str]) -> list[str]:
    """Of one command line, as a list of words."""
    words = list(words)
    while words and (ASSIGNMENT.match(words[0]) or words[0] in KEYWORDS):
        words = words[1:]
    if not words or words[0].startswith(("$", '"$')):
        return []
    for start in OURS:
        if tuple(words[: len(start)]) == start:
            return _of_prefixprop(words[len(start) :])
    if words[0] == "srun":
        return problems_of(_after_options(words[1:]))
    if words[0] == "mlflow":
        from mlflow.cli import cli

        return _of_click(cli, words[1:])
    if words[0] == "ray":
        from ray.scripts.scripts import cli as ray_cli

        return _of_click(ray_cli, words[1:])
    if Path(words[0]).name in OF_OTHERS:
        return []
    return [f"'{words[0]}' is no program that infra/ starts"]


def _simple_commands(line: str) -> list[list[str]]:
    lexer = shlex.shlex(REDIRECTION.sub(" ", line), posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    commands: list[list[str]] = [[]]
    for word in lexer:
        if SEPARATORS.fullmatch(word):
            commands.append([])
        else:
            commands[-1].append(word)
    return [each for each in commands if each]


def _after_options(words: Sequence[str]) -> list[str]:
    """What follows the options of `srun` and `submit`, which are written as --name=value."""
    return list(itertools.dropwhile(lambda word: word.startswith("-"), words))


def _of_prefixprop(words: Sequence[str]) -> list[str]:
    group = typer.main.get_command(app)
    if words[-1:] == ["$@"]:  # what was given to the script
        words = [*words[:-1], "search", "demo"]
    if words[:1] == ["submit"]:
        return _of_click(group, words) or _of_prefixprop(_after_options(words[1:]))
    wrong = _of_click(group, words)
    return wrong or _of_files(words)


def _of_click(group: Any, words: Sequence[str]) -> list[str]:
    """What the parser itself says; a shell's variable stands for a number."""
    command, rest = group, [re.sub(r"\$\{?\w+\}?", "1", word) for word in words]
    while hasattr(command, "commands"):
        known = dict(command.commands)
        if not rest or rest[0] not in known:
            return [f"'{' '.join(rest[:1])}' is none of {', '.join(sorted(known))}"]
        command, rest = known[rest[0]], rest[1:]
    try:
        command.make_context(command.name, list(rest))
    except Exception as error:  # noqa: BLE001  (click's, or the copy of it that typer carries)
        return [f"{command.name} {' '.join(rest)}: {getattr(error, 'message', error)!s}"]
    return []


def _of_files(words: Sequence[str]) -> list[str]:
    """The experiment or retraining that a command names, with its overrides."""
    try:
        if words[0] == "search":
            overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
            load_experiment(_here(words[1]), [each for each in overrides if "$" not in each])
        elif words[0] == "retrain":
            load_retraining(Path(_here(words[1])))
    except UserError as error:
        return [str(error)]
    return []


def _here(name: str) -> str:
    """A file's place in infra/: in a pod it is mounted elsewhere."""
    if "$" in name:
        return "demo"  # given by who submits
    found = sorted(INFRA.rglob(Path(name).name)) if name.endswith(".yaml") else []
    return str(found[0]) if found else name
