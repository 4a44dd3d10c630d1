"""What comes of a search: its best adapter as a registered version, figures, and the report."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from components.config import resolved
from components.jobs.run_metrics import final_numbers
from components.jobs.run_names import trial_name
from components.jobs.run_writer import FINAL_FILE
from components.registry import CHAMPION, Measured, RegisteredAdapter
from pipelines.contest import GATE_RULES
from pipelines.reports import PromotionReport, SearchReport
from pipelines.running_search import Search, Trials
from pipelines.search_note import search_title
from pipelines.search_page import trials_url
from pipelines.search_views import datasets_of
from pipelines.version_card import facts_of, headline_of, params_of, version_card

if TYPE_CHECKING:
    from components.jobs.summary import TrialSummary
    from components.training.outcomes import FinalEvaluation

Say = Callable[[str], None]


def register(
    running: Search, trials: Trials, final: "FinalEvaluation", say: Say
) -> RegisteredAdapter:
    """Register the artifact as a version, its metrics and figures beside it: the same one where
    this search registered it already.
    """
    from components.inference.package import adapter_package

    config, tracker, best = running.config, running.tracker, trials.best
    shown = final_numbers(final.metrics, task=config.data.task)
    if trials.lost:
        tracker.set_tags(running.run_id, lost_tags(trials))
    if config.gate is not None:
        tracker.log_dict(best.run_id, resolved(config.gate), GATE_RULES)
    tracker.log_dict(best.run_id, dict(final.metrics), FINAL_FILE)
    log_figures(running, best, final)
    title = f"{search_title(running.folder.search_id)}, {trial_name(best.name, best.point)}"
    registered = tracker.register_adapter(
        best.run_id,
        adapter_folder=final.folder,
        package=adapter_package(final.folder),
        model_name=config.model_name,
        metrics=shown,
        params=params_of(running, best, final),
        headline=headline_of(running, best, final),
        description=version_card(running, best, final),
        tags=facts_of(running, best) | lost_tags(trials),
        title=f"{config.name} {title}",
        measured=Measured(running.run_id, dataset=datasets_of(config, running.data)[-1]),
    )
    say(
        f"registered {registered.name} version {registered.version} as {registered.alias}: the "
        f"best of {len(trials.summaries)} trials{told_lost(trials)}"
    )
    return registered


def told_lost(trials: Trials) -> str:
    """The same for a line of text."""
    return f", {len(trials.lost)} of them lost with their workers" if trials.lost else ""


def lost_tags(trials: Trials) -> dict[str, str]:
    """What tells of trials that were lost, wherever the search or its adapter is shown."""
    lost = trials.lost
    return {"lost_trials": f"{len(lost)} of {len(trials.summaries)}"} if lost else {}


def log_figures(running: Search, best: "TrialSummary", final: "FinalEvaluation") -> None:
    """How honest the best adapter's answers are, overall and by length."""
    from components.evaluation import plot_by_length, plot_reliability

    tracker, title = running.tracker, f"{running.config.name}: test answers"
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
            f"{len(trials.summaries)} trials{told_lost(trials)}; best {trials.best.name}; "
            f"registered {registered.name} version {registered.version}"
        ),
    )
    running.folder.ended("done").save()


def report(
    running: Search,
    trials: Trials,
    final: "FinalEvaluation",
    registered: RegisteredAdapter,
    promotion: PromotionReport | None,
) -> SearchReport:
    """What the workflow returns, its time apart."""
    config, tracker, best = running.config, running.tracker, trials.best
    metric, mode = config.training.metric, config.training.mode
    return SearchReport(
        experiment=config.name,
        search_id=running.folder.search_id,
        search_run_id=running.run_id,
        metric=metric,
        mode=mode,
        trials=tuple(_without_history(summary) for summary in trials.summaries),
        best_trial=best.name,
        metrics=final.metrics,
        calibration=final.calibration,
        by_length=tuple(asdict(bucket) for bucket in final.by_length),
        trainable_parameters=final.trainable_parameters,
        data_fingerprint=running.data.fingerprint,
        model_name=registered.name,
        model_version=registered.version,
        model_alias=CHAMPION if promotion and promotion.moved else registered.alias,
        model_uri=registered.model_uri,
        adapter_folder=str(final.folder),
        urls={
            "search": tracker.run_url(running.run_id),
            "trials, best first": trials_url(running),
            "best trial": tracker.run_url(best.run_id),
            "registered adapter": tracker.model_url(registered.name, registered.version),
            "experiment": tracker.experiment_url(config.name),
        },
        seconds=0.0,
        lost_trials=tuple(summary.name for summary in trials.lost),
        promotion=promotion,
    )


def _without_history(summary: "TrialSummary") -> dict[str, Any]:
    """A trial for a report: every metric of every evaluation stands in the trial's run."""
    return {name: value for name, value in asdict(summary).items() if name != "history"}
