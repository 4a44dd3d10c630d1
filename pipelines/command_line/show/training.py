"""What a search or a training gave, as people read it on a terminal."""

from typing import TYPE_CHECKING

from rich.console import Console

from pipelines.command_line.leaderboard import duration, ranked, trial_table
from pipelines.command_line.show.figures import pairs
from pipelines.command_line.show.use import show_decision

if TYPE_CHECKING:
    from pipelines.reports import (
        SearchReport,
        TrainReport,
    )


def show_search(console: Console, report: "SearchReport") -> None:
    console.print()
    console.print(
        trial_table(
            ranked(report.trials, metric=report.metric, mode=report.mode), metric=report.metric
        )
    )
    console.print()
    if report.promotion is not None and report.promotion.decision is not None:
        show_decision(console, report.promotion.decision)
        console.print()
    rows = {
        **(
            {"lost": f"{', '.join(report.lost_trials)}: the best is that of the others"}
            if report.lost_trials
            else {}
        ),
        "best": report.best_trial,
        "registered": f"{report.model_name} version {report.model_version} ({report.model_alias})",
        **({} if report.promotion is None else {"because": report.promotion.reason}),
        **{
            name: f"{report.metrics[name]:.4f}"
            for name in (
                "test/accuracy",
                "test/majority_accuracy",
                "test/chance_accuracy",
                "test/macro_f1",
                "test/ece",
            )
            if name in report.metrics
        },
        "trained": f"{report.trainable_parameters:,} parameters",
        "time": duration(report.seconds),
        **report.urls,
        "predict": (
            f"prefixprop predict --model {report.model_uri} --input docs.jsonl --output out.jsonl"
        ),
    }
    pairs(console, rows)


def show_train(console: Console, report: "TrainReport") -> None:
    rows = {
        "outcome": f"{report.outcome} {report.reason}".strip(),
        "ranks": f"{report.world_size}, ZeRO stage {report.zero_stage}",
        "steps": f"{report.steps:,}, {report.tokens_per_second:,.0f} tokens per second",
        "trained": f"{report.trainable_parameters:,} parameters",
        **{
            name: f"{value:.4f}"
            for name, value in report.metrics.items()
            if name.endswith(("/accuracy", "/macro_f1", "/ece"))
        },
        "adapter": report.adapter_folder,
        "time": duration(report.seconds),
    }
    if report.outcome != "completed":
        # The last line too: the measures above are of an adapter from before that.
        rows["but"] = f"the training {report.outcome}: {report.reason}"
    pairs(console, rows)
