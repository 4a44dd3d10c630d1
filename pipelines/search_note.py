"""The description of a search's run in MLflow: what came out, in a page of Markdown that is renewed
while the search runs.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from components.config import ExperimentConfig
from components.jobs.run_metrics import best_name
from components.jobs.run_names import trial_name
from components.registry import code_version
from components.registry.describe import table
from pipelines.describe import describe_data
from pipelines.run_params import param_name, searched_words

if TYPE_CHECKING:
    from components.data import PreparedData
    from components.jobs.summary import TrialSummary

MOST_ROWS = 12
WORTHLESS = frozenset({"diverged", "infeasible", "failed", "lost"})
"""Outcomes that give no adapter."""

RENEWED_SECONDS = 20.0
"""While a search runs its description is renewed at most so often."""


def search_title(search_id: str) -> str:
    """`search 28 Nov 10:34` of the id that begins with the time."""
    try:
        began = time.strptime("-".join(search_id.split("-")[:2]), "%Y%m%d-%H%M%S")
    except ValueError:
        return f"search {search_id}"
    return time.strftime("search %d %b %H:%M", began)


def ranked(trials: "Sequence[TrialSummary]", config: ExperimentConfig) -> "list[TrialSummary]":
    """Best first by the best evaluation, which the search chooses by; those that gave no adapter
    last.
    """
    metric, sign = config.training.metric, -1.0 if config.training.mode == "max" else 1.0
    return sorted(
        trials,
        key=lambda trial: (
            trial.outcome in WORTHLESS,
            sign * trial.best_metrics.get(metric, sign * float("inf")),
        ),
    )


def search_note(
    config: ExperimentConfig,
    data: "PreparedData",
    trials: "Sequence[TrialSummary]",
    *,
    first_lines: Sequence[str],
    command: str,
    links: "dict[str, str] | None" = None,
) -> str:
    """Markdown: `first_lines`, the leaderboard, what it cost, what is searched, the documents, the
    command that repeats it.
    """
    searched = ", ".join(
        f"{param_name(path)}: {searched_words(domain)}"
        for path, domain in config.search.space.items()
    )
    seconds, tokens = sum(each.seconds for each in trials), sum(each.tokens for each in trials)
    lines = [
        *first_lines,
        "",
        leaderboard(config, trials),
        "",
        f"* **Cost:** {tokens:,} tokens in {len(trials)} trials, {seconds:,.0f} s of training",
        f"* **Searched:** {searched or 'nothing'} ({config.search.searcher}"
        f", {config.search.trial_scheduler})",
        f"* **Documents:** {describe_data(data).removeprefix('data: ')}; fingerprint "
        f"`{data.fingerprint[:12]}`",
        f"* **Code:** `{code_version()}`",
    ]
    if command:
        lines.append(f"* **Again:** `{command}`")
    if links:
        lines.append("* " + " - ".join(f"[{text}]({url})" for text, url in links.items() if url))
    return "\n".join(lines)


def leaderboard(config: ExperimentConfig, trials: "Sequence[TrialSummary]") -> str:
    """A Markdown table, best first."""
    metric = config.training.metric
    order = ranked(trials, config)
    rows = [
        (
            str(place),
            trial_name(trial.name, trial.point),
            number(trial.best_metrics.get(metric)),
            trial.outcome,
            f"{trial.tokens:,}",
            f"{trial.seconds:,.0f}",
        )
        for place, trial in enumerate(order[:MOST_ROWS], 1)
    ]
    left = len(order) - MOST_ROWS
    head = ("", "trial", best_name(metric), "outcome", "tokens", "seconds")
    return table(head, rows) + (f"\n\n... and {left} more" if left > 0 else "")


def number(value: float | None) -> str:
    """As many digits as are read."""
    return "-" if value is None else f"{value:.4g}"


class LiveNote:
    """Keeps the description of a running search true: `update` is given every changed trial."""

    def __init__(self, write: "Callable[[Sequence[TrialSummary]], None]") -> None:
        self._write, self._not_before = write, 0.0
        self._trials: dict[str, TrialSummary] = {}

    def update(self, summary: "TrialSummary") -> None:
        """Renew the description where the trial ended, unless that was done just now."""
        self._trials[summary.name] = summary
        if summary.outcome != "running" and time.monotonic() >= self._not_before:
            self._not_before = time.monotonic() + RENEWED_SECONDS
            self._write(tuple(self._trials.values()))
