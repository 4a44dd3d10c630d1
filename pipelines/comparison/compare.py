"""Compare methods: each gets a search of the same size on every task, then several seeds at its
best point, measured on the same test documents.

data -> slots load the backbone -> searches and seeds, cell by cell -> intervals, paired tests,
figures -> one run that holds them. The same command again goes on where it stopped.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.backbones import inspect_backbone, tokenizer_id
from components.config import TrainConfig, config_sha256, resolved
from components.config.comparison import ComparisonConfig
from components.errors import DataError, UserError
from components.jobs.driver_lock import held
from components.planning import check_feasible
from components.registry import (
    TolerantTracker,
    Tracker,
    code_fingerprint,
    environment,
    open_tracker,
    run_tags,
)
from components.settings import writable_folder
from pipelines.comparison.run_cells import run_cells
from pipelines.comparison.schedule import Schedule
from pipelines.describe import describe_data
from pipelines.failures import ERROR_LOG, one_line, telling
from pipelines.reports import CompareReport

if TYPE_CHECKING:
    from components.data import PreparedData
    from components.evaluation.comparison import Comparison

Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparing:
    """A comparison whose data and run are there."""

    config: ComparisonConfig
    tracker: Tracker
    run_id: str
    data: "Mapping[str, PreparedData]"
    schedule: Schedule
    root: Path


def compare(
    config: ComparisonConfig,
    *,
    output: Path,
    tracking_uri: str,
    ray_address: str | None = None,
    say: Say = print,
) -> CompareReport:
    """Run what is left of a comparison and write its tables and figures into `output` and into one
    run.

    Cells that diverged or failed are shown as such and stop no other; a failed one is tried again
    by the next call. Raises UserError before anything is started where the input is wrong;
    KeyboardInterrupt and WorkFailed leave a state that the same call continues.
    """
    check_comparison_feasible(config)
    tracker = open_tracker(config.registry.kind, tracking_uri)
    tracker.check()
    root = Path(config.cluster.storage_path).resolve() / config.name
    with held(root, what=f"comparison '{config.name}'"):
        return compare_alone(config, tracker, output, ray_address, say=say)


def compare_alone(
    config: ComparisonConfig, tracker: Tracker, output: Path, ray_address: str | None, *, say: Say
) -> CompareReport:
    """The comparison, by the one driver that holds its folder."""
    started = time.monotonic()
    running = open_comparison(config, tracker, say)
    with ending_with(running):
        cells_run = run_what_is_left(running, ray_address, say)
        warn_of_other_code(running, say)
        say("computing intervals and paired tests")
        seconds = time.monotonic() - started
        comparison = write(running, output, cells_run=cells_run, seconds=seconds)
        return report(running, comparison, output, cells_run=cells_run, seconds=seconds)


def check_comparison_feasible(config: ComparisonConfig) -> None:
    """Check every point of every method against the backbone's shape. Raises ConfigError."""
    for task, method, point in config.points():
        training = config.train_config(
            task, method, point=point, seed=config.seeds[0], searching=False
        )
        check_feasible([("", training)], inspect_backbone(training.backbone))


def prepare_tasks(config: ComparisonConfig, say: Say) -> "dict[str, PreparedData]":
    """Task -> its documents, tokenised once for all methods."""
    from components.backbones import load_tokenizer
    from components.data.sources import source_of
    from components.tasks import prepare

    prepared = {}
    for task in config.tasks:
        settings = first_config(config, task)
        cache = Path(config.cluster.cache_path).resolve()
        try:
            source_of(settings.data).state(settings.data)
            tokenizer = load_tokenizer(settings.backbone)
            prepared[task] = prepare(
                settings.data,
                tokenizer,
                tokenizer_id=tokenizer_id(settings.backbone),
                cache_path=cache,
            )
        except DataError as error:
            raise DataError(
                f"tasks.{task}: {error}".replace("--set data.", f"--set tasks.{task}.data.")
            ) from error
        say(f"{task}: {describe_data(prepared[task])}")
    return prepared


def first_config(config: ComparisonConfig, task: str) -> TrainConfig:
    """A training of the task; backbone and data are the same in all of them."""
    name, method = next(iter(config.methods.items()))
    return config.train_config(
        task, name, point=method.points[0], seed=config.seeds[0], searching=False
    )


def open_comparison(config: ComparisonConfig, tracker: Tracker, say: Say) -> Comparing:
    """Data, what is known of the cells, and the run."""
    data = prepare_tasks(config, say)
    storage = Path(config.cluster.storage_path).resolve()
    root = writable_folder(storage, "cluster.storage_path") / config.name
    schedule = Schedule(config, data, root)
    run_id = start_run(config, tracker, data)
    done, size = schedule.counts()
    say(f"{done} of {size} cells are done already; run: {tracker.run_url(run_id) or run_id}")
    return Comparing(config, tracker, run_id, data, schedule, root)


