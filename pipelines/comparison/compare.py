"""Compare methods: each gets a search of the same size on every task, then several seeds at its
best point, measured on the same test documents.

data -> slots load the backbone -> searches and seeds, cell by cell -> intervals, paired tests,
figures -> one run that holds them. The same command again goes on where it stopped.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from components.backbones import read_backbone_config, tokenizer_id
from components.config import TrainConfig, config_sha256, resolved
from components.config.comparison import ComparisonConfig
from components.errors import DataError
from components.planning import check_feasible
from components.registry import (
    Outcome,
    TolerantTracker,
    Tracker,
    code_fingerprint,
    code_version,
    environment,
    open_tracker,
    run_tags,
)
from pipelines.comparison.cells import Cell, CellRecord
from pipelines.comparison.schedule import Schedule
from pipelines.reports import CompareReport
from pipelines.search import describe_data, describe_point

Announce = Callable[[str], None]
OUTCOMES: dict[str, Outcome] = {
    "completed": "completed",
    "diverged": "diverged",
    "failed": "failed",
}


def compare(
    config: ComparisonConfig,
    *,
    output: Path,
    tracking_uri: str,
    ray_address: str | None = None,
    announce: Announce = print,
) -> CompareReport:
    """Run what is left of a comparison and write its tables and figures into `output` and into one
    run.

    Cells that diverged or failed are shown as such and stop no other; a failed one is tried again
    by the next call. Raises UserError before anything is started where the input is wrong;
    KeyboardInterrupt leaves a state that the same call continues.
    """
    started = time.monotonic()
    check_comparison_feasible(config)
    tracker = open_tracker(config.registry.kind, tracking_uri)
    tracker.check()
    return _Compare(config, tracker, announce).run(ray_address, output=output, started=started)


def check_comparison_feasible(config: ComparisonConfig) -> None:
    """Check every point of every method against the backbone's shape. Raises ConfigError."""
    for task, method, point in config.points():
        experiment = config.experiment(task, method, point=point)
        check_feasible(experiment, read_backbone_config(experiment.backbone))


def prepare_tasks(config: ComparisonConfig, announce: Announce) -> dict[str, Any]:
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
        announce(f"{task}: {describe_data(prepared[task])}")
    return prepared


def first_config(config: ComparisonConfig, task: str) -> TrainConfig:
    """A training of the task; backbone and data are the same in all of them."""
    name, method = next(iter(config.methods.items()))
    return config.train_config(
        task, name, point=method.points[0], seed=config.seeds[0], searching=False
    )


