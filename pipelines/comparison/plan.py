"""What a comparison would take: its cells, trainings, tokens and parameters. Local documents are
read and tokenised (the run finds them ready); nothing is trained.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from components.backbones import backbone_shape, inspect_backbone
from components.config.comparison import ComparisonConfig
from components.config.experiment import TrainConfig
from components.planning.trained_parameters import trainable_parameters
from pipelines.comparison.compare import check_comparison_feasible, first_config, prepare_tasks

if TYPE_CHECKING:
    from components.data import PreparedData

UNKNOWN_LABELS = 2
"""Classes that parameters are counted for while the documents are not read."""


@dataclass(frozen=True)
class MethodPlan:
    """One method on one task. Tokens are those of one training and of its evaluations, None where
    the documents are not read yet; `parameters`: (least, most) over its points, counted for
    `num_labels` classes.
    """

    task: str
    method: str
    points: tuple[str, ...]
    parameters: tuple[int, int]
    num_labels: int
    search_tokens: int | None
    final_tokens: int | None
    evaluated_tokens: int | None


@dataclass(frozen=True)
class ComparisonPlan:
    """`searches` and `finals` count trainings; tokens are of all of them together, trained on and
    only evaluated (about half the work of a trained one on a frozen backbone).
    """

    comparison: str
    searches: int
    finals: int
    methods: tuple[MethodPlan, ...]
    documents: Mapping[str, Mapping[str, int]]
    trained_tokens: int | None
    evaluated_tokens: int | None


def plan_comparison(config: ComparisonConfig, say: Callable[[str], None]) -> ComparisonPlan:
    """Plan a comparison. Raises UserError where it cannot work. Documents on a hub are not fetched:
    their numbers are None.
    """
    check_comparison_feasible(config)
    local = all(first_config(config, task).data.hub is None for task in config.tasks)
    data = prepare_tasks(config, say) if local else {}
    methods = tuple(
        _method_plan(config, task, method, data.get(task))
        for task in config.tasks
        for method in config.methods
    )
    searches, finals = len(methods) * config.search.points, len(methods) * len(config.seeds)
    known = [(plan.search_tokens, plan.final_tokens, plan.evaluated_tokens) for plan in methods]
    trained = evaluated = None
    if local:
        trained = sum(
            config.search.points * (search or 0) + len(config.seeds) * (final or 0)
            for search, final, _ in known
        )
        evaluated = sum(tokens or 0 for _, _, tokens in known)
    documents = {
        task: {name: len(split) for name, split in prepared.splits.items()}
        for task, prepared in data.items()
    }
    return ComparisonPlan(config.name, searches, finals, methods, documents, trained, evaluated)


def _method_plan(
    config: ComparisonConfig, task: str, method: str, data: "PreparedData | None"
) -> MethodPlan:
    points = config.methods[method].points
    cells = [
        config.train_config(task, method, point=point, seed=config.seeds[0], searching=False)
        for point in points
    ]
    search = config.train_config(
        task, method, point=points[0], seed=config.search.seed, searching=True
    )
    shape = backbone_shape(inspect_backbone(cells[0].backbone))
    num_labels = len(data.labels) if data else UNKNOWN_LABELS
    sizes = [
        trainable_parameters(
            shape,
            cell.adapter,
            num_labels=num_labels,
            task=cell.data.task,
            head_form=cell.head.form,
        )
        for cell in cells
    ]
    workers = config.cluster.num_workers
    evaluated = None
    if data is not None:
        test = int(data.splits["test"].lengths.sum()) + int(data.splits["validation"].lengths.sum())
        in_search = config.search.points * _evaluated(search, data)
        evaluated = in_search + len(config.seeds) * (_evaluated(cells[0], data) + test)
    return MethodPlan(
        task=task,
        method=method,
        points=tuple(
            ", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in point.items())
            for point in points
        ),
        parameters=(min(sizes), max(sizes)),
        num_labels=num_labels,
        search_tokens=None if data is None else _trained(search, data, workers),
        final_tokens=None if data is None else _trained(cells[0], data, workers),
        evaluated_tokens=evaluated,
    )


def _trained(config: TrainConfig, data: "PreparedData", workers: int) -> int:
    """Tokens that one training sees, bounded by max_steps at the mean length."""
    train, training = data.splits["train"], config.training
    per_step = training.micro_batch_size * training.gradient_accumulation_steps * workers
    steps = training.epochs * ceil(len(train) / per_step)
    share = 1.0 if training.max_steps is None else min(1.0, training.max_steps / steps)
    return int(share * training.epochs * int(train.lengths.sum()))


def _evaluated(config: TrainConfig, data: "PreparedData") -> int:
    """Validation tokens of one training's evaluations."""
    validation, training = data.splits["validation"], config.training
    share = (
        1.0
        if training.evaluation_documents is None
        else min(1.0, training.evaluation_documents / len(validation))
    )
    return int(
        share * training.epochs * training.evaluations_per_epoch * int(validation.lengths.sum())
    )