def start_run(
    config: ComparisonConfig, tracker: Tracker, data: "Mapping[str, PreparedData]"
) -> str:
    """The unfinished run of the same comparison on the same documents, else a new one."""
    tracker.ensure_experiment(config.name, config.description)
    identity = {
        "kind": "comparison",
        "config_sha256": config_sha256(config),
        "data_fingerprint": "-".join(prepared.fingerprint[:12] for prepared in data.values()),
    }
    found = tracker.find_run(config.name, identity)
    if found is not None and tracker.run_tags(found).get("outcome") != "completed":
        tracker.resume_run(found, {"resumed": "true"})
        return found
    params: dict[str, Any] = {
        "backbone": first_config(config, next(iter(config.tasks))).backbone.name_or_path,
        "tasks": list(config.tasks),
        "methods": list(config.methods),
        "search_points": config.search.points,
        "seeds": list(config.seeds),
    }
    run_id = tracker.start_run(
        config.name,
        run_name=f"compare-{time.strftime('%Y%m%d-%H%M%S')}",
        config=resolved(config),
        params=params,
        tags=run_tags(config_sha256=identity["config_sha256"]) | identity,
    )
    tracker.log_dict(run_id, environment(), "environment.json")
    reports = {task: asdict(prepared.report) for task, prepared in data.items()}
    tracker.log_dict(run_id, reports, "data.json")
    return run_id


@contextmanager
def ending_with(running: Comparing) -> Iterator[None]:
    """Whatever ends the comparison early stands in its run; a known cause is raised as
    WorkFailed.
    """
    log = TolerantTracker(running.tracker)
    try:
        yield
    except KeyboardInterrupt:
        log.finish(running.run_id, "interrupted", "interrupted; the same command continues")
        raise
    except BaseException as error:
        log.finish(running.run_id, "failed", one_line(error))
        if isinstance(error, UserError):
            raise
        with telling(running.root / ERROR_LOG):
            raise


def run_what_is_left(running: Comparing, ray_address: str | None, say: Say) -> int:
    """Run the cells that are not done on trial slots; returns how many were run."""
    done, size = running.schedule.counts()
    if done == size:
        return 0
    from components.jobs.cluster import check_cluster_fits, joined_cluster
    from components.jobs.shared_folders import check_shared_folders
    from components.jobs.slots import RaySlots, close_slots, wait_until_placed
    from pipelines import code_folders
    from pipelines.trial_slots import start_trial_slots

    config = running.config
    count, cluster = config.concurrent_slots, config.cluster
    with joined_cluster(ray_address, code=code_folders()):
        check_cluster_fits(cluster, slots=count)
        check_shared_folders(cluster)
        say(
            f"starting {count} trial slot(s) of {cluster.num_workers} worker(s), which "
            "load the backbone once"
        )
        training = first_config(config, next(iter(config.tasks)))
        slots = start_trial_slots(
            training, cluster, count=count, storage=running.root, experiment=config.name
        )
        wait_until_placed(slots, cluster)
        workers = RaySlots(slots, timeout_seconds=float(cluster.placement_timeout_seconds))
        cells_run = run_cells(
            running.schedule, workers, TolerantTracker(running.tracker), running.run_id, say=say
        )
        close_slots(slots)
    return cells_run


def warn_of_other_code(running: Comparing, say: Say) -> None:
    """Say so where cells were trained by other code than this."""
    records = running.schedule.records.values()
    others = sum(record.identity.code_fingerprint != code_fingerprint() for record in records)
    if others:
        say(
            f"{others} of {len(records)} cells were trained by other code than "
            "the present one (code_fingerprint in record.json). "
            f"To train them again, remove '{running.root / 'cells'}' or their folders in it."
        )


def write(running: Comparing, output: Path, *, cells_run: int, seconds: float) -> "Comparison":
    """Compute tables and figures and write them into `output` and the run, which ends."""
    from pipelines.comparison.report import collect, write_results

    tracker, records = running.tracker, running.schedule.records.values()
    comparison = collect(running.schedule, running.data)
    facts = environment() | {
        "seconds_of_this_call": seconds,
        "cells_of_this_call": cells_run,
        "code_fingerprints": sorted({record.identity.code_fingerprint for record in records}),
        "training_seconds_of_all_cells": sum(record.progress.seconds for record in records),
        "run_id": running.run_id,
        "data_fingerprints": {
            task: prepared.fingerprint for task, prepared in running.data.items()
        },
        "missing": missing_of(comparison),
    }
    write_results(comparison, running.config, output, facts=facts)
    means = {
        f"{row.task}/{row.method}/{name}": interval.mean
        for row in comparison.rows
        for name, interval in row.scores.items()
    }
    tracker.log_metrics(running.run_id, means, step=0)
    tracker.log_folder(running.run_id, output, "comparison")
    missing = missing_of(comparison)
    tracker.finish(
        running.run_id,
        "failed" if missing else "completed",
        "; ".join(missing) or f"{len(records)} cells",
    )
    return comparison


def missing_of(comparison: "Comparison") -> tuple[str, ...]:
    """What has no result and why, in words."""
    return tuple(
        f"{row.task}, {row.method}: {row.problem}" for row in comparison.rows if row.problem
    )


def report(
    running: Comparing, comparison: "Comparison", output: Path, *, cells_run: int, seconds: float
) -> CompareReport:
    """What the workflow returns."""
    return CompareReport(
        comparison=running.config.name,
        rows=comparison.rows,
        pairs=comparison.pairs,
        missing=missing_of(comparison),
        cells=running.schedule.counts()[1],
        cells_run=cells_run,
        output=output,
        run_id=running.run_id,
        url=running.tracker.run_url(running.run_id),
        seconds=seconds,
    )
