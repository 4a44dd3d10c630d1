"""Plans as people read them on a terminal."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from pipelines.command_line.show.figures import gib, mib, pairs

if TYPE_CHECKING:
    from components.planning import Capacity, Layout, Plan, Resources
    from pipelines.comparison.plan import ComparisonPlan


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
        _gpus(resources) if resources.gpus is not None else "",
    ]
    have.append(gib(resources.memory_bytes) if resources.memory_bytes is not None else "")
    pairs(
        console,
        {
            "experiment": plan.experiment,
            "backbone": (
                f"{plan.backbone}, {plan.backbone_parameters:,} parameters (frozen"
                f"{f', quantised: {plan.quantization}' if plan.quantization else ''}), "
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
            **(
                {"at the same time": f"{plan.concurrent_trials} trial(s) would find a place"}
                if plan.concurrent_trials is not None
                else {}
            ),
            "side by side": _side_by_side(plan),
            **({"document states": _states(plan)} if plan.states_bytes_per_token else {}),
            resources.source: ", ".join(part for part in have if part) or "not known",
        },
    )
    console.print(_points_table(plan))
    worst = max(plan.points, key=lambda point: point.memory.device).memory
    console.print(
        f"Device part at its most: {mib(worst.device)} at the {worst.worst_instant}.",
        markup=False,
        soft_wrap=True,
    )
    console.print(_time(plan), markup=False, soft_wrap=True)
    if plan.recommendation is not None:
        console.print(f"Recommended: {_recommended(plan)}", markup=False, soft_wrap=True)
    if plan.capacity is not None:
        _show_capacity(console, plan, plan.capacity)
    for line in plan.advice:
        console.print(f"Advice: {line}", markup=False, soft_wrap=True)


def _side_by_side(plan: "Plan") -> str:
    """How many trials share a slot's run of the backbone, or why none do."""
    if plan.trials_per_slot > 1:
        return f"{plan.trials_per_slot} trials in each slot, in one run of the backbone"
    return "off" if plan.side_by_side_obstacle is None else f"off: {plan.side_by_side_obstacle}"


def _states(plan: "Plan") -> str:
    """What keeping the states of documents takes on disk."""
    of_token = plan.states_bytes_per_token or 0
    most = max(point.positions - point.prefix_length for point in plan.points) * of_token
    documents = plan.train_documents
    whole = "" if documents is None else f", at most {gib(documents * most)} of training documents"
    return f"{of_token / 1000:.1f} kB a token, at most {mib(most)} a document{whole}"


def _time(plan: "Plan") -> str:
    """Time per trial, and where it is from."""
    if plan.measured is None:
        return "Time per trial: not known before one of this kind has run here."
    told = plan.measured
    rate = f"{told.seconds_per_step:.2f} s per step, measured with {told.trial}"
    memory = f"memory was {told.memory_factor:.0%} of the estimate, which is corrected by that"
    if plan.seconds_per_trial is None:
        return f"Time per trial: {rate}; {memory}."
    return f"Time per trial: at most {plan.seconds_per_trial:,.0f} s ({rate}); {memory}."


def _gpus(resources: "Resources") -> str:
    """`4 GPU (A100-80G, 80.0 GiB, by the kind's name)`."""
    count = f"{resources.gpus:g} GPU"
    if not resources.gpus:
        return count
    memory = resources.gpu_memory_bytes
    known = [*resources.gpu_kinds, gib(memory) if memory else "memory not known"]
    return f"{count} ({', '.join([*known, resources.gpu_source])})"


def _recommended(plan: "Plan") -> str:
    told = plan.recommendation
    assert told is not None
    rung = told.rung
    further = ", training.offload_activations=true" if rung.offload_activations else ""
    if rung.feed_forward_tile_rows is not None:
        further += f", training.feed_forward_tile_rows={rung.feed_forward_tile_rows}"
    return (
        f"zero.stage={told.stage}, training.micro_batch_size={told.micro_batch_size}, "
        f"training.gradient_checkpointing={str(rung.gradient_checkpointing).lower()}{further} "
        f"({gib(told.device_bytes)} on the device): {told.reason}."
    )


def _points_table(plan: "Plan") -> Table:
    """Sizes and memory per worker of every point of the space."""
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
        "fits",
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
        fits = {True: "yes", False: "no", None: "?"}[point.fits]
        table.add_row(*(f"{number:,}" for number in numbers), *(mib(size) for size in sizes), fits)
    return table


def _show_capacity(console: Console, plan: "Plan", capacity: "Capacity") -> None:
    """How many slots of how many GPUs, the fastest of each size of cluster."""
    each = plan.gpus_needed / (plan.slots * plan.workers_per_slot)
    unit = "GPU" if each else "worker"
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in (f"{unit}s", f"slots x {unit}s", "takes", f"{unit} hours", "training"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("as configured", *_layout_cells(capacity.configured, each or 1.0))
    for layout in capacity.layouts:
        table.add_row(f"{layout.room * (each or 1.0):g}", *_layout_cells(layout, each or 1.0))
    console.print(table)
    if capacity.more_changes_nothing:
        told = f"More {unit}s change nothing: {plan.trials} trials of {plan.train_batch_size}"
        console.print(f"{told} documents a step.", markup=False, soft_wrap=True)
    console.print(f"Assumed: {capacity.assumptions}.", markup=False, soft_wrap=True)


def _layout_cells(layout: "Layout", each: float) -> tuple[str, ...]:
    """`each`: GPUs of a worker; 1 where there are none."""
    return (
        f"{layout.slots:,} x {layout.workers_per_slot * each:g}",
        _duration(layout.makespan_seconds),
        f"{layout.worker_hours * each:,.2f}",
        f"{layout.utilisation:.0%}",
    )


def _duration(seconds: float) -> str:
    if seconds < 3600.0:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


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
