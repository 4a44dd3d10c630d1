"""Metrics, answers and promotions as people read them on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from pipelines.command_line.leaderboard import duration, number
from pipelines.command_line.show.figures import pairs

if TYPE_CHECKING:
    from components.evaluation import LengthBucket
    from components.evaluation.gate.decision import Decision
    from pipelines.reports import (
        EvaluationReport,
        ExportReport,
        HistoryReport,
        PredictionReport,
        PredictionsReport,
        PromotionReport,
    )


def show_evaluation(console: Console, report: "EvaluationReport") -> None:
    same = {
        True: "the data it was trained with",
        False: "other data than it was trained with",
        None: "unknown whether it was trained with these data",
    }
    rows = {
        "model": report.model,
        "data": (
            f"{report.split}, {report.documents} documents, {report.truncated_documents} "
            f"truncated; {same[report.same_data_as_training]}"
        ),
        **{name: number(float(value)) for name, value in report.metrics.items()},
        "temperature": number(report.temperature),
        "time": duration(report.seconds),
    }
    pairs(console, rows | ({"written to": report.output} if report.output else {}))
    if report.by_length:
        console.print(length_table(report.by_length))


def length_table(buckets: "Sequence[LengthBucket]") -> Table:
    """Accuracy and calibration by document length, 95% intervals in brackets; how many of a line's
    documents were cut, where any was.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    cut = ("cut",) if any(bucket.cut for bucket in buckets) else ()
    scores = ("accuracy", "nll", "ece", "ece if calibrated")
    for column in ("tokens", "documents", *cut, *scores):
        table.add_column(column, justify="right", no_wrap=True)
    for bucket in buckets:
        ranges = (
            (bucket.accuracy, bucket.accuracy_low, bucket.accuracy_high),
            (bucket.nll, bucket.nll_low, bucket.nll_high),
            (bucket.ece, bucket.ece_low, bucket.ece_high),
        )
        cells = [f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in ranges]
        table.add_row(
            f"{bucket.shortest:,}-{bucket.longest:,}",
            str(bucket.documents),
            *((str(bucket.cut),) if cut else ()),
            *cells,
            f"{bucket.ece_if_calibrated:.3f}",
        )
    return table


def show_prediction(console: Console, report: "PredictionReport") -> None:
    labels = ", ".join(f"{label}: {count}" for label, count in report.labels.items())
    pairs(
        console,
        {
            "model": report.model,
            "documents": report.documents,
            "answers": labels,
            "written to": report.output,
            "time": duration(report.seconds),
        },
    )


def show_predictions(console: Console, report: "PredictionsReport") -> None:
    table = Table("model", "answers", box=None, pad_edge=False)
    for address, labels in report.labels.items():
        table.add_row(address, ", ".join(f"{label}: {count}" for label, count in labels.items()))
    console.print(table)
    pairs(
        console,
        {
            "documents": report.documents,
            "each was read": _times_read(report.passes),
            "written to": report.output,
            "time": duration(report.seconds),
        },
    )


def _times_read(passes: tuple[tuple[str, ...], ...]) -> str:
    adapters = sum(map(len, passes))
    if len(passes) == 1:
        return f"once for all {adapters} adapters"
    alone = ", ".join(each[0] for each in passes if len(each) == 1)
    reason = "the text sees what was trained, or is cut otherwise"
    return f"{len(passes)} times for {adapters} adapters" + (
        f"; {alone}: a pass of its own ({reason})" if alone else ""
    )


def show_promotion(console: Console, report: "PromotionReport") -> None:
    before = "none" if report.previous is None else f"version {report.previous}"
    candidate = f"{report.model_name} version {report.version}"
    if report.decision is not None:
        show_decision(console, report.decision)
    if not report.moved:
        pairs(console, {"not promoted": candidate, "champion": before, "page": report.url})
        return
    pairs(
        console,
        {
            "would become champion" if report.dry_run else "champion": candidate,
            "now" if report.dry_run else "before": before,
            "description": report.description,
            "page": report.url,
        },
    )


def show_decision(console: Console, decision: "Decision") -> None:
    """Every rule of the gate with its numbers, then the verdict."""
    table = Table("rule", "holds", "numbers", box=None, pad_edge=False)
    for check in decision.checks:
        table.add_row(check.rule, "yes" if check.passed else "no", check.line)
    if decision.checks:
        console.print(table)
    on = (
        f" (decision {decision.number} on {decision.documents:,} test documents, "
        f"{decision.seeds} trainings)"
        if decision.documents
        else ""
    )
    console.print(f"verdict: {decision.verdict}{on}")


def show_history(console: Console, report: "HistoryReport") -> None:
    table = Table(
        "time (UTC)", "what", "version", "champion", "by", "why", box=None, pad_edge=False
    )
    for entry in report.entries:
        moved = entry.champion_before != entry.champion_after
        table.add_row(
            entry.time.removesuffix("Z").replace("T", " "),
            entry.action.replace("_", " "),
            str(entry.version),
            f"{_version(entry.champion_before)} -> {_version(entry.champion_after)}"
            if moved
            else _version(entry.champion_after),
            entry.by,
            entry.reason,
        )
    console.print(table)
    pairs(console, {"champion": f"{report.model_name} version {_version(report.champion)}"})


def _version(version: int | None) -> str:
    return "none" if version is None else str(version)


def show_export(console: Console, report: "ExportReport") -> None:
    pairs(
        console,
        {
            "model": report.model,
            "folder": report.folder,
            **_compared(report),
            **{f"  {name}": f"{size:,} bytes" for name, size in report.files.items()},
        },
    )


def _compared(report: "ExportReport") -> dict[str, str]:
    if report.largest_difference is None:
        return {}
    found, allowed = report.largest_difference, report.tolerance
    return {"logits": f"within {found:.2g} of the adapter's ({allowed:g} is allowed)"}
