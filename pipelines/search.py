"""The main workflow: from one experiment to a registered adapter.

data -> slots load the backbone meanwhile -> Ray Tune runs the trials -> the best one is evaluated
on test data -> registered version, alias, and where to look.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.backbones import inspect_backbone, tokenizer_id
from components.config import ExperimentConfig, config_sha256, resolved, trial_config
from components.planning import check_feasible, trainings_of
from components.registry import (
    RegisteredAdapter,
    TolerantTracker,
    Tracker,
    code_fingerprint,
    environment,
    open_tracker,
    run_tags,
)
from components.settings import writable_folder
from components.tuning.searchers import check_searcher
from pipelines.describe import describe_data, describe_point
from pipelines.reports import SearchReport
from pipelines.run_params import key_params, search_params, truncation_params

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from components.data import PreparedData
    from components.jobs.summary import TrialSummary
    from components.training.outcomes import FinalEvaluation
    from components.tuning.search_folder import SearchFolder
    from components.tuning.tune_trial import SearchContext

Say = Callable[[str], None]
OnTrial = Callable[["TrialSummary"], None]


@dataclass(frozen=True)
class Trials:
    """The trials of a search that has ended, and the best of them."""

    summaries: "tuple[TrialSummary, ...]"
    best: "TrialSummary"


@dataclass(frozen=True)
class Search:
    """A search whose slots, data and run are there."""

    config: ExperimentConfig
    tracker: Tracker
    folder: "SearchFolder"
    run_id: str
    data: "PreparedData"
    slots: "tuple[ActorHandle, ...]"

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


def search(
    config: ExperimentConfig,
    *,
    tracking_uri: str,
    ray_address: str | None = None,
    resume: bool = False,
    say: Say = print,
    on_trial: OnTrial = lambda summary: None,
) -> SearchReport:
    """Run an experiment's search and register its best adapter.

    `resume` continues the latest unfinished search of this experiment: trials keep their runs and
    go on from their checkpoints, finished ones are not run again. `say` gets one line per stage,
    `on_trial` a TrialSummary whenever a trial changed. Raises UserError before anything is started
    where the input is wrong; KeyboardInterrupt leaves a resumable state.
    """
    from components.jobs.cluster import check_cluster_fits, joined_cluster
    from components.jobs.slots import close_slots
    from components.tuning.search_folder import exclusive
    from pipelines import code_folders

    started = time.monotonic()
    check_searcher(config)
    check_feasible(trainings_of(config), inspect_backbone(config.backbone))
    tracker = open_tracker(config.registry.kind, tracking_uri)
    tracker.check()
    with joined_cluster(ray_address, code=code_folders()):
        check_cluster_fits(config.cluster, slots=config.search.concurrent_slots)
        folder = open_folder(config, resume=resume)
        with exclusive(folder):
            running = open_search(config, tracker, folder, say)
            with ending_with(running):
                trials = run_trials(running, on_trial)
                final = evaluate_best(running, trials.best, say)
                registered = register(running, trials.best, final, say)
            finish(running, trials, registered)
            close_slots(running.slots)
            seconds = time.monotonic() - started
            return report(running, trials, final, registered, seconds=seconds)


def open_folder(config: ExperimentConfig, *, resume: bool) -> "SearchFolder":
    """The folder of a new search, or of the unfinished one that is continued."""
    from components.tuning.search_folder import new_search, unfinished_search

    storage = writable_folder(Path(config.cluster.storage_path).resolve(), "cluster.storage_path")
    return (unfinished_search if resume else new_search)(
        storage, config.name, config_sha256(config)
    )


def open_search(
    config: ExperimentConfig, tracker: Tracker, folder: "SearchFolder", say: Say
) -> Search:
    """Slots load torch, DeepSpeed and the backbone while the data are prepared here; then the
    search gets its run. Raises ClusterError where the cluster has no room for the slots.
    """
    from components.jobs.slots import wait_until_placed
    from pipelines.trial_slots import start_trial_slots

    say(
        f"starting {config.search.concurrent_slots} trial slot(s) of "
        f"{config.cluster.num_workers} worker(s); the backbone loads meanwhile"
    )
    slots = start_trial_slots(
        config.train_config(),
        config.cluster,
        count=config.search.concurrent_slots,
        storage=Path(folder.path),
    )
    data = prepare_data(config, say)
    wait_until_placed(slots)
    run_id = start_run(config, tracker, folder, data)
    say(f"search run: {tracker.run_url(run_id) or run_id}")
    with_run = folder.with_run(run_id)
    with_run.save()
    return Search(config, tracker, with_run, run_id, data, slots)


def prepare_data(config: ExperimentConfig, say: Say) -> "PreparedData":
    """The documents, tokenised now where they are not in the cache."""
    from components.backbones import load_tokenizer
    from components.tasks import prepare

    say("preparing data")
    data = prepare(
        config.data,
        load_tokenizer(config.backbone),
        tokenizer_id=tokenizer_id(config.backbone),
        cache_path=Path(config.cluster.cache_path).resolve(),
    )
    say(describe_data(data))
    return data


def start_run(
    config: ExperimentConfig, tracker: Tracker, folder: "SearchFolder", data: "PreparedData"
) -> str:
    """The search's run, a new one or that of the search which is continued."""
    tracker.ensure_experiment(config.name, config.description)
    tags = run_tags(
        config_sha256=config_sha256(config),
        data_fingerprint=data.fingerprint,
        search_id=folder.search_id,
        kind="search",
    )
    if folder.search_run_id is not None:
        tracker.resume_run(folder.search_run_id, tags | {"resumed": "true"})
        return folder.search_run_id
    run_id = tracker.start_run(
        config.name,
        run_name=f"search-{folder.search_id}",
        config=resolved(config),
        params=search_params(config),
        tags=tags,
    )
    tracker.log_dict(run_id, environment(), "environment.json")
    tracker.log_dict(run_id, asdict(data.report), "data.json")
    return run_id


