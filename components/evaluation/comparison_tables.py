"""A comparison as text: Markdown, HTML, CSV and LaTeX, from one list of columns, so that all four
say the same.
"""

import csv
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from components.evaluation.comparison import SCORES, Comparison, ComparisonRow, Pair
from components.evaluation.significance import Interval

MISSING = "-"


@dataclass(frozen=True)
class Table:
    """A titled table of text; `note` explains what its numbers are."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def score_table(comparison: Comparison, task: str) -> Table:
    """One task: a line per method with scores as mean ± half the interval over seeds."""
    documents = comparison.documents[task]
    columns: tuple[tuple[str, Callable[[ComparisonRow], str]], ...] = (
        ("method", lambda row: row.method),
        ("chosen point", lambda row: describe_point(row)),
        ("seeds", lambda row: str(row.num_seeds)),
        ("accuracy %", lambda row: _percent(row, "accuracy")),
        ("macro F1 %", lambda row: _percent(row, "macro_f1")),
        ("ECE %", lambda row: _percent(row, "ece")),
        ("adaptive ECE %", lambda row: _percent(row, "adaptive_ece")),
        ("Brier", lambda row: _number(row, "brier")),
        ("NLL", lambda row: _number(row, "nll")),
        ("ECE % calibrated", lambda row: _percent(row, "calibrated_ece")),
        ("NLL calibrated", lambda row: _number(row, "calibrated_nll")),
        ("missing", lambda row: row.problem or MISSING),
    )
    if not any(row.problem for row in comparison.of_task(task)):
        columns = columns[:-1]
    seeds = max(row.num_seeds for row in comparison.of_task(task))
    note = (
        f"{documents.count} test documents, always the most frequent label: "
        f"{documents.majority_accuracy:.1%}. Mean ± half of the {comparison.level:.0%} t interval "
        "over "
        f"up to {seeds} seeds; it says nothing about other test documents (see the pairwise "
        "table). Calibrated: at the temperature fitted on validation documents."
    )
    rows = tuple(tuple(cell(row) for _, cell in columns) for row in comparison.of_task(task))
    return Table(f"{task}: scores", tuple(name for name, _ in columns), rows, note)


def cost_table(comparison: Comparison) -> Table:
    """All tasks: what each method trained and took, the mean of one training."""
    rows = []
    for row in comparison.rows:
        costs = row.costs
        rows.append(
            (
                row.task,
                row.method,
                MISSING if row.own_parameters is None else f"{row.own_parameters:,}",
                MISSING if row.head_parameters is None else f"{row.head_parameters:,}",
                f"{costs['peak_memory_bytes'] / 1024**2:,.0f}"
                if "peak_memory_bytes" in costs
                else MISSING,
                f"{costs['tokens_per_second']:,.0f}" if "tokens_per_second" in costs else MISSING,
                f"{costs['seconds']:,.0f}" if "seconds" in costs else MISSING,
                f"{costs['core_hours']:.3f}" if "core_hours" in costs else MISSING,
            )
        )
    header = (
        "task",
        "method",
        "own parameters",
        "head parameters",
        "peak MiB per worker",
        "tokens/s",
        "seconds",
        "device hours",
    )
    note = (
        "Mean of one training at the chosen point. Tokens per second and seconds include its "
        "evaluations on validation documents and hold for all workers of one training together "
        "while the others "
        "ran beside it; device hours: seconds x workers x their CPU cores, or GPUs where there are "
        "any. Peak MiB: of the worker's process on a CPU, of the tensors on a GPU."
    )
    return Table("Parameters and cost", header, tuple(rows), note)


def pair_table(comparison: Comparison, score: str) -> Table:
    """All tasks: each pair of methods by one score."""
    pairs = [pair for pair in comparison.pairs if pair.score == score]
    tested = score == "accuracy"
    header: tuple[str, ...] = (
        "task",
        "first",
        "second",
        "difference",
        f"{comparison.level:.0%} interval",
        "p",
        "p corrected",
        "verdict",
    )
    note = (
        f"First minus second ({SCORE_NAMES[score]}, "
        f"{'percentage points' if score != 'brier' else 'its own units'}), each averaged over "
        "seeds. Interval and p: paired bootstrap over the test documents. "
        f"Corrected: Holm, {len(pairs)} comparisons."
    )
    if tested:
        header += ("McNemar only first : only second", "McNemar p corrected")
        note += " McNemar: exact, on the answers of the probabilities averaged over seeds."
    return Table(
        f"Pairs of methods: {SCORE_NAMES[score]}",
        header,
        tuple(_pair_line(pair, tested=tested) for pair in pairs),
        note,
    )


SCORE_NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1", "ece": "ECE", "brier": "Brier"}


def _pair_line(pair: Pair, *, tested: bool) -> tuple[str, ...]:
    scale, digits = (1.0, 3) if pair.score == "brier" else (100.0, 1)
    found = pair.bootstrap
    line: tuple[str, ...] = (
        pair.task,
        pair.first,
        pair.second,
        f"{found.difference * scale:+.{digits}f}",
        f"{found.low * scale:+.{digits}f} to {found.high * scale:+.{digits}f}",
        p_text(found.p_value),
        p_text(pair.corrected),
        verdict(pair),
    )
    if tested and pair.mcnemar is not None and pair.mcnemar_corrected is not None:
        line += (
            f"{pair.mcnemar.only_first} : {pair.mcnemar.only_second}",
            p_text(pair.mcnemar_corrected),
        )
    return line


def verdict(pair: Pair) -> str:
    """Who is better, or that it cannot be said."""
    if not pair.significant:
        return "not significant"
    lower_is_better = pair.score in ("ece", "brier")
    first_is_better = (pair.bootstrap.difference < 0) == lower_is_better
    return f"{pair.first if first_is_better else pair.second} better"


def p_text(p_value: float) -> str:
    return f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001"


def describe_point(row: ComparisonRow) -> str:
    """The chosen point in short."""
    return (
        ", ".join(
            f"{path.rpartition('.')[2]} {value:g}"
            if isinstance(value, float)
            else f"{path.rpartition('.')[2]} {value}"
            for path, value in row.point.items()
        )
        or MISSING
    )


def _percent(row: ComparisonRow, score: str) -> str:
    return _interval(row.scores[score], scale=100, digits=1) if score in row.scores else MISSING


def _number(row: ComparisonRow, score: str) -> str:
    return _interval(row.scores[score], scale=1, digits=3) if score in row.scores else MISSING


def _interval(interval: Interval, *, scale: float, digits: int) -> str:
    mean = f"{interval.mean * scale:.{digits}f}"
    return (
        mean
        if interval.high is None
        else f"{mean} ± {(interval.high - interval.mean) * scale:.{digits}f}"
    )


def tables(comparison: Comparison) -> list[Table]:
    """Every table, in reading order."""
    scores = [score_table(comparison, task) for task in comparison.tasks]
    compared = dict.fromkeys(pair.score for pair in comparison.pairs)
    return [*scores, cost_table(comparison), *(pair_table(comparison, score) for score in compared)]


def as_markdown(found: Sequence[Table], *, title: str) -> str:
    parts = [f"# {title}"]
    for table in found:
        lines = ["| " + " | ".join(table.header) + " |", "|" + " --- |" * len(table.header)]
        lines += [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table.rows
        ]
        parts.append(f"## {table.title}\n\n" + "\n".join(lines) + f"\n\n{table.note}")
    return "\n\n".join(parts) + "\n"


STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#1c2733}"
    "table{border-collapse:collapse;margin:.5rem 0}"
    "th,td{padding:.3rem .7rem;border-bottom:1px solid #d5dce3;text-align:right}"
    "th{background:#eef2f6}"
    "td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}"
    "p{color:#56636f;max-width:70rem}img{max-width:100%}"
)


def as_html(found: Sequence[Table], *, title: str, images: Sequence[str] = ()) -> str:
    """One page; `images` are file names beside it."""
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    parts = [f"<!doctype html><html lang='en'><head>{head}</head><body>"]
    parts.append(f"<h1>{html.escape(title)}</h1>")
    parts += [
        f"<p><img src='{html.escape(image)}' alt='{html.escape(image)}'></p>" for image in images
    ]
    for table in found:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in table.header)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in table.rows
        )
        rows = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        parts.append(f"<h2>{html.escape(table.title)}</h2><table>{rows}</table>")
        parts[-1] += f"<p>{html.escape(table.note)}</p>"
    return "\n".join([*parts, "</body></html>"]) + "\n"


def as_latex(found: Sequence[Table]) -> str:
    """One `table` environment per table, with booktabs."""
    parts = ["% needs \\usepackage{booktabs}"]
    for table in found:
        lines = [
            " & ".join(_latex(cell) for cell in row) + r" \\" for row in (table.header, *table.rows)
        ]
        columns = "l" * min(3, len(table.header)) + "r" * max(0, len(table.header) - 3)
        parts.append(
            "\n".join(
                (
                    "\\begin{table}",
                    "\\centering",
                    f"\\begin{{tabular}}{{{columns}}}",
                    "\\toprule",
                    lines[0],
                    "\\midrule",
                    *lines[1:],
                    "\\bottomrule",
                    "\\end{tabular}",
                    f"\\caption{{{_latex(f'{table.title}. {table.note}')}}}",
                    "\\end{table}",
                )
            )
        )
    return "\n\n".join(parts) + "\n"


LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
}


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def as_csv(comparison: Comparison) -> str:
    """Every number unrounded, one line per task and method: mean, low and high of each score, then
    parameters and costs.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = [f"{score}{end}" for score in SCORES for end in ("", "_low", "_high")]
    costs = ["tokens_per_second", "seconds", "core_hours", "peak_memory_bytes"]
    writer.writerow(
        [
            "task",
            "method",
            "point",
            "seeds",
            "test_documents",
            *ends,
            "own_parameters",
            "head_parameters",
            *costs,
            "missing",
        ]
    )
    for row in comparison.rows:
        intervals = [row.scores.get(score) for score in SCORES]
        numbers = [
            value
            for found in intervals
            for value in ((found.mean, found.low, found.high) if found else (None, None, None))
        ]
        identity = [
            row.task,
            row.method,
            describe_point(row),
            row.num_seeds,
            comparison.documents[row.task].count,
        ]
        parameters = [row.own_parameters, row.head_parameters]
        writer.writerow(
            [
                *identity,
                *numbers,
                *parameters,
                *(row.costs.get(name) for name in costs),
                row.problem,
            ]
        )
    return text.getvalue()


def pairs_as_csv(comparison: Comparison) -> str:
    """Every pairwise difference unrounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [
        "task",
        "score",
        "first",
        "second",
        "difference",
        "low",
        "high",
        "p",
        "p_corrected",
        "significant",
    ]
    writer.writerow(
        [*names, "mcnemar_only_first", "mcnemar_only_second", "mcnemar_p", "mcnemar_p_corrected"]
    )
    for pair in comparison.pairs:
        found, test = pair.bootstrap, pair.mcnemar
        line = [
            pair.task,
            pair.score,
            pair.first,
            pair.second,
            found.difference,
            found.low,
            found.high,
            found.p_value,
            pair.corrected,
        ]
        counts = (
            [test.only_first, test.only_second, test.p_value, pair.mcnemar_corrected]
            if test
            else [None] * 4
        )
        writer.writerow([*line, pair.significant, *counts])
    return text.getvalue()
