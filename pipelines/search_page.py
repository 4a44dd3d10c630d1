"""What a search's run shows: its description, the pictures, and the report that holds them."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.jobs.run_metrics import best_name, rounded
from components.jobs.run_names import ended_name, trial_name
from components.pages import (
    Evaluation,
    GateVerdict,
    Rule,
    Score,
    SearchPage,
    TrialLine,
    against_champion,
    cost_and_quality,
    learning_curves,
    report_html,
    searched_settings,
    trial_colours,
)
from components.registry import CHAMPION, RegisteredAdapter, RunLog, code_version
from components.registry.describe import accuracy_text
from components.registry.history import Action
from pipelines.failures import one_line
from pipelines.reports import PromotionReport
from pipelines.running_search import Search, Trials
from pipelines.search_note import search_note, search_title
from pipelines.search_views import best_first, source_words

if TYPE_CHECKING:
    from components.jobs.summary import TrialSummary
    from components.training.outcomes import FinalEvaluation

REPORT = "report.html"
PICTURES = {
    "learning_curves.png": learning_curves,
    "searched_settings.png": searched_settings,
    "cost_and_quality.png": cost_and_quality,
    "against_champion.png": against_champion,
}
COLOUR = "mlflow.runColor"
SAID: dict[Action, str] = {
    "first": "first champion",
    "promoted": "promoted",
    "forced": "promoted by force",
    "held": "held",
    "rejected": "rejected",
    "rolled_back": "rolled back",
    "found": "moved by other means",
}
"""What the history calls it -> in words."""


def write_note(
    running: Search,
    tracker: RunLog,
    trials: "Sequence[TrialSummary]",
    first_lines: Sequence[str],
) -> None:
    """Renew the description of the search's run."""
    text = search_note(
        running.config,
        running.data,
        trials,
        first_lines=first_lines,
        command=running.command,
        links={"all trials, best first": trials_url(running)},
    )
    tracker.describe_run(running.run_id, text)


def trials_url(running: Search) -> str:
    """Page of the trials, best first."""
    return running.tracker.view_url(running.config.name, best_first(running.config))


def note_best(running: Search, trials: Trials) -> None:
    """Tell which trial is the best as soon as it is known: what comes after it may be
    interrupted.
    """
    best, metric = trials.best, running.config.training.metric
    tracker = running.tracker
    tracker.set_tags(running.run_id, {"best_trial": best.name, "best_run_id": best.run_id})
    value = rounded({best_name(metric): best.best_metrics[metric]})
    tracker.log_metrics(running.run_id, value, step=0)
    line = f"Best trial: **{_title(best)}** ({best_name(metric)} {best.best_metrics[metric]:.4g})."
    write_note(running, tracker, trials.summaries, [line, "Not registered yet."])


def show(
    running: Search,
    trials: Trials,
    final: "FinalEvaluation",
    registered: RegisteredAdapter,
    promotion: PromotionReport | None,
) -> None:
    """Pictures, report, description and colours of a search that has registered its best."""
    tracker, run_id = running.tracker, running.run_id
    page = search_page(running, trials, final, registered, promotion)
    seen = _pictures(tracker, run_id, page)
    cost = {"tokens": float(page.tokens), "seconds": round(page.seconds, 1)}
    tracker.log_metrics(run_id, cost, step=0)
    colours = trial_colours(page)
    for trial in trials.summaries:
        tracker.set_tags(trial.run_id, {COLOUR: colours[_title(trial)]})
    tracker.rename(trials.best.run_id, ended_name(_title(trials.best), "best"))
    write_note(running, tracker, trials.summaries, [*_first_lines(page, trials, final), seen])


def _pictures(tracker: RunLog, run_id: str, page: SearchPage) -> str:
    """Draw and store pictures and report; returns where they are, or why they are missing: what was
    found and registered is not given up for a picture.
    """
    try:
        drawn = {name: draw(page) for name, draw in PICTURES.items()}
        report = report_html(page)
    except Exception as error:  # noqa: BLE001  # whatever a drawing library raises over odd numbers
        reason = one_line(error)
        warnings.warn(f"The search's pictures could not be drawn: {reason}", stacklevel=2)
        return f"\nIts pictures could not be drawn: {reason}"
    for name, figure in drawn.items():
        if figure is not None:
            tracker.log_figure(run_id, figure, f"pictures/{name}")
    tracker.log_text(run_id, report, REPORT)
    return f"\nPictures and all numbers: the artifact `{REPORT}`."


