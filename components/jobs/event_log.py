"""What happens in a search, one JSON line per event, with experiment, trial, rank and step: in
`logs/` of the search's folder, a file per process, and on stderr, where Ray's own worker logs have
it. `cat logs/*.jsonl | sort` is the search in the order of time.

Metrics are not here (MLflow has them), nor are steps (a failed training's: flight_record.py).
"""

import json
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.jobs.events import Evaluated, Event, Failed, Finalized, Left, Reused, Trained
from components.secrets import without_secrets

FOLDER = "logs"


@dataclass(frozen=True)
class EventLog:
    """Of one process. `context`: the fields that all of its lines have; `echo`: on stderr too."""

    file: Path
    context: Mapping[str, Any] = field(default_factory=dict)
    echo: bool = False

    def of(self, **fields: Any) -> "EventLog":
        """The same log with more context."""
        return EventLog(self.file, {**self.context, **fields}, self.echo)

    def tell(self, event: str, **fields: Any) -> None:
        """Append one line. A file is opened for each, because several nodes may write into the
        folder; a disk that takes none ends nothing.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        values = {"time": now, "event": event, **self.context, **fields}
        line = without_secrets(json.dumps(values, default=str))
        if self.echo:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def event_log(folder: Path, process: str, *, experiment: str, echo: bool = False) -> EventLog:
    """Of this process, called `process`, in the folder of its search."""
    name = f"{process}-{socket.gethostname()}-{os.getpid()}.jsonl"
    return EventLog(folder / FOLDER / name, {"experiment": experiment}, echo)


def tell_event(log: EventLog, event: Event) -> None:
    """A line about what is told of a job."""
    match event:
        case Reused(run_id=run_id):
            log.tell("reused", run=run_id)
        case Evaluated(report=report):
            log.tell("evaluated", step=report.step, best=report.is_best)
        case Trained(outcome=outcome, reason=reason, progress=progress):
            log.tell("trained", step=progress.step, outcome=outcome, reason=reason)
        case Finalized():
            log.tell("evaluated on test documents")
        case Left(reason=reason, step=step):
            log.tell("left", step=step, reason=reason)
        case Failed(reason=reason, cause=cause):
            log.tell("failed", reason=reason, cause=cause)
