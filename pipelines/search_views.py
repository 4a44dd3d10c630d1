"""The tables and charts that an experiment's page in MLflow offers ready made, and the documents as
it shows them.
"""

from typing import TYPE_CHECKING

from components.config import DataConfig, ExperimentConfig
from components.jobs.run_metrics import best_name
from components.registry import Chart, Dataset, View
from components.tasks import task_named
from pipelines.run_params import param_name

if TYPE_CHECKING:
    from components.data import PreparedData

TRIALS = "tags.kind = 'trial'"
OUTCOME, DURATION, TOKENS = "tags.outcome", "attributes.Duration", "metrics.tokens"
BEST_FIRST = "best-first"


def views_of(config: ExperimentConfig) -> tuple[View, ...]:
    """Trials, best first; learning curves; cost and quality."""
    metric, mode = config.training.metric, config.training.mode
    best = best_name(metric)
    searched = tuple(param_name(path) for path in config.search.space)
    columns = (
        *(f"params.{name}" for name in searched),
        f"metrics.{best}",
        OUTCOME,
        TOKENS,
        DURATION,
    )
    first, *_ = task_named(config.data.task).curves
    tree = View(
        id="searches",
        name="Searches and their trials",
        columns=(*columns, f"metrics.test/{first}", "attributes.Dataset"),
    )
    table = View(
        id=BEST_FIRST,
        name="Trials, best first",
        columns=columns,
        order_by=f"metrics.{best}",
        ascending=mode == "min",
        group_by="search_id",
        filter=TRIALS,
    )
    validation = f"validation/{first}"
    lines = dict.fromkeys((metric, validation, "train/loss"))
    curves = View(
        id="learning-curves",
        name="Learning curves",
        columns=columns,
        order_by=f"metrics.{best}",
        ascending=mode == "min",
        filter=TRIALS,
        charts=(
            *(Chart("line", f"{name} by step", (name,)) for name in lines),
            Chart("parallel", f"{best} of what is searched", (best,), searched),
        ),
        opens_on_charts=True,
    )
    cost = View(
        id="cost-and-quality",
        name="Cost and quality",
        columns=(*columns, "metrics.peak_memory_mib", "metrics.tokens_per_second"),
        order_by=f"metrics.{best}",
        ascending=mode == "min",
        filter=TRIALS,
        charts=(
            Chart("scatter", f"{best} against tokens", (best, "tokens")),
            *(Chart("scatter", f"{best} against {name}", (best,), (name,)) for name in searched),
            Chart("bar", "tokens per second", ("tokens_per_second",)),
            Chart("bar", "peak memory (MiB)", ("peak_memory_mib",)),
        ),
        opens_on_charts=True,
    )
    return tree, table, curves, cost


def best_first(config: ExperimentConfig) -> View:
    """The table of trials, best first."""
    return next(view for view in views_of(config) if view.id == BEST_FIRST)


def datasets_of(config: ExperimentConfig, data: "PreparedData") -> tuple[Dataset, ...]:
    """The splits as inputs of a run."""
    source = source_words(config.data)
    return tuple(
        Dataset(
            name=f"{config.name} {split}",
            split=split,
            digest=data.fingerprint,
            source=source,
            documents=report.documents,
            tokens=report.tokens,
        )
        for split, report in data.report.splits.items()
    )


def source_words(data: DataConfig) -> str:
    """Where the documents come from, in words."""
    if data.hub is not None:
        revision = f" at {data.hub.revision}" if data.hub.revision else ""
        return f"hub data set {data.hub.name}{revision}"
    if data.files is not None:
        return f"files {data.files.train}"
    kind = next(
        name
        for name in ("installed_source", "letters", "needle", "qangaroo")
        if getattr(data, name)
    )
    return kind.replace("_", " ")
