"""How a command speaks: lines and tables for people, or one JSON document on stdout and nothing
else there.

Exit codes: 0 done, 1 failed, 2 the user's input is wrong, 3 the gate refused, 130 interrupted.
What is written here holds no password or token (components/secrets.py).
"""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

from components.errors import GATE_REFUSED, WorkFailed
from components.secrets import without_secrets
from pipelines.command_line.printable import printable
from pipelines.interruption import one_interruption

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.reports import PromotionReport

PLAIN_WIDTH = 160


class Terminal:
    """Where one command writes: `say` for people, `report` for its result."""

    def __init__(self, *, as_json: bool, quiet: bool, stdout: TextIO) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._stdout = stdout

    @property
    def console(self) -> "Console":
        """A rich console for progress and tables: stderr with --json, else stdout; plain lines
        where that is no terminal.
        """
        from rich.console import Console

        stream = sys.stderr if self.as_json else self._stdout
        width = None if stream.isatty() else PLAIN_WIDTH
        return Console(file=cast("TextIO", _Discreet(stream)), width=width, highlight=False)

    def say(self, line: str) -> None:
        """One line for people."""
        self.write(printable(line) + "\n")

    def write(self, text: str) -> None:
        """Text for people, as it comes."""
        if not self.quiet:
            stream = sys.stderr if self.as_json else self._stdout
            stream.write(without_secrets(text))
            stream.flush()

    def report(self, report: Any, show: "Callable[[Console], None]") -> None:
        """The command's result: as JSON, or shown by `show`."""
        if self.quiet:
            return
        if self.as_json:
            print(
                json.dumps(jsonable(report), indent=2, allow_nan=False),
                file=self._stdout,
                flush=True,
            )
        else:
            show(self.console)


class _Discreet:
    """A stream that hides secrets in what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(without_secrets(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def command(*, as_json: bool, resume: str | None = None, quiet: bool = False) -> Iterator[Terminal]:
    """Run a command's body: errors become exit codes and one clear line; with `as_json` libraries
    cannot write to stdout.

    `resume`: the command line that continues after an interruption. `quiet`: say and report nothing
    (every rank but the first).
    """
    with _stdout_kept(as_json) as stdout:
        terminal = Terminal(as_json=as_json, quiet=quiet, stdout=stdout)
        try:
            with one_interruption():
                from pipelines.command_line import surroundings

                surroundings.settle(os.environ)
                yield terminal
        except KeyboardInterrupt:
            _leave(
                130,
                "" if quiet else "Interrupted." + (f" Continue with: {resume}" if resume else ""),
            )
        except WorkFailed as error:
            _leave(1, "" if quiet else failed_line(error, resume))
        except Exception as error:
            code = exit_code(error)
            if code == 1:
                from components.settings import disk_problem

                if (line := disk_problem(error)) is None:
                    if resume and not quiet:
                        error.add_note(f"Once the cause is mended, continue with: {resume}")
                    raise
                _leave(2, f"Error: {line}")
            _leave(code, f"{'Refused' if code == GATE_REFUSED else 'Error'}: {error}")


def failed_line(error: WorkFailed, resume: str | None) -> str:
    """What failed, where the whole of it stands, and how to go on."""
    log = f" (more: {error.log})" if error.log else ""
    again = f" Continue with: {resume}" if resume and error.resumable else ""
    return f"Failed: {error}{log}{again}"


def exit_code(error: Exception) -> int:
    """2 for what the user can fix, 3 for a refusing gate, 1 for everything else."""
    from components.errors import GateRefused, UserError

    if isinstance(error, UserError):
        return 2
    return GATE_REFUSED if isinstance(error, GateRefused) else 1


def refuse(promotion: "PromotionReport | None") -> None:
    """Raise GateRefused where the gate did not let a version become champion."""
    from components.errors import GateRefused

    if promotion is not None and promotion.refused is not None:
        version = f"{promotion.model_name} version {promotion.version}"
        raise GateRefused(f"{version} {promotion.refused}")


def _leave(code: int, line: str) -> NoReturn:
    if line:
        sys.stderr.write(printable(" ".join(without_secrets(line).split())) + "\n")
    raise SystemExit(code)


@contextmanager
def _stdout_kept(keep: bool) -> Iterator[TextIO]:
    """With `keep`: yield the real stdout and point file descriptor 1 and sys.stdout at stderr
    meanwhile, for child processes and C libraries too.
    """
    if not keep:
        yield sys.stdout
        return
    before, descriptor = sys.stdout, _descriptor(sys.stdout)
    if descriptor is None:
        sys.stdout = sys.stderr
        try:
            yield before
        finally:
            sys.stdout = before
        return
    before.flush()
    with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as kept:
        os.dup2(sys.stderr.fileno(), descriptor)
        try:
            yield kept
        finally:
            before.flush()
            os.dup2(kept.fileno(), descriptor)


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except OSError:
        return None  # a test's in-memory stream


def jsonable(value: Any) -> Any:
    """Reports, configurations, paths and numpy numbers as JSON values; numbers that are not finite
    become null.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if hasattr(value, "model_dump_json"):
        return jsonable(json.loads(value.model_dump_json()))
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, Path | str):
        return without_secrets(str(value))
    if hasattr(value, "item"):
        return jsonable(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
