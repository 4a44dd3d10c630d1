"""Exit codes, one clear line, and --json that nothing else can write into."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from components.errors import ConfigError, GateRefused
from pipelines.command_line.terminal import command, jsonable


@dataclass(frozen=True)
class Report:
    path: Path
    values: tuple[float, ...]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("a.b: wrong\nfix it"), 2, "Error: a.b: wrong fix it\n"),
        (GateRefused("not better"), 3, "Refused: not better\n"),
        (KeyboardInterrupt(), 130, "Interrupted. Continue with: prefixprop search x --resume\n"),
    ],
)
def test_errors_become_exit_codes_and_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(SystemExit) as leaving,
        command(as_json=False, resume="prefixprop search x --resume"),
    ):
        raise error
    assert leaving.value.code == code
    assert capsys.readouterr() == ("", line)


def test_any_other_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), command(as_json=False):
        raise ZeroDivisionError


def test_json_is_alone_on_stdout_whatever_libraries_and_children_print() -> None:
    program = """
import subprocess, sys
from pipelines.command_line.terminal import command
with command(as_json=True) as terminal:
    print("a library")
    subprocess.run([sys.executable, "-c", "print('a child')"])
    terminal.say("a line for people")
    terminal.report({"answer": 42}, lambda console: None)
print("after")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    report, after = ran.stdout.rsplit("after", 1)[0], ran.stdout.endswith("after\n")
    assert json.loads(report) == {"answer": 42}
    assert after
    assert all(text in ran.stderr for text in ("a library", "a child", "a line for people"))


def test_a_quiet_command_says_and_reports_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with command(as_json=False, quiet=True) as terminal:
        terminal.say("x")
        terminal.report({}, lambda console: console.print("y"))
    assert capsys.readouterr() == ("", "")


def test_reports_become_strict_json() -> None:
    report = Report(Path("a/b"), (1.5, float("nan"), float("inf")))
    assert jsonable(report) == {"path": "a/b", "values": [1.5, None, None]}
    assert jsonable({"n": np.float32(0.5), "k": np.int64(3)}) == {"n": 0.5, "k": 3}


ADDRESS, SHOWN = "http://ann:s3cr3t@host", "http://***@host"


def _speak(as_json: bool) -> None:
    with command(as_json=as_json, resume=f"x {ADDRESS}") as terminal:
        terminal.say(ADDRESS)
        terminal.console.print(f"the key is k3y-of-some-service at {ADDRESS}", markup=False)
        terminal.report(
            {"deep": [Report(Path(ADDRESS), (1.0,))], "key": "k3y-of-some-service"},
            lambda console: console.print(ADDRESS, markup=False),
        )
        raise KeyboardInterrupt


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_that_is_written_holds_a_secret(
    as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "k3y-of-some-service")
    with pytest.raises(SystemExit):
        _speak(as_json)
    written = "".join(capsys.readouterr())
    assert "s3cr3t" not in written and "k3y" not in written
    assert written.count(SHOWN) >= 3


def test_a_disk_that_is_full_or_read_only_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving, command(as_json=False):
        raise OSError(30, "Read-only file system", "/mnt/x/file")
    assert leaving.value.code == 2
    assert capsys.readouterr().err == (
        "Error: '/mnt/x/file' cannot be read or written (Read-only file system). Give another "
        "path, or free space and allow it there.\n"
    )


def test_the_traceback_of_another_error_holds_no_secret() -> None:
    program = f"""
import sys
from pipelines import cli
def app(): raise ValueError("at {ADDRESS}")
cli.app = app
cli.main()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 1
    assert f"ValueError: at {SHOWN}" in ran.stderr and "Traceback" in ran.stderr
    assert "s3cr3t" not in ran.stderr.replace(f'ValueError("at {ADDRESS}")', "")
