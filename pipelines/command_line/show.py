"""Reports as people read them on a terminal. Nothing is computed here that is not in the report."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from pipelines.command_line.leaderboard import duration, number, ranked, trial_table

if TYPE_CHECKING:
    from components.evaluation import LengthBucket
    from components.planning import Plan
    from pipelines.comparison.plan import ComparisonPlan
    from pipelines.local_cluster.doctor import Finding
    from pipelines.local_cluster.lifecycle import ClusterStatus, LocalCluster
    from pipelines.reports import (
        CompareReport,
        EvaluationReport,
        ExportReport,
        PredictionReport,
        PromotionReport,
        SearchReport,
        StudyReport,
        TrainReport,
    )
    from pipelines.submit import Submission


def pairs(console: Console, rows: Mapping[str, Any]) -> None:
    """One aligned line per entry; long values are not wrapped, so that they can be copied."""
    width = max(len(name) for name in rows) + 2
    for name, value in rows.items():
        console.print(f"{name:<{width}}{value}", markup=False, soft_wrap=True)


def show_plan(console: Console, plan: "Plan") -> None:
    classes = (
        "unknown before the data are read; counted for 2"
        if plan.num_labels is None
        else str(plan.num_labels)
    )
    steps = (
        "unknown before the data are read"
        if plan.steps_per_trial is None
        else f"at most {plan.steps_per_trial:,}"
    )
    resources = plan.resources
    have = [
        f"{resources.cpus:g} CPU" if resources.cpus is not None else "",
        f"{resources.gpus:g} GPU" if resources.gpus is not None else "",
    ]
    have.append(gib(resources.memory_bytes) if resources.memory_bytes is not None else "")
    pairs(
        console,
        {
            "experiment": plan.experiment,
            "backbone": (
                f"{plan.backbone}, {plan.backbone_parameters:,} parameters (frozen), "
                f"{plan.backbone_positions:,} positions"
            ),
            "classes": classes,
            "trials": f"{plan.trials}, at most {plan.evaluations_per_trial} evaluations each",
            "steps per trial": f"{steps} (of {plan.train_batch_size} sequences)",
            "placement": (
                f"{plan.slots} slot(s) x {plan.workers_per_slot} worker(s): {plan.cpus_needed:g} "
                f"CPU, {plan.gpus_needed:g} GPU, about {gib(plan.memory_needed_bytes)} of main "
                "memory"
            ),
            resources.source: ", ".join(part for part in have if part) or "not known",
        },
    )
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in (
        "prefix_length",
        "micro-batch",
        "trained parameters",
        "positions",
        "weights",
        "trained",
        "activations",
        "per worker",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for point in plan.points:
        memory = point.memory
        sizes = (memory.weights, memory.trained, memory.activations, memory.total)
        numbers = (
            point.prefix_length,
            point.micro_batch_size,
            point.trainable_parameters,
            point.positions,
        )
        table.add_row(*(f"{number:,}" for number in numbers), *(mib(size) for size in sizes))
    console.print(table)
    for line in plan.advice:
        console.print(f"Advice: {line}", markup=False, soft_wrap=True)


def show_search(console: Console, report: "SearchReport") -> None:
    console.print()
    console.print(
        trial_table(
            ranked(report.trials, metric=report.metric, mode=report.mode), metric=report.metric
        )
    )
    console.print()
    rows = {
        "best": report.best_trial,
        "registered": f"{report.model_name} version {report.model_version} ({report.model_alias})",
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
        "predict": f"prefixprop predict --model {report.model_uri} --input docs.jsonl --output out.jsonl",
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
    pairs(console, rows)


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
    """Accuracy and calibration by document length, 95% intervals in brackets."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in ("tokens", "documents", "accuracy", "nll", "ece", "ece if calibrated"):
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


def show_study(console: Console, report: "StudyReport") -> None:
    """Where the findings are; the findings themselves are Markdown to be read there."""
    findings = (report.folder / "findings.md").read_text(encoding="utf-8")
    answer = (
        findings.split("## Answer")[1].split("\n## ")[0].strip() if "## Answer" in findings else ""
    )
    if answer:
        console.print(answer, markup=False, soft_wrap=True)
    files = ", ".join(report.files)
    pairs(
        console,
        {
            "study": report.study,
            "written to": report.folder,
            "files": files,
            "cells": f"{report.cells}, {duration(report.seconds)}",
            "run": report.url or report.run_id,
        },
    )


def show_promotion(console: Console, report: "PromotionReport") -> None:
    before = "none" if report.previous is None else f"version {report.previous}"
    pairs(
        console,
        {
            "would become champion"
            if report.dry_run
            else "champion": f"{report.model_name} version {report.version}",
            "now" if report.dry_run else "before": before,
            "description": report.description,
            "page": report.url,
        },
    )


def show_export(console: Console, report: "ExportReport") -> None:
    pairs(
        console,
        {
            "model": report.model,
            "folder": report.folder,
            **{f"  {name}": f"{size:,} bytes" for name, size in report.files.items()},
        },
    )


def show_submission(console: Console, submission: "Submission") -> None:
    pairs(
        console,
        {"job": submission.submission_id, "status": submission.status}
        | ({"message": submission.message} if submission.message else {}),
    )


def show_cluster(console: Console, cluster: "LocalCluster") -> None:
    pairs(
        console,
        {
            "Ray dashboard": cluster.dashboard_url,
            "MLflow": f"{cluster.tracking_uri}/#/experiments?workflowType=machine_learning",
            "submit": (
                f"ray job submit --address {cluster.jobs_address} --working-dir . -- python -m "
                "pipelines.cli search demo"
            ),
            "stop": "prefixprop down",
        },
    )


