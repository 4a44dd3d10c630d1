"""The last stage of a search: its version meets the champion, by the rules of the section `gate`.

A search picks the best of many, so its winner may have been lucky with its seed. Where there is a
champion to beat, the winner's point is therefore trained again with other seeds, and the gate
decides over all these trainings, on test documents, which have not chosen it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.config import TrainConfig, trial_config
from components.errors import WorkFailed
from components.registry import CHALLENGER, RegisteredAdapter
from components.settings.base import LARGEST_SEED
from pipelines.contest import CONFIRMED_SEEDS, PromotionSettings, confirmation_of
from pipelines.promote import settle
from pipelines.reports import PromotionReport
from pipelines.running_search import Search

if TYPE_CHECKING:
    from components.jobs.run_jobs import JobResult
    from components.jobs.summary import TrialSummary

Say = Callable[[str], None]


@dataclass(frozen=True)
class RegistryAccess:
    """How a search changes the registry: its address, where leases are kept that the address does
    not keep, and what is called right before a change, and may raise.
    """

    tracking_uri: str
    state_path: Path
    before_change: Callable[[], None]


def meet_champion(
    running: Search,
    best: "TrialSummary",
    registered: RegisteredAdapter,
    registry: RegistryAccess,
    say: Say,
) -> PromotionReport | None:
    """What became of the version; None where the experiment has no gate. Raises WorkFailed where
    the confirming trainings were lost with their workers, ClusterError where another promotion of
    this model does not end.
    """
    config, tracker = running.config, running.tracker
    if config.gate is None:
        return None
    if registered.alias == CHALLENGER and config.gate.confirm_seeds:
        confirm(running, best, registered, config.gate.confirm_seeds, say)
    report = settle(
        tracker,
        registered.name,
        registered.version,
        settings=PromotionSettings(data=config.data, gate=config.gate),
        tracking_uri=registry.tracking_uri,
        cache_path=Path(config.cluster.cache_path).resolve(),
        state_path=registry.state_path,
        before_change=registry.before_change,
    )
    say(f"{report.model_name} version {report.version}: {report.action}: {report.reason}")
    return report


def confirm(
    running: Search, best: "TrialSummary", registered: RegisteredAdapter, count: int, say: Say
) -> None:
    """Train the best point with `count` other seeds and keep the adapters with the run of the
    version. A seed that gives no adapter (it diverged) is left out, which the gate notices.
    """
    tracker = running.tracker
    version = tracker.resolve(registered.model_uri)
    if CONFIRMED_SEEDS in version.tags:  # by a search that was killed afterwards
        return
    config = trial_config(running.config, best.point)
    seeds = other_seeds(config.seed, count)
    say(f"training the best point again with {count} other seed(s), for the gate")
    results = trained_with(running, config, seeds)
    lost = [seed for seed, result in results.items() if result.outcome in ("lost", "failed")]
    if lost:
        result = results[lost[0]]
        raise WorkFailed(f"The training with seed {lost[0]} {result.outcome}: {result.reason}")
    confirmed = []
    for seed, result in results.items():
        if result.final is None:
            say(f"seed {seed} gave no adapter: {result.outcome}: {result.reason}")
            continue
        tracker.log_folder(best.run_id, Path(result.final.folder), confirmation_of(seed))
        confirmed.append(str(seed))
    tracker.annotate(
        version,
        tags={CONFIRMED_SEEDS: ",".join(confirmed)},
        line=f"Trained again with {len(confirmed)} of {count} other seeds, for the gate.",
    )


def other_seeds(seed: int, count: int) -> tuple[int, ...]:
    """The seeds after `seed`, beginning anew at 0 after the largest."""
    return tuple((seed + number) % (LARGEST_SEED + 1) for number in range(1, count + 1))


def trained_with(
    running: Search, config: TrainConfig, seeds: tuple[int, ...]
) -> "dict[int, JobResult]":
    """Train and evaluate the point with each seed in the search's slots."""
    from components.jobs.job import Job
    from components.jobs.run_jobs import run_jobs

    results: dict[int, JobResult] = {}
    left = [
        Job(
            id=f"seed-{seed}",
            config=config.model_copy(update={"seed": seed}),
            data_folder=running.data.folder,
            folder=running.path / confirmation_of(seed),
            evaluate=True,
        )
        for seed in seeds
    ]

    def keep(result: "JobResult") -> None:
        results[result.job.config.seed] = result

    run_jobs(
        running.context().workers(),
        lambda: left.pop(0) if left else None,
        on_result=keep,
        max_failures=running.config.search.max_failures,
    )
    return results
