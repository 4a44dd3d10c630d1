"""A retraining that is at work: what its stages share, and the champion it started from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.config import ExperimentConfig, resolved
from components.config.retraining import RetrainingConfig
from components.data.documents import Example
from components.errors import ClusterError, RegistryError
from components.registry import CHAMPION, RegisteredVersion, Tracker
from pipelines.contest import holder_of
from pipelines.retraining.documents import Documents
from pipelines.retraining.records import Record, Records
from pipelines.scheduling.lease import Lease

Say = Callable[[str], None]


@dataclass(frozen=True)
class Retraining:
    """A retraining that is at work."""

    spec: RetrainingConfig
    config: ExperimentConfig
    """The experiment as its file has it."""
    tracker: Tracker
    tracking_uri: str
    records: Records
    record: Record
    documents: Documents
    old: list[Example]
    """The documents of the last success."""
    lease: Lease
    state_path: Path
    ray_address: str | None
    say: Say

    @property
    def snapshot(self) -> Path:
        return Path(self.record.snapshot)

    def noted(self, **facts: Any) -> "Retraining":
        """The same with facts that a later try goes on from, written down now."""
        record = replace(self.record, report={**self.record.report, **facts})
        self.records.begin(record)
        return replace(self, record=record)


def with_champion(work: Retraining) -> tuple[Retraining, RegisteredVersion | None]:
    """The champion that this retraining starts from, whichever try it is."""
    tracker, name = work.tracker, work.config.model_name
    if "champion" not in work.record.report:
        champion = champion_of(tracker, name)
        return work.noted(champion=None if champion is None else champion.version), champion
    noted = work.record.report["champion"]
    return work, None if noted is None else tracker.resolve(f"models:/{name}/{noted}")


def champion_of(tracker: Tracker, model_name: str) -> RegisteredVersion | None:
    """The version in use; None where there is none."""
    try:
        versions = tracker.versions(model_name)
    except RegistryError:
        return None
    return holder_of(versions, CHAMPION)


def adapter_of(work: Retraining, champion: RegisteredVersion) -> Path:
    """The champion's adapter folder, fetched once."""
    folder = work.snapshot.parent / f"champion-{champion.version}"
    if not (folder / "adapter").is_dir():
        work.tracker.download_adapter(champion.model_uri, folder)
    return folder / "adapter"


def run_of(
    tracker: Tracker,
    config: ExperimentConfig,
    name: str,
    whose: Mapping[str, str],
    *,
    run_name: str,
    tags: Mapping[str, str],
) -> tuple[str, bool]:
    """Id of the run of the retraining `name` that carries the tags `whose`, started with the
    further `tags` where there is none; and whether it was there.
    """
    tracker.ensure_experiment(config.name, config.description)
    known = tracker.find_run(config.name, whose)
    if known is not None:
        return known, True
    run_id = tracker.start_run(
        config.name,
        run_name=run_name,
        config=resolved(config),
        params={"retraining": name},
        tags={**tags, **whose},
    )
    return run_id, False


def still_held(lease: Lease) -> bool:
    """Whether record and run are still this process's to write."""
    try:
        lease.check()
    except ClusterError:
        return False
    return True
