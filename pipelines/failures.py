"""How a workflow that was begun fails: one line where the cause is known, and a log file that keeps
the traceback.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components.errors import UserError, WorkFailed
from components.secrets import without_secrets

ERROR_LOG = "error.log"


@contextmanager
def telling(log: Path) -> Iterator[None]:
    """Keep the traceback of what ends the block in `log`; raise what has a known cause as
    WorkFailed.
    """
    try:
        yield
    except Exception as error:
        with suppress(OSError):  # a full disk may be what ended the block
            log.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(traceback.format_exception(error))
            log.write_text(without_secrets(text), encoding="utf-8")
        if isinstance(error, WorkFailed):
            error.log = str(log)
            raise
        if not is_known(error):
            raise
        raise WorkFailed(one_line(error), log=str(log)) from error


def is_known(error: BaseException) -> bool:
    """Whether its message tells the cause: our own errors, the system's, and those of the services
    that a search needs.
    """
    services = ("ray.", "mlflow.", "grpc.")
    return isinstance(error, UserError | OSError) or type(error).__module__.startswith(services)


def one_line(error: BaseException) -> str:
    """An error's message without line ends, its kind before it where that is not ours."""
    text = without_secrets(" ".join(str(error).split()))
    ours = isinstance(error, UserError | WorkFailed)
    return text if ours and text else f"{type(error).__name__}: {text}"