class _Compare:
    """One run of the workflow; its methods are its stages, in order."""

    def __init__(self, config: ComparisonConfig, tracker: Tracker, announce: Announce) -> None:
        self.config, self.tracker, self.announce = config, tracker, announce
        self.log = TolerantTracker(tracker)
        self.root = Path(config.cluster.storage_path).resolve() / config.name
        self.cell_runs: dict[str, str] = {}
        self.ran = 0

    def run(self, ray_address: str | None, *, output: Path, started: float) -> CompareReport:
        data = prepare_tasks(self.config, self.announce)
        self.schedule = Schedule(self.config, data, self.root)
        self.run_id = self._start_run(data)
        done, size = self.schedule.counts()
        self.announce(
            f"{done} of {size} cells are done already; run: "
            f"{self.tracker.run_url(self.run_id) or self.run_id}"
        )
        try:
            if done < size:
                self._run_cells(ray_address)
            self._warn_of_other_code()
            return self._report(data, output, seconds=time.monotonic() - started)
        except KeyboardInterrupt:
            self.log.finish(self.run_id, "interrupted", "interrupted; the same command continues")
            raise
        except BaseException as error:
            self.log.finish(self.run_id, "failed", f"{type(error).__name__}: {error}")
            raise

    def _warn_of_other_code(self) -> None:
        others = sum(
            record.code_fingerprint != code_fingerprint()
            for record in self.schedule.records.values()
        )
        if others:
            self.announce(
                f"{others} of {len(self.schedule.records)} cells were trained by other code than "
                "the present one (code_fingerprint in cell.json). "
                f"To train them again, remove '{self.root / 'cells'}' or their folders in it."
            )

    def _start_run(self, data: Mapping[str, Any]) -> str:
        """The unfinished run of the same comparison on the same documents, else a new one."""
        config = self.config
        self.tracker.ensure_experiment(config.name, config.description)
        fingerprint = "-".join(prepared.fingerprint[:12] for prepared in data.values())
        identity = {
            "kind": "comparison",
            "config_sha256": config_sha256(config),
            "data_fingerprint": fingerprint,
        }
        found = self.tracker.find_run(config.name, identity)
        if found is not None and self.tracker.run_tags(found).get("outcome") != "completed":
            self.tracker.resume_search(found, {"resumed": "true"})
            return found
        first = first_config(config, next(iter(config.tasks)))
        params = {
            "backbone": first.backbone.name_or_path,
            "tasks": list(config.tasks),
            "methods": list(config.methods),
            "search_points": config.search.points,
            "seeds": list(config.seeds),
        }
        tags = run_tags(config_sha256=identity["config_sha256"]) | identity
        run_id = self.tracker.start_search(
            config.name,
            run_name=f"compare-{time.strftime('%Y%m%d-%H%M%S')}",
            config=resolved(config),
            params=params,
            tags=tags,
        )
        self.tracker.log_dict(run_id, environment(), "environment.json")
        self.tracker.log_dict(
            run_id, {task: asdict(prepared.report) for task, prepared in data.items()}, "data.json"
        )
        return run_id

    def _run_cells(self, ray_address: str | None) -> None:
        from components.tuning.cluster import joined_cluster
        from components.tuning.run_jobs import Job, JobResult, run_jobs
        from components.tuning.run_search import check_cluster_fits
        from components.tuning.slot import close_slots, wait_until_placed

        working: dict[str, Cell] = {}

        def next_job() -> Job | None:
            cell = self.schedule.next_cell()
            if cell is None:
                return None
            record = self.schedule.records.get(cell.key)
            working[cell.key] = cell
            return Job(
                name=cell.key,
                config=cell.config,
                data_folder=cell.data_folder,
                folder=cell.folder(self.root),
                train=record is None or record.outcome != "completed",
                finalize=cell.final,
            )

        def on_report(job: Job, report: Mapping[str, Any]) -> None:
            self.log.log_metrics(
                self._cell_run(working[job.name]), report["metrics"], step=int(report["step"])
            )

        def on_result(result: JobResult) -> None:
            self._ended(working[result.job.name], result)

        with joined_cluster(ray_address):
            check_cluster_fits(self._any_experiment())
            slots = self._start_slots()
            wait_until_placed(slots)
            run_jobs(
                slots,
                next_job,
                on_result=on_result,
                on_report=on_report,
                max_failures=self.config.max_failures,
            )
            close_slots(slots)

    def _start_slots(self) -> tuple[Any, ...]:
        from components.tuning.assignments import SlotSettings
        from components.tuning.slot import start_slot

        count = self.config.concurrent_slots
        self.announce(
            f"starting {count} trial slot(s) of {self.config.cluster.num_workers} worker(s), which "
            "load the backbone once"
        )
        settings = SlotSettings(
            config=first_config(self.config, next(iter(self.config.tasks))),
            cluster=self.config.cluster,
            cache_path=str(Path(self.config.cluster.cache_path).resolve()),
            storage_path=str(self.root),
            code_version=code_version(),
            code_fingerprint=code_fingerprint(),
        )
        return tuple(start_slot(settings) for _ in range(count))

    def _any_experiment(self) -> Any:
        task, method, point = next(iter(self.config.points()))
        return self.config.experiment(task, method, point=point)

    def _cell_run(self, cell: Cell) -> str:
        """The cell's own run below the comparison's; the same one again after an interruption."""
        params = {"task": cell.task, "method": cell.method, "seed": cell.seed} | dict(cell.point)
        if cell.key not in self.cell_runs:
            # A tag and no param: a search training that is evaluated later becomes a final one, and
            # MLflow keeps a param's first value.
            part = {"comparison_part": "seeds" if cell.final else "search"}
            tags = (
                run_tags(
                    config_sha256=config_sha256(cell.config), data_fingerprint=cell.data_fingerprint
                )
                | part
            )
            name = f"{cell.task}-{cell.method}-{cell.key[:8]}"
            self.cell_runs[cell.key] = self.log.start_trial(
                self.run_id, trial_name=name, params=params, tags=tags
            )
        return self.cell_runs[cell.key]

    def _ended(self, cell: Cell, result: Any) -> None:
        record = cell_record(result, self.schedule.records.get(cell.key))
        run_id = self._cell_run(cell)
        if record.final is not None:
            self.log.log_metrics(run_id, record.final["metrics"], step=record.steps)
        self.log.finish(run_id, OUTCOMES[record.outcome], record.reason)
        self.schedule.ended(cell, record)
        self.ran += 1
        done, size = self.schedule.counts()
        self.announce(f"[{done}/{size}] {cell.name}: {describe_record(cell, record)}")
        chosen = self.schedule.chosen(cell.task, cell.method)
        if not cell.final and chosen is not None:
            self.announce(
                f"{cell.task}, {cell.method}: chosen on validation documents: "
                f"{describe_point(chosen)}"
            )

    def _report(self, data: Mapping[str, Any], output: Path, *, seconds: float) -> CompareReport:
        from pipelines.comparison.report import collect, write_results

        self.announce("computing intervals and paired tests")
        comparison = collect(self.schedule, data)
        failed = tuple(
            f"{row.task}, {row.method}: {row.problem}" for row in comparison.rows if row.problem
        )
        facts = environment() | {
            "seconds_of_this_call": seconds,
            "cells_of_this_call": self.ran,
            "code_fingerprints": sorted(
                {record.code_fingerprint for record in self.schedule.records.values()}
            ),
            "training_seconds_of_all_cells": sum(
                record.seconds for record in self.schedule.records.values()
            ),
            "run_id": self.run_id,
            "data_fingerprints": {task: prepared.fingerprint for task, prepared in data.items()},
            "missing": failed,
        }
        write_results(comparison, self.config, output, facts=facts)
        means = {
            f"{row.task}/{row.method}/{name}": interval.mean
            for row in comparison.rows
            for name, interval in row.scores.items()
        }
        self.tracker.log_metrics(self.run_id, means, step=0)
        self.tracker.log_folder(self.run_id, output, "comparison")
        self.tracker.finish(
            self.run_id,
            "failed" if failed else "completed",
            "; ".join(failed) or f"{len(self.schedule.records)} cells",
        )
        return CompareReport(
            comparison=self.config.name,
            rows=comparison.rows,
            pairs=comparison.pairs,
            missing=failed,
            cells=self.schedule.counts()[1],
            cells_run=self.ran,
            output=output,
            run_id=self.run_id,
            url=self.tracker.run_url(self.run_id),
            seconds=seconds,
        )


