"""The main workflow: from one experiment to a registered adapter.

data -> slots load the backbone meanwhile -> Ray Tune runs the trials -> the best one is evaluated
on test data -> registered version, alias, and where to look.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any

from components.backbones import read_backbone_config, tokenizer_id
from components.config import ExperimentConfig, TrainConfig, config_sha256, resolved, trial_config
from components.planning import check_feasible
from components.registry import (
    TolerantTracker,
    Tracker,
    code_fingerprint,
    code_version,
    environment,
    open_tracker,
    run_tags,
)
from pipelines.reports import SearchReport

Announce = Callable[[str], None]


def search(
    config: ExperimentConfig,
    *,
    tracking_uri: str,
    ray_address: str | None = None,
    resume: bool = False,
    announce: Announce = print,
    on_trial: Callable[[Any], None] | None = None,
) -> SearchReport:
    """Run an experiment's search and register its best adapter.

    `resume` continues the latest unfinished search of this experiment: trials keep their runs and
    go on from their checkpoints, finished ones are not run again. `announce` gets one line per
    stage, `on_trial` a TrialSummary whenever a trial changed. Raises UserError before anything is
    started where the input is wrong; KeyboardInterrupt leaves a resumable state.
    """
    from components.tuning.cluster import joined_cluster

    started = time.monotonic()
    check_feasible(config, read_backbone_config(config.backbone))
    tracker = open_tracker(config.registry.kind, tracking_uri)
    tracker.check()
    with joined_cluster(ray_address):
        return _Search(config, tracker, announce, on_trial).run(resume=resume, started=started)


class _Search:
    """One run of the workflow; its methods are its stages, in order."""

    def __init__(
        self,
        config: ExperimentConfig,
        tracker: Tracker,
        announce: Announce,
        on_trial: Callable[[Any], None] | None,
    ) -> None:
        self.config, self.tracker, self.announce = config, tracker, announce
        self.on_trial = on_trial or (lambda _: None)
        self.storage = Path(config.cluster.storage_path).resolve()
        self.cache = Path(config.cluster.cache_path).resolve()

    def run(self, *, resume: bool, started: float) -> SearchReport:
        from components.tuning.run_search import check_cluster_fits
        from components.tuning.search_folder import driven

        check_cluster_fits(self.config)
        self.folder = self._open_folder(resume)
        with driven(self.folder):
            return self._stages(started)

    def _stages(self, started: float) -> SearchReport:
        from components.tuning.slot import wait_until_placed

        slots = self._start_slots()
        data = self._prepare_data()
        wait_until_placed(slots)
        search_run_id = self._start_run(data)
        try:
            log = self._run_trials(slots, data, search_run_id)
            best = log.best()
            if best is None:
                reason = (
                    "; ".join(sorted({f"{s.outcome}: {s.reason}" for s in log.summaries.values()}))
                    or "no trial ran"
                )
                raise RuntimeError(f"No trial of '{self.config.name}' gave an adapter. {reason}")
            final = self._finalize(best)
            registered = self._register(best, final, search_run_id)
        except KeyboardInterrupt:
            self.folder.ended("interrupted").save()
            TolerantTracker(self.tracker).finish(
                search_run_id,
                "interrupted",
                "interrupted; the same command with --resume continues",
            )
            raise
        except BaseException as error:
            TolerantTracker(self.tracker).finish(
                search_run_id, "failed", str(error) or type(error).__name__
            )
            raise
        self.tracker.finish(
            search_run_id,
            "completed",
            (
                f"{len(log.summaries)} trials; best {best.name}; registered {registered.name} "
                f"version {registered.version}"
            ),
        )
        self.folder.ended("done").save()
        self._close_slots()
        return self._report(
            log, best, final, registered, search_run_id, data, time.monotonic() - started
        )

    def _open_folder(self, resume: bool) -> Any:
        from components.tuning.search_folder import new_search, unfinished_search

        sha256 = config_sha256(self.config)
        return (unfinished_search if resume else new_search)(self.storage, self.config.name, sha256)

    def _start_slots(self) -> tuple[Any, ...]:
        """Slots load torch, DeepSpeed and the backbone while the data are prepared here."""
        from components.tuning.assignments import SlotSettings
        from components.tuning.slot import start_slot

        count = self.config.search.concurrent_slots
        self.announce(
            f"starting {count} trial slot(s) of {self.config.cluster.num_workers} worker(s); the "
            "backbone loads meanwhile"
        )
        settings = SlotSettings(
            config=self.config.train_config(),
            cluster=self.config.cluster,
            cache_path=str(self.cache),
            storage_path=self.folder.path,
            code_version=code_version(),
            code_fingerprint=code_fingerprint(),
        )
        self.slots = tuple(start_slot(settings) for _ in range(count))
        return self.slots

    def _prepare_data(self) -> Any:
        from components.backbones import load_tokenizer
        from components.tasks import prepare

        self.announce("preparing data")
        backbone = self.config.backbone
        data = prepare(
            self.config.data,
            load_tokenizer(backbone),
            tokenizer_id=tokenizer_id(backbone),
            cache_path=self.cache,
        )
        self.announce(describe_data(data))
        return data

    def _start_run(self, data: Any) -> str:
        self.tracker.ensure_experiment(self.config.name, self.config.description)
        tags = run_tags(
            config_sha256=config_sha256(self.config),
            data_fingerprint=data.fingerprint,
            search_id=self.folder.search_id,
        )
        if self.folder.search_run_id is not None:
            run_id = str(self.folder.search_run_id)
            self.tracker.resume_search(run_id, tags | {"resumed": "true"})
        else:
            run_id = self.tracker.start_search(
                self.config.name,
                run_name=f"search-{self.folder.search_id}",
                config=resolved(self.config),
                params=search_params(self.config),
                tags=tags,
            )
            self.tracker.log_dict(run_id, environment(), "environment.json")
            self.tracker.log_dict(run_id, asdict(data.report), "data.json")
        self.folder = self.folder.with_run(run_id)
        self.folder.save()
        self.announce(f"search run: {self.tracker.run_url(run_id) or run_id}")
        return run_id

    def _run_trials(self, slots: tuple[Any, ...], data: Any, search_run_id: str) -> Any:
        from components.tuning.run_search import run_trials
        from components.tuning.trial_log import TrialLog
        from components.tuning.tune_trial import SearchContext

        self.context = SearchContext(
            config=self.config,
            slots=slots,
            data_folder=str(data.folder),
            data_fingerprint=data.fingerprint,
            code_fingerprint=code_fingerprint(),
            folder=self.folder.path,
        )
        tolerant = TolerantTracker(self.tracker)
        log = TrialLog(
            self.config,
            search_run_id=search_run_id,
            search_folder=self.folder.path,
            tracker=tolerant,
            tags={"data_fingerprint": data.fingerprint, "search_id": self.folder.search_id},
            params=lambda trial: (
                key_params(trial, self.config.cluster.num_workers) | truncation_params(data)
            ),
            listener=self.on_trial,
        )
        try:
            run_trials(self.context, log, num_documents=len(data.splits["train"]))
        except BaseException:
            log.interrupt()
            raise
        if not tolerant.flush():
            raise RuntimeError(
                f"All trials have ended, but MLflow did not take {tolerant.waiting} of their "
                "records: nothing is registered. "
                "Bring it back and run the same command with --resume; finished trials are not run "
                "again."
            )
        log.settle(tolerant.real_run_id)
        return log

    def _finalize(self, best: Any) -> dict[str, Any]:
        from components.tuning.run_search import finalize_best

        self.announce(
            f"evaluating the best adapter ({best.name}: {describe_point(best.point)}) on all "
            "validation and test documents"
        )
        return finalize_best(
            self.context,
            Path(best.folder),
            trial_config(self.config, best.point),
            Path(self.folder.path) / "adapter",
        )

    def _register(self, best: Any, final: dict[str, Any], search_run_id: str) -> Any:
        metrics = {
            name: value
            for name, value in final["metrics"].items()
            if name.startswith(("test", "validation/"))
        }
        point = trial_config(self.config, best.point)
        params = {
            "method": point.adapter.method,
            "prefix_length": point.adapter.prefix_length,
            "learning_rate": point.optimizer.learning_rate,
            "trainable_parameters": final["trainable_parameters"],
            "backbone": self.config.backbone.name_or_path,
            "max_tokens": self.config.data.max_tokens,
        }
        self.tracker.log_metrics(best.run_id, metrics, step=best.step)
        self.tracker.log_metrics(search_run_id, metrics, step=best.step)
        self.tracker.set_tags(search_run_id, {"best_trial": best.name, "best_run_id": best.run_id})
        self._log_figures(best, final)
        from components.inference.package import adapter_package

        folder = Path(final["folder"])
        registered = self.tracker.register_adapter(
            best.run_id,
            adapter_folder=folder,
            package=adapter_package(folder),
            model_name=self.config.model_name,
            metrics=metrics,
            params=params,
            description=self.config.description,
            tags=run_tags(config_sha256=best.config_sha256, search_id=self.folder.search_id),
        )
        self.announce(
            f"registered {registered.name} version {registered.version} as {registered.alias}"
        )
        return registered

    def _log_figures(self, best: Any, final: dict[str, Any]) -> None:
        from components.evaluation import (
            LengthBucket,
            ReliabilityDiagram,
            plot_by_length,
            plot_reliability,
        )

        title = f"{self.config.name}: test answers, calibrated"
        if final["reliability"] is not None:
            self.tracker.log_figure(
                best.run_id,
                plot_reliability(ReliabilityDiagram(**final["reliability"]), title=title),
                "reliability.png",
            )
        if not final["by_length"]:
            return
        buckets = [LengthBucket(**values) for values in final["by_length"]]
        self.tracker.log_figure(best.run_id, plot_by_length(buckets, title=title), "by_length.png")
        self.tracker.log_dict(
            best.run_id, {"by_length": list(final["by_length"])}, "by_length.json"
        )

    def _close_slots(self) -> None:
        from components.tuning.slot import close_slots

        close_slots(self.slots)

    def _report(
        self,
        log: Any,
        best: Any,
        final: dict[str, Any],
        registered: Any,
        search_run_id: str,
        data: Any,
        seconds: float,
    ) -> SearchReport:
        tracker = self.tracker
        return SearchReport(
            experiment=self.config.name,
            search_id=self.folder.search_id,
            search_run_id=search_run_id,
            metric=self.config.training.metric,
            mode=self.config.training.mode,
            trials=tuple(asdict(summary) for summary in log.summaries.values()),
            best_trial=best.name,
            metrics=final["metrics"],
            calibration=final["calibration"],
            by_length=tuple(final["by_length"]),
            trainable_parameters=final["trainable_parameters"],
            data_fingerprint=data.fingerprint,
            model_name=registered.name,
            model_version=registered.version,
            model_alias=registered.alias,
            model_uri=registered.model_uri,
            adapter_folder=final["folder"],
            urls={
                "search": tracker.run_url(search_run_id),
                "trials, best first": tracker.trials_url(
                    search_run_id,
                    metric=self.config.training.metric,
                    mode=self.config.training.mode,
                ),
                "best trial": tracker.run_url(best.run_id),
                "registered adapter": tracker.model_url(registered.name, registered.version),
                "experiment": tracker.experiment_url(self.config.name),
            },
            seconds=seconds,
        )


KEY_PARAMS = {
    "backbone": "backbone.name_or_path",
    "method": "adapter.method",
    "adapter.prefix_length": "adapter.prefix_length",
    "optimizer.learning_rate": "optimizer.learning_rate",
    "pooling": "head.pooling",
    "max_tokens": "data.max_tokens",
    "epochs": "training.epochs",
    "precision": "training.precision",
    "zero_stage": "zero.stage",
    "seed": "seed",
}
"""What people filter and compare runs by, and the config path it is the value of."""
BATCH_SIZE_PATHS = {"training.micro_batch_size", "training.gradient_accumulation_steps"}


def key_params(config: TrainConfig, num_workers: int) -> dict[str, Any]:
    """The settings that people filter and compare runs by; copied to every trial because MLflow's
    children do not inherit them.
    """
    values = {name: attrgetter(path)(config) for name, path in KEY_PARAMS.items()}
    return values | {
        "train_batch_size": config.training.batch_size(num_workers),
        "num_workers": num_workers,
    }


def search_params(config: ExperimentConfig) -> dict[str, Any]:
    """For the search's own run: what is searched stands in place of the value that only its trials
    have.
    """
    searched = {
        path: json.dumps(domain.model_dump(mode="json"))
        for path, domain in config.search.space.items()
    }
    params = {
        name: value
        for name, value in key_params(config, config.cluster.num_workers).items()
        if KEY_PARAMS.get(name) not in searched
        and not (name == "train_batch_size" and BATCH_SIZE_PATHS & set(searched))
    }
    return params | searched


def describe_data(data: Any) -> str:
    """The prepared documents in one line."""
    report, train = data.report, data.report.splits["train"]
    sizes = " + ".join(f"{part.documents:,} {name}" for name, part in report.splits.items())
    dropped = f", {sum(report.dropped.values()):,} rows dropped" if report.dropped else ""
    classes = f"{len(data.labels)} classes" if data.labels else "no classes"
    found = "found ready in the cache" if report.cached else f"tokenised in {report.seconds:.1f} s"
    return (
        f"data: {sizes} documents, {classes}, median {train.median_tokens:,} tokens, "
        f"{train.truncated:,} training documents cut at the limit"
        f" ({train.share_of_tokens_cut:.0%} of their tokens){dropped}; {found}"
    )


def truncation_params(data: Any) -> dict[str, Any]:
    train = data.report.splits["train"]
    return {"train_documents": train.documents, "train_truncated_documents": train.truncated}


def describe_point(point: Mapping[str, Any]) -> str:
    """A point of the space in one short line."""
    return ", ".join(
        f"{path.rpartition('.')[2]}={value:.4g}"
        if isinstance(value, float)
        else f"{path.rpartition('.')[2]}={value}"
        for path, value in point.items()
    )
