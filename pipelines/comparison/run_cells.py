"""Run the cells that a comparison's schedule names, one run of the tracker per cell."""

from collections.abc import Callable

from components.jobs.events import Event
from components.jobs.job import Job
from components.jobs.record import JobRecord, record_of
from components.jobs.run_jobs import JobResult, run_jobs
from components.jobs.run_names import point_words
from components.jobs.run_writer import RunWriter
from components.jobs.workers import Workers
from components.registry import RunLog
from pipelines.comparison.cells import Cell
from pipelines.comparison.schedule import Schedule
from pipelines.describe import describe_point
from pipelines.run_params import point_params

Say = Callable[[str], None]


def run_cells(
    schedule: Schedule, workers: Workers, tracker: RunLog, run_id: str, *, say: Say
) -> int:
    """Run until nothing is left that could be; returns how many cells were run. `run_id`: the
    comparison's run.
    """
    writer = RunWriter(tracker, run_id)
    working: dict[str, Cell] = {}
    ended: list[str] = []

    def next_job() -> Job | None:
        cell = schedule.next_cell()
        if cell is None:
            return None
        working[cell.key] = cell
        return cell.job(schedule.records.get(cell.key))

    def on_event(event: Event) -> None:
        start(writer, working[event.job_id])
        writer.take(event.job_id, [event])

    def on_result(result: JobResult) -> None:
        cell = working[result.job.id]
        start(writer, cell)
        before = schedule.records.get(cell.key)
        record = record_of(result, cell.identity, before=before, about=cell.about)
        end(writer, cell, record)
        schedule.ended(cell, record)
        ended.append(cell.key)
        tell(schedule, cell, record, say)

    run_jobs(
        workers,
        next_job,
        on_result=on_result,
        on_event=on_event,
        max_failures=schedule.config.max_failures,
    )
    return len(ended)


def start(writer: RunWriter, cell: Cell) -> None:
    """The cell's own run below the comparison's; the same one again after an interruption, and
    where a search training becomes a final one.
    """
    known = writer.summaries.get(cell.key)
    if known is not None and known.outcome == "running":
        return
    writer.start(
        cell.key,
        cell.trial,
        name=f"{cell.task}-{cell.method}",
        title=f"{cell.task} {cell.method} {point_words(cell.trial.point)} seed={cell.seed}",
        params={"task": cell.task, "method": cell.method, "seed": cell.seed}
        | point_params(cell.trial.point),
        # A tag and no param: a search training that is evaluated later becomes a final one, and
        # the tracker keeps a param's first value.
        tags={
            "data_fingerprint": cell.data_fingerprint,
            "comparison_part": "seeds" if cell.final else "search",
        },
    )


def end(writer: RunWriter, cell: Cell, record: JobRecord) -> None:
    """End the cell's run with what it was measured at."""
    writer.end(
        cell.key,
        record.outcome,
        record.reason,
        final_metrics=None if record.final is None else record.final.metrics,
        step=record.progress.step,
    )


def tell(schedule: Schedule, cell: Cell, record: JobRecord, say: Say) -> None:
    """What became of a cell, and of its method's search where that was its last."""
    done, size = schedule.counts()
    say(f"[{done}/{size}] {cell.name}: {describe_record(cell, record)}")
    chosen = schedule.chosen(cell.task, cell.method)
    if not cell.final and chosen is not None:
        say(f"{cell.task}, {cell.method}: chosen on validation documents: {describe_point(chosen)}")


def describe_record(cell: Cell, record: JobRecord) -> str:
    """One line about a cell that ended."""
    if record.outcome != "completed":
        return f"{record.outcome}, {record.reason}"
    metric, progress = cell.trial.config.training.metric, record.progress
    shown = {metric: progress.best_metrics[metric]}
    if record.final is not None:
        shown |= {name: record.final.metrics[name] for name in ("test/accuracy", "test/ece")}
    return (
        ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
        + f" ({progress.seconds:.0f} s, {progress.tokens_per_second:,.0f} tokens/s)"
    )