def cell_record(result: Any, before: CellRecord | None) -> CellRecord:
    """What is kept of a job's result. `before`: the record of a training that was only evaluated
    now.
    """
    if result.trained is None:
        kept = before or CellRecord("failed", result.reason)
        return replace(kept, outcome=result.outcome, reason=result.reason, final=result.finalized)
    progress = result.trained["progress"]
    return CellRecord(
        outcome=result.outcome,
        reason=result.reason,
        best_metrics=progress["best_metrics"],
        history=tuple(progress["history"]),
        steps=progress["step"],
        tokens=progress["tokens"],
        seconds=progress["seconds"],
        tokens_per_second=progress["tokens"] / progress["seconds"] if progress["seconds"] else 0.0,
        trainable_parameters=result.trained["trainable_parameters"],
        peak_memory_bytes=result.trained["peak_memory_bytes"],
        code_fingerprint=code_fingerprint(),
        final=result.finalized,
    )


def describe_record(cell: Cell, record: CellRecord) -> str:
    """One line about a cell that ended."""
    if record.outcome != "completed":
        return f"{record.outcome}, {record.reason}"
    metric = cell.config.training.metric
    shown = {metric: record.best_metrics[metric]}
    if record.final is not None:
        shown |= {name: record.final["metrics"][name] for name in ("test/accuracy", "test/ece")}
    return (
        ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
        + f" ({record.seconds:.0f} s, {record.tokens_per_second:,.0f} tokens/s)"
    )
