"""Tracking inside a trial: a failure is buffered and tried again, it never ends the trial.

Only the methods of `RunLog` are here. The registry's are left out on purpose: a registry failure
must stop what depends on it, so nothing can swallow it.
"""

import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from components.errors import ConfigError
from components.registry.pages import Dataset
from components.registry.tracking import Outcome, RunLog
from components.secrets import without_secrets

PENDING = "pending-"
# What the store will refuse however often it is asked; MLflow's codes, by name so that mlflow need
# not be imported.
REJECTIONS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"})


class TolerantTracker:
    """Wraps a tracker. Calls are made in order; after a failure they wait in a buffer and are made
    again at the next call, at least `retry_seconds` later.

    `start_child` gives a provisional run id while the store is away; later calls with it reach the
    real run. `failures` counts failed attempts, `dropped` the calls given up: refused by the store
    for what they hold, or made while the buffer was full. Metrics keep the step they were logged
    at; their wall-clock time is that of the successful attempt.
    """

    def __init__(
        self, tracker: RunLog, *, retry_seconds: float = 30.0, max_buffered: int = 10_000
    ) -> None:
        self._tracker, self._retry_seconds = tracker, retry_seconds
        self._max_buffered = max_buffered
        self._waiting: deque[Callable[[], object]] = deque()
        self._run_ids: dict[str, str] = {}
        self._not_before = 0.0
        self.failures = self.dropped = 0

    @property
    def waiting(self) -> int:
        """Calls that have not reached the store yet."""
        return len(self._waiting)

    def start_child(
        self,
        parent_run_id: str,
        *,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        key: str = "",
    ) -> str:
        provisional = f"{PENDING}{key or name}"
        self._run_ids.pop(provisional, None)

        def start() -> None:
            self._run_ids[provisional] = self._tracker.start_child(
                parent_run_id, name=name, params=params, tags=tags, key=key
            )

        self._call(start)
        return self._run_ids.get(provisional, provisional)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int) -> None:
        self._on_run(run_id, partial(self._tracker.log_metrics, metrics=dict(metrics), step=step))

    def rename(self, run_id: str, name: str) -> None:
        self._on_run(run_id, partial(self._tracker.rename, name=name))

    def log_datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        self._on_run(run_id, partial(self._tracker.log_datasets, datasets=tuple(datasets)))

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        self._on_run(run_id, partial(self._tracker.log_params, params=dict(params)))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._on_run(run_id, partial(self._tracker.set_tags, tags=dict(tags)))

    def log_dict(self, run_id: str, content: Mapping[str, Any], artifact_file: str) -> None:
        self._on_run(
            run_id,
            partial(self._tracker.log_dict, content=dict(content), artifact_file=artifact_file),
        )

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        self._on_run(
            run_id, partial(self._tracker.log_text, text=text, artifact_file=artifact_file)
        )

    def describe_run(self, run_id: str, text: str) -> None:
        self._on_run(run_id, partial(self._tracker.describe_run, text=text))

    def log_folder(self, run_id: str, folder: Path, artifact_path: str) -> None:
        """As in RunLog; a retry stores the folder as it is then."""
        self._on_run(
            run_id, partial(self._tracker.log_folder, folder=folder, artifact_path=artifact_path)
        )

    def log_figure(self, run_id: str, figure: Any, artifact_file: str) -> None:
        self._on_run(
            run_id, partial(self._tracker.log_figure, figure=figure, artifact_file=artifact_file)
        )

    def finish(self, run_id: str, outcome: Outcome, reason: str) -> None:
        """As in RunLog; tries at once, even right after a failure, because no later call may
        come.
        """
        self._not_before = 0.0
        self._on_run(run_id, partial(self._tracker.finish, outcome=outcome, reason=reason))

    def flush(self) -> bool:
        """Try now to send everything that waits; True where nothing waits any more."""
        self._not_before = 0.0
        self._send()
        return not self._waiting

    def real_run_id(self, run_id: str) -> str | None:
        """The store's id of a run that was started here; None while the store does not know it."""
        found = self._run_ids.get(run_id, run_id)
        return None if found.startswith(PENDING) else found

    def _on_run(self, run_id: str, method: Callable[[str], object]) -> None:
        self._call(lambda: method(self._run_ids.get(run_id, run_id)))

    def _call(self, call: Callable[[], object]) -> None:
        if len(self._waiting) >= self._max_buffered:
            self.dropped += 1
            return
        self._waiting.append(call)
        self._send()

    def _send(self) -> None:
        while self._waiting and time.monotonic() >= self._not_before:
            try:
                self._waiting[0]()
            # Any failure of the store counts: the trial's result is worth more than its record.
            except Exception as error:  # noqa: BLE001
                if self.failures == 0:
                    warnings.warn(
                        (
                            "A tracking call failed; training goes on and the record is completed "
                            f"later where possible. {type(error).__name__}: "
                            f"{without_secrets(str(error))}"
                        ),
                        RuntimeWarning,
                        stacklevel=4,
                    )
                self.failures += 1
                if not _rejected(error):
                    self._not_before = time.monotonic() + self._retry_seconds
                    return
                self.dropped += 1
            self._waiting.popleft()


def _rejected(error: Exception) -> bool:
    return (
        isinstance(error, TypeError | ValueError | ConfigError | FileNotFoundError)
        or getattr(error, "error_code", None) in REJECTIONS
    )