@contextmanager
def ending_with(running: Search) -> Iterator[None]:
    """Whatever ends the search early stands in its run; an interruption leaves it resumable."""
    log = TolerantTracker(running.tracker)
    try:
        yield
    except KeyboardInterrupt:
        running.folder.ended("interrupted").save()
        reason = "interrupted; the same command with --resume continues"
        log.finish(running.run_id, "interrupted", reason)
        raise
    except BaseException as error:
        log.finish(running.run_id, "failed", str(error) or type(error).__name__)
        raise


def run_trials(running: Search, on_trial: OnTrial) -> Trials:
    """Let Tune run all trials. Raises RuntimeError where none gave an adapter, or the store did not
    take their records.
    """
    from components.jobs.run_writer import RunWriter
    from components.tuning.run_search import run_trials as run
    from components.tuning.trial_log import RunFacts, TrialLog

    config, context = running.config, running.context()
    tolerant = TolerantTracker(running.tracker)
    writer = RunWriter(tolerant, running.run_id, on_change=on_trial)
    facts = RunFacts(
        tags={
            "data_fingerprint": running.data.fingerprint,
            "search_id": running.folder.search_id,
        },
        params=lambda training: (
            key_params(training, config.cluster.num_workers) | truncation_params(running.data)
        ),
    )
    log = TrialLog(config, writer, facts=facts, identity=context.identity)
    try:
        run(context, log, num_documents=len(running.data.splits["train"]))
    except BaseException:
        writer.interrupt("the search was interrupted")
        raise
    if not tolerant.flush():
        raise RuntimeError(
            f"All trials have ended, but MLflow did not take {tolerant.waiting} of their "
            "records: nothing is registered. Bring it back and run the same command with "
            "--resume; finished trials are not run again."
        )
    writer.use_real_ids(tolerant.real_run_id)
    best = log.best()
    if best is None:
        reasons = sorted({f"{summary.outcome}: {summary.reason}" for summary in log.summaries})
        raise RuntimeError(
            f"No trial of '{config.name}' gave an adapter. {'; '.join(reasons) or 'no trial ran'}"
        )
    return Trials(log.summaries, best)


def evaluate_best(running: Search, best: "TrialSummary", say: Say) -> "FinalEvaluation":
    """Let a slot evaluate the best trial's adapter on all validation and test documents and write
    its artifact into the search's folder. Raises RuntimeError where it cannot.
    """
    from components.jobs.job import Job
    from components.jobs.run_jobs import run_one

    say(
        f"evaluating the best adapter ({best.name}: {describe_point(best.point)}) on all "
        "validation and test documents"
    )
    job = Job(
        id=f"best-{best.config_sha256}",
        config=trial_config(running.config, best.point),
        data_folder=running.data.folder,
        folder=Path(best.folder),
        train=False,
        evaluate=True,
        artifact_folder=running.path / "adapter",
    )
    workers = running.context().workers()
    result = run_one(workers, job, max_failures=running.config.search.max_failures)
    if result.final is None:
        raise RuntimeError(result.reason)
    return result.final


