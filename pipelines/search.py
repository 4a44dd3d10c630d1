"""The main workflow: from one experiment to a registered adapter.

data -> slots load the backbone meanwhile -> Ray Tune runs the trials -> the best one is evaluated
on test data -> registered version -> the gate -> alias, and where to look.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.backbones import inspect_backbone, tokenizer_id
from components.config import ExperimentConfig, config_sha256, resolved, trial_config
from components.errors import WorkFailed
from components.planning import check_feasible, trainings_of
from components.registry import (
    TolerantTracker,
    Tracker,
    code_fingerprint,
    environment,
    open_tracker,
    run_tags,
)
from components.settings import writable_folder
from components.tuning.searchers import check_searcher
from pipelines.describe import (
    describe_data,
    describe_point,
    describe_quantization,
    describe_side_by_side,
)
from pipelines.first_trial import FirstTrial
from pipelines.interruption import one_interruption
from pipelines.live_status import TRIALS, LiveStatus
from pipelines.promote import STATE
from pipelines.reports import SearchReport
from pipelines.run_params import key_params, point_params, search_params, truncation_params
from pipelines.running_search import Search, Trials, TrialsLost, ending_with
from pipelines.search_gate import RegistryAccess, meet_champion
from pipelines.search_note import LiveNote, search_title
from pipelines.search_page import note_best, show, write_note
from pipelines.search_results import finish, register, report
from pipelines.search_views import datasets_of, views_of

if TYPE_CHECKING:
    from components.data import PreparedData
    from components.jobs.summary import TrialSummary
    from components.training.outcomes import FinalEvaluation
    from components.tuning.search_folder import SearchFolder
    from components.tuning.trial_log import TrialLog

Say = Callable[[str], None]
OnTrial = Callable[["TrialSummary"], None]


def search(
    config: ExperimentConfig,
    *,
    tracking_uri: str,
    ray_address: str | None = None,
    resume: bool | str = False,
    say: Say = print,
    on_trial: OnTrial = lambda summary: None,
    state_path: Path = STATE,
    before_change: Callable[[], None] = lambda: None,
    command: str = "",
) -> SearchReport:
    """Run an experiment's search, register its best adapter and let the gate decide about it.

    `resume` continues the unfinished search of this id, or with True the latest one with these
    settings: trials keep their runs and go on from their checkpoints, finished ones are not run
    again. `say` gets one line per stage,
    `on_trial` a TrialSummary whenever a trial changed; `before_change` is called right before a
    version is registered and before an alias is moved, and may raise; `command` is what a person
    types to repeat it, for its page. Raises UserError before
    anything is started where the input is wrong; KeyboardInterrupt leaves a resumable state.
    """
    from components.jobs.cluster import check_cluster_fits, joined_cluster
    from components.jobs.shared_folders import check_shared_folders
    from components.jobs.slots import close_slots
    from components.tuning.search_folder import exclusive, exclusive_experiment
    from pipelines import code_folders

    started = time.monotonic()
    check_searcher(config)
    check_feasible(trainings_of(config), inspect_backbone(config.backbone))
    tracker = open_tracker(config.registry.kind, tracking_uri)
    tracker.check()
    storage = Path(config.cluster.storage_path).resolve()
    with one_interruption(), joined_cluster(ray_address, code=code_folders()):
        check_cluster_fits(config.cluster, slots=config.search.concurrent_slots)
        check_shared_folders(config.cluster)
        with exclusive_experiment(storage, config.name):
            folder = open_folder(config, storage, resume=resume, say=say)
            with exclusive(folder), LiveStatus(config, Path(folder.path)) as live:
                running = open_search(config, tracker, folder, say, live)
                running = replace(running, command=command)
                registry = RegistryAccess(tracking_uri, state_path, before_change)
                found = carry_out(running, registry, on_trial, say, live)
                close_slots(running.slots)
    return replace(found, seconds=time.monotonic() - started)


def carry_out(
    running: Search, registry: RegistryAccess, on_trial: OnTrial, say: Say, live: LiveStatus
) -> SearchReport:
    """The stages of a search whose slots, data and run are there."""

    def changed(summary: "TrialSummary") -> None:
        live.update(summary)
        on_trial(summary)

    with ending_with(running):
        live.phase = TRIALS
        trials = run_trials(running, changed, say)
        live.phase = "evaluating and registering the best"
        note_best(running, trials)
        final = evaluate_best(running, trials.best, say)
        registry.before_change()
        registered = register(running, trials, final, say)
        promotion = meet_champion(running, trials.best, registered, registry, say)
        show(running, trials, final, registered, promotion)
        finish(running, trials, registered)
        return report(running, trials, final, registered, promotion)


def open_folder(
    config: ExperimentConfig, storage: Path, *, resume: bool | str, say: Say
) -> "SearchFolder":
    """The folder of a new search, or of the unfinished one that is continued."""
    from components.tuning.search_folder import new_search, unfinished_search

    sha256, code = config_sha256(config), code_fingerprint()
    storage = writable_folder(storage, "cluster.storage_path")
    if not resume:
        return new_search(storage, config.name, sha256, code_fingerprint=code)
    search_id = resume if isinstance(resume, str) else None
    folder = unfinished_search(storage, config.name, sha256, search_id=search_id)
    say(f"continuing search {folder.search_id} ({folder.state})")
    if folder.code_fingerprint not in ("", code):
        say(
            f"search {folder.search_id} was begun by other code ({folder.code_fingerprint}) than "
            f"this ({code}): what it trained keeps its numbers, what is left may come out "
            "otherwise. To train all of it by one code, leave --resume out."
        )
    return folder


def open_search(
    config: ExperimentConfig, tracker: Tracker, folder: "SearchFolder", say: Say, live: LiveStatus
) -> Search:
    """Slots load torch, DeepSpeed and the backbone while the data are prepared here; then the
    search gets its run. Raises ClusterError where the cluster has no room for the slots.
    """
    from components.jobs.slots import wait_until_placed
    from pipelines.trial_slots import start_trial_slots

    say(
        f"starting {config.search.concurrent_slots} trial slot(s) of "
        f"{config.cluster.num_workers} worker(s){describe_side_by_side(config.search)}; the "
        f"backbone{describe_quantization(config.backbone)} loads meanwhile"
    )
    slots = start_trial_slots(
        config.train_config(),
        config.cluster,
        count=config.search.concurrent_slots,
        storage=Path(folder.path),
        experiment=config.name,
        capacity=config.search.trials_per_slot,
    )
    live.slots = slots
    data = prepare_data(config, say)
    wait_until_placed(slots, config.cluster)
    run_id = start_run(config, tracker, folder, data)
    live.run_url = tracker.run_url(run_id) or run_id
    say(f"search run: {live.run_url}")
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
    tracker.save_views(config.name, views_of(config))
    tags = run_tags(
        config_sha256=config_sha256(config),
        data_fingerprint=data.fingerprint,
        search_id=folder.search_id,
        kind="search",
    )
    # A driver that was killed before it noted its run left one that carries the search's id.
    whose = {"search_id": folder.search_id, "kind": "search"}
    run_id = folder.search_run_id or tracker.find_run(config.name, whose)
    if run_id is None:
        run_id = tracker.start_run(
            config.name,
            run_name=search_title(folder.search_id),
            config=resolved(config),
            params=search_params(config),
            tags=tags,
        )
    else:
        tags |= {"resumed": "true", "code_fingerprint_at_begin": folder.code_fingerprint}
        tracker.resume_run(run_id, tags)
    if folder.search_run_id is None:
        tracker.log_params(run_id, search_params(config))
        tracker.log_dict(run_id, environment(), "environment.json")
        tracker.log_dict(run_id, asdict(data.report), "data.json")
        tracker.log_datasets(run_id, datasets_of(config, data))
    return run_id


def run_trials(running: Search, on_trial: OnTrial, say: Say) -> Trials:
    """Let Tune run all trials. Raises WorkFailed where none gave an adapter, where some were lost
    (TrialsLost), or where the store did not take their records.
    """
    from components.jobs.run_writer import RunWriter
    from components.tuning.run_search import run_trials as run
    from components.tuning.trial_log import RunFacts, TrialLog

    config, context = running.config, running.context()
    tolerant = TolerantTracker(running.tracker)
    live = LiveNote(lambda trials: write_note(running, tolerant, trials, ["Running."]))

    first = FirstTrial(config, say, train_documents=len(running.data.splits["train"]))

    def changed(summary: "TrialSummary") -> None:
        live.update(summary)
        first.update(summary)
        on_trial(summary)

    writer = RunWriter(tolerant, running.run_id, on_change=changed)
    facts = RunFacts(
        tags={
            "data_fingerprint": running.data.fingerprint,
            "search_id": running.folder.search_id,
        },
        params=lambda trial: (
            key_params(trial.config, config.cluster.num_workers)
            | truncation_params(running.data)
            | point_params(trial.point)
        ),
        datasets=datasets_of(config, running.data),
    )
    log = TrialLog(config, writer, facts=facts, identity=context.identity)
    try:
        run(context, log, num_documents=len(running.data.splits["train"]))
    except BaseException:
        writer.interrupt("the search was interrupted")
        write_note(running, tolerant, log.summaries, ["Interrupted: `--resume` continues it."])
        raise
    if not tolerant.flush():
        raise WorkFailed(
            f"All trials have ended, but MLflow did not take {tolerant.waiting} of their "
            "records: nothing is registered. Bring it back first; finished trials are not run "
            "again."
        )
    writer.use_real_ids(tolerant.real_run_id)
    return chosen(config, log)


def chosen(config: ExperimentConfig, log: "TrialLog") -> Trials:
    """The trials and their best. Raises WorkFailed where there is none to be had."""
    lost, best = log.lost(), log.best()
    if lost and not config.search.allow_lost_trials:
        names = ", ".join(summary.name for summary in lost)
        raise TrialsLost(
            f"{len(lost)} of {len(log.summaries)} trials of '{config.name}' were lost with their "
            f"workers ({names}: {lost[0].reason}), so the best of the others may not be the best: "
            "nothing is registered. To take it all the same: --set search.allow_lost_trials=true."
        )
    if best is None:
        outcomes = {summary.outcome for summary in log.summaries}
        reasons = sorted({f"{summary.outcome}: {summary.reason}" for summary in log.summaries})
        raise WorkFailed(
            f"No trial of '{config.name}' gave an adapter. {'; '.join(reasons) or 'no trial ran'}",
            resumable=bool(outcomes & {"failed", "lost"}),
        )
    return Trials(log.summaries, best)


def evaluate_best(running: Search, best: "TrialSummary", say: Say) -> "FinalEvaluation":
    """Let a slot evaluate the best trial's adapter on all validation and test documents and write
    its artifact into the search's folder. Raises WorkFailed where it cannot.
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
        raise WorkFailed(f"The best adapter could not be evaluated. {result.reason}")
    return result.final
