"""What a tracker is told for its pages: the documents of a run, and tables and charts that open
ready made.
"""

from dataclasses import dataclass
from typing import Literal

ChartKind = Literal["line", "parallel", "scatter", "bar"]


@dataclass(frozen=True)
class Dataset:
    """The documents of a split. `digest`: at most 36 characters; `source`: where they came from, in
    words.
    """

    name: str
    split: str
    digest: str
    source: str
    documents: int
    tokens: int


@dataclass(frozen=True)
class Measured:
    """Who measured a model: which run keeps the numbers, at which of its steps, on which documents.
    Where that is another run than the one that trained it, no curve of the training grows by them.
    """

    run_id: str
    step: int = 0
    dataset: Dataset | None = None


@dataclass(frozen=True)
class Chart:
    """One chart of a view. `metrics` and `params` by name: a line chart draws the metrics over
    steps; a scatter and a bar chart the last of each; parallel coordinates all of both.
    """

    kind: ChartKind
    title: str
    metrics: tuple[str, ...]
    params: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """A named view of an experiment's runs. `columns`: `metrics.x`, `params.x`, `tags.x` or
    `attributes.Duration`, in this order; `order_by`: one of them; `group_by`: a tag whose values
    are groups of rows; `filter`: in MLflow's words.
    """

    id: str
    name: str
    columns: tuple[str, ...]
    order_by: str = ""
    ascending: bool = False
    group_by: str = ""
    filter: str = ""
    charts: tuple[Chart, ...] = ()
    opens_on_charts: bool = False