def register(
    running: Search, best: "TrialSummary", final: "FinalEvaluation", say: Say
) -> RegisteredAdapter:
    """Register the artifact as a new version, its metrics and figures beside it."""
    from components.inference.package import adapter_package

    config, tracker = running.config, running.tracker
    metrics = {
        name: value
        for name, value in final.metrics.items()
        if name.startswith(("test", "validation/"))
    }
    point = trial_config(config, best.point)
    params = {
        "method": point.adapter.method,
        "prefix_length": point.adapter.prefix_length,
        "learning_rate": point.optimizer.learning_rate,
        "trainable_parameters": final.trainable_parameters,
        "backbone": config.backbone.name_or_path,
        "max_tokens": config.data.max_tokens,
    }
    for run_id in (best.run_id, running.run_id):
        tracker.log_metrics(run_id, metrics, step=best.step)
    tracker.set_tags(running.run_id, {"best_trial": best.name, "best_run_id": best.run_id})
    log_figures(running, best, final)
    registered = tracker.register_adapter(
        best.run_id,
        adapter_folder=final.folder,
        package=adapter_package(final.folder),
        model_name=config.model_name,
        metrics=metrics,
        params=params,
        description=config.description,
        tags=run_tags(config_sha256=best.config_sha256, search_id=running.folder.search_id),
    )
    say(f"registered {registered.name} version {registered.version} as {registered.alias}")
    return registered


def log_figures(running: Search, best: "TrialSummary", final: "FinalEvaluation") -> None:
    """How honest the best adapter's answers are, overall and by length."""
    from components.evaluation import plot_by_length, plot_reliability

    tracker, title = running.tracker, f"{running.config.name}: test answers, calibrated"
    if final.reliability is not None:
        figure = plot_reliability(final.reliability, title=title)
        tracker.log_figure(best.run_id, figure, "reliability.png")
    if not final.by_length:
        return
    figure = plot_by_length(list(final.by_length), title=title)
    tracker.log_figure(best.run_id, figure, "by_length.png")
    buckets = [asdict(bucket) for bucket in final.by_length]
    tracker.log_dict(best.run_id, {"by_length": buckets}, "by_length.json")


def finish(running: Search, trials: Trials, registered: RegisteredAdapter) -> None:
    """End the search's run and folder."""
    running.tracker.finish(
        running.run_id,
        "completed",
        (
            f"{len(trials.summaries)} trials; best {trials.best.name}; registered "
            f"{registered.name} version {registered.version}"
        ),
    )
    running.folder.ended("done").save()


def report(
    running: Search,
    trials: Trials,
    final: "FinalEvaluation",
    registered: RegisteredAdapter,
    *,
    seconds: float,
) -> SearchReport:
    """What the workflow returns."""
    config, tracker, best = running.config, running.tracker, trials.best
    metric, mode = config.training.metric, config.training.mode
    return SearchReport(
        experiment=config.name,
        search_id=running.folder.search_id,
        search_run_id=running.run_id,
        metric=metric,
        mode=mode,
        trials=tuple(asdict(summary) for summary in trials.summaries),
        best_trial=best.name,
        metrics=final.metrics,
        calibration=final.calibration,
        by_length=tuple(asdict(bucket) for bucket in final.by_length),
        trainable_parameters=final.trainable_parameters,
        data_fingerprint=running.data.fingerprint,
        model_name=registered.name,
        model_version=registered.version,
        model_alias=registered.alias,
        model_uri=registered.model_uri,
        adapter_folder=str(final.folder),
        urls={
            "search": tracker.run_url(running.run_id),
            "trials, best first": tracker.trials_url(running.run_id, metric=metric, mode=mode),
            "best trial": tracker.run_url(best.run_id),
            "registered adapter": tracker.model_url(registered.name, registered.version),
            "experiment": tracker.experiment_url(config.name),
        },
        seconds=seconds,
    )