def show_status(console: Console, status: "ClusterStatus") -> None:
    if status.cluster is None:
        console.print("No local cluster runs here. Start one with: prefixprop up", markup=False)
        return
    pairs(
        console,
        {
            "Ray": (
                f"{'answers' if status.ray else 'DOES NOT ANSWER'} at "
                f"{status.cluster.ray_address}, dashboard {status.cluster.dashboard_url}"
            ),
            "MLflow": (
                f"{'answers' if status.mlflow else 'DOES NOT ANSWER'} at "
                f"{status.cluster.tracking_uri}"
            ),
            "processes": f"{status.processes}, {gib(status.memory_bytes)} resident",
        },
    )
    if not status.running:
        console.print("Start what is missing with: prefixprop up", markup=False)


def show_findings(console: Console, findings: "tuple[Finding, ...]") -> None:
    for finding in findings:
        style = {"ok": "green", "note": "yellow", "problem": "red"}[finding.level]
        console.print(f"[{style}]{finding.level:<8}[/{style}]{finding.what:<20}", end="")
        console.print(finding.found, markup=False, soft_wrap=True)
        if finding.mend:
            console.print(f"{'':<28}-> {finding.mend}", markup=False, soft_wrap=True)


def gib(number_of_bytes: float) -> str:
    return f"{number_of_bytes / 1024**3:.1f} GiB"


def mib(number_of_bytes: float) -> str:
    return f"{number_of_bytes / 1024**2:,.0f} MiB"


def show_benchmark(console: Console, report: Mapping[str, Any]) -> None:
    """One line per case: both sides, their ratio, and whatever else the case measured as a plain
    number.
    """
    machine = report["hardware"]
    console.print(f"{report['benchmark']} on {machine}", markup=False, soft_wrap=True)
    for case in report["cases"]:
        console.print(
            f"{case['case']} against {case['peer']}" if case.get("peer") else str(case["case"]),
            style="bold",
            markup=False,
        )
        plain = {
            name: value
            for name, value in case.items()
            if name not in ("case", "peer") and not isinstance(value, list)
        }
        pairs(console, {f"  {name}": _figures(value) for name, value in plain.items()})


def _figures(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name} {_figures(item)}" for name, item in value.items() if not isinstance(item, list)
        )
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_comparison_plan(console: Console, plan: "ComparisonPlan") -> None:
    tokens = "unknown before the documents are read"
    if plan.trained_tokens is not None and plan.evaluated_tokens is not None:
        tokens = (
            f"{plan.trained_tokens / 1e6:.1f} million trained on, "
            f"{plan.evaluated_tokens / 1e6:.1f} million only evaluated"
        )
    rows = {
        "comparison": plan.comparison,
        "cells": (
            f"{plan.searches} search trainings + {plan.finals} trainings with a test evaluation "
            "(equal ones are shared)"
        ),
        "tokens": tokens,
        **{
            task: ", ".join(f"{count:,} {split}" for split, count in sizes.items())
            for task, sizes in plan.documents.items()
        },
    }
    if not plan.documents:
        rows["parameters"] = (
            f"counted for {plan.methods[0].num_labels} classes: how many there are is unknown "
            "before the documents are read"
        )
    pairs(console, rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("task", "method"):
        table.add_column(column, no_wrap=True)
    for column in ("trained parameters", "tokens of a search training", "of a final one"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("points")
    for method in plan.methods:
        least, most = method.parameters
        sizes = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        known = [
            f"{count:,}" if count is not None else "unknown"
            for count in (method.search_tokens, method.final_tokens)
        ]
        table.add_row(method.task, method.method, sizes, *known, "; ".join(method.points))
    console.print(table)


def show_comparison(console: Console, report: "CompareReport") -> None:
    from components.evaluation.comparison_tables import SCORE_NAMES, describe_point, verdict

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("task", "method", "point"):
        table.add_column(column, no_wrap=True)
    for column in (
        "seeds",
        "accuracy %",
        "macro F1 %",
        "ECE %",
        "calibrated %",
        "own parameters",
        "tokens/s",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for row in report.rows:
        scores = [
            _mean_and_half(row, name) for name in ("accuracy", "macro_f1", "ece", "calibrated_ece")
        ]
        own = "-" if row.own_parameters is None else f"{row.own_parameters:,}"
        speed = f"{row.costs['tokens_per_second']:,.0f}" if row.costs else "-"
        table.add_row(
            row.task, row.method, describe_point(row), str(row.num_seeds), *scores, own, speed
        )
    console.print()
    console.print(table)
    console.print()
    for pair in report.pairs:
        if pair.significant:
            console.print(
                (
                    f"{pair.task}, {SCORE_NAMES[pair.score]}: {verdict(pair)} ({pair.first} "
                    f"against {pair.second})"
                ),
                markup=False,
            )
    count = sum(not pair.significant for pair in report.pairs)
    console.print(
        (
            f"{count} of {len(report.pairs)} differences between methods are not significant after "
            "correction."
        ),
        markup=False,
    )
    for line in report.missing:
        console.print(f"Missing: {line}", markup=False, soft_wrap=True)
    rows = {
        "cells": f"{report.cells} ({report.cells_run} run now)",
        "time": duration(report.seconds),
        "written to": report.output,
    }
    pairs(console, rows | ({"run": report.url} if report.url else {}))


def _mean_and_half(row: Any, name: str) -> str:
    if name not in row.scores:
        return "-"
    found = row.scores[name]
    return f"{100 * found.mean:.1f}" + (
        "" if found.high is None else f" ± {100 * (found.high - found.mean):.1f}"
    )
