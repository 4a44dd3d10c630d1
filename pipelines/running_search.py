"""A search whose slots, data and run are there, and how it ends early: its run and its folder say
so, a log file keeps the traceback, and the reader gets one line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.config import ExperimentConfig
from components.errors import WorkFailed
from components.registry import Outcome, TolerantTracker, Tracker, code_fingerprint
from pipelines.failures import ERROR_LOG, one_line, telling

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from components.data import PreparedData
    from components.jobs.summary import TrialSummary
    from components.tuning.search_folder import SearchFolder
    from components.tuning.tune_trial import SearchContext


@dataclass(frozen=True)
class Trials:
    """The trials of a search that has ended, and the best of them."""

    summaries: "tuple[TrialSummary, ...]"
    best: "TrialSummary"

    @property
    def lost(self) -> "tuple[TrialSummary, ...]":
        """Those that were given up because their workers were lost too often."""
        return tuple(summary for summary in self.summaries if summary.outcome == "lost")


@dataclass(frozen=True)
class Search:
    """A search whose slots, data and run are there."""

    config: ExperimentConfig
    tracker: Tracker
    folder: "SearchFolder"
    run_id: str
    data: "PreparedData"
    slots: "tuple[ActorHandle, ...]"
    command: str = ""
    """The command line that repeats it; empty where it was not started by one."""

    @property
    def path(self) -> Path:
        return Path(self.folder.path)

    def context(self) -> "SearchContext":
        """What its trials need."""
        from components.tuning.tune_trial import SearchContext

        return SearchContext(
            config=self.config,
            slots=self.slots,
            data_folder=self.data.folder,
            data_fingerprint=self.data.fingerprint,
            code_fingerprint=code_fingerprint(),
            folder=self.path,
        )


class TrialsLost(WorkFailed):
    """Workers were lost so often that trials were given up: the best of the others may not be the
    best.
    """


@contextmanager
def ending_with(running: Search) -> Iterator[None]:
    """Whatever ends the search early stands in its run and leaves it resumable. A known cause is
    raised as WorkFailed.
    """
    log = TolerantTracker(running.tracker)
    try:
        yield
    except KeyboardInterrupt:
        running.folder.ended("interrupted").save()
        reason = "interrupted; the same command with --resume continues"
        log.finish(running.run_id, "interrupted", reason)
        raise
    except BaseException as error:
        running.folder.ended("interrupted").save()
        outcome: Outcome = "lost" if isinstance(error, TrialsLost) else "failed"
        log.finish(running.run_id, outcome, one_line(error))
        with telling(running.path / ERROR_LOG):
            raise