def _first_lines(page: SearchPage, trials: Trials, final: "FinalEvaluation") -> list[str]:
    best = next(line for line in page.trials if line.registered)
    told = accuracy_text(final.metrics)
    lines = [
        f"Best trial: **{best.name}** ({best_name(page.metric)} {best.best_value:.4g}), registered "
        f"as **{page.registered}**, now {page.alias}"
        + (f": test accuracy **{told}**." if told else ".")
    ]
    if page.gate is not None:
        reasons = "; ".join(page.gate.reasons)
        lines.append(f"The gate's decision: **{page.gate.verdict}**: {reasons}.")
    if page.champion_before:
        still = "before was" if page.alias == CHAMPION else "is still"
        lines.append(f"The champion {still} {page.champion_before}.")
    if trials.lost:
        names = ", ".join(_title(trial) for trial in trials.lost)
        lines.append(f"Lost with their workers: {names}.")
    return ["\n\n".join(lines)]


def search_page(
    running: Search,
    trials: Trials,
    final: "FinalEvaluation",
    registered: RegisteredAdapter,
    promotion: PromotionReport | None,
) -> SearchPage:
    """The search as plain values."""
    config, data, tracker = running.config, running.data, running.tracker
    metric = config.training.metric
    previous = None if promotion is None else promotion.previous
    moved = promotion is not None and promotion.moved
    splits = {name: f"{part.documents:,} documents" for name, part in data.report.splits.items()}
    return SearchPage(
        experiment=config.name,
        metric=metric,
        mode=config.training.mode,
        trials=tuple(
            trial_line(
                trial,
                metric=metric,
                registered=trial.run_id == trials.best.run_id,
                url=tracker.run_url(trial.run_id),
            )
            for trial in trials.summaries
        ),
        started=search_title(running.folder.search_id).removeprefix("search "),
        seconds=sum(trial.seconds for trial in trials.summaries),
        tokens=sum(trial.tokens for trial in trials.summaries),
        command=running.command,
        code_version=code_version(),
        description=config.description,
        data={"source": source_words(config.data)} | splits | {"fingerprint": data.fingerprint},
        links={
            "this search in MLflow": tracker.run_url(running.run_id),
            "all trials, best first": trials_url(running),
            "registered version": tracker.model_url(registered.name, registered.version),
        },
        registered=f"{registered.name} version {registered.version}",
        alias=CHAMPION if moved else registered.alias,
        champion_before="" if previous in (None, registered.version) else f"version {previous}",
        gate=verdict_of(promotion),
        test_metric="accuracy",
        scores=scores_of(final, registered, promotion),
        test_metrics={
            name: value for name, value in final.metrics.items() if name.startswith("test")
        },
        calibration={
            name: float(value)
            for name, value in final.calibration.items()
            if isinstance(value, int | float)
        },
    )


def trial_line(trial: "TrialSummary", *, metric: str, registered: bool, url: str) -> TrialLine:
    """A trial as its page shows it."""
    return TrialLine(
        name=_title(trial),
        point=trial.point,
        outcome=trial.outcome,  # type: ignore[arg-type]  # a search's trials have all ended
        reason=trial.reason,
        curve=tuple(
            Evaluation(
                step=step,
                tokens=int(metrics.get("tokens", 0)),
                seconds=metrics.get("seconds", 0.0),
                value=value,
            )
            for (_, step, value), metrics in zip(trial.rungs, trial.history, strict=True)
        ),
        best_value=trial.best_metrics.get(metric),
        best_step=trial.best_step,
        tokens=trial.tokens,
        seconds=trial.seconds,
        peak_memory_bytes=trial.peak_memory_bytes,
        trainable_parameters=trial.trainable_parameters,
        registered=registered,
        url=url,
    )


def verdict_of(promotion: PromotionReport | None) -> GateVerdict | None:
    """What the gate decided; None where it was not asked."""
    if promotion is None or promotion.action is None:
        return None
    decision = promotion.decision
    checks = () if decision is None else decision.checks
    return GateVerdict(
        verdict=SAID[promotion.action],
        reasons=(promotion.reason,) if decision is None else decision.reasons,
        rules=tuple(Rule(check.rule, check.passed, check.line) for check in checks),
    )


def scores_of(
    final: "FinalEvaluation", registered: RegisteredAdapter, promotion: PromotionReport | None
) -> tuple[Score, ...]:
    """Test accuracies that can be compared: the new version's, the champion's on the same
    documents, answers that need no training.
    """
    metrics = final.metrics
    if "test/accuracy" not in metrics:
        return ()
    found = [
        Score(
            f"version {registered.version}",
            metrics["test/accuracy"],
            metrics.get("test/accuracy_low"),
            metrics.get("test/accuracy_high"),
            kind="challenger",
        )
    ]
    decision = None if promotion is None else promotion.decision
    if decision is not None and decision.gain is not None and decision.metric == "accuracy":
        assert promotion is not None
        name = f"version {promotion.previous}"
        found.append(Score(name, decision.gain.champion, kind="champion"))
    for name, words in (("majority_accuracy", "majority class"), ("chance_accuracy", "guessing")):
        if f"test/{name}" in metrics:
            found.append(Score(words, metrics[f"test/{name}"]))
    return tuple(found)


def _title(trial: "TrialSummary") -> str:
    return trial_name(trial.name, trial.point)
