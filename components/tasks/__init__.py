"""Tasks: one file holds all that is particular to one. `TASKS` is the table, read when a task is
asked for, so that an entry added while a program runs is known everywhere at once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.documents import Example, SplitName
from components.data.preparation import prepare as prepare_for
from components.data.preparation import split_examples as split_examples_for
from components.data.prepared import PreparedData
from components.data.settings import DataConfig
from components.errors import ArtifactError, ConfigError
from components.tasks.classification import CLASSIFICATION
from components.tasks.label_words import LABEL_WORDS
from components.tasks.language_modelling import LANGUAGE_MODELLING
from components.tasks.multiple_choice import MULTIPLE_CHOICE
from components.tasks.task import Direction, HeadConfig, HeadForm, Task, TaskHeadConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TASKS: dict[str, Task] = {
    "classification": CLASSIFICATION,
    "label_words": LABEL_WORDS,
    "language_modelling": LANGUAGE_MODELLING,
    "multiple_choice": MULTIPLE_CHOICE,
}
"""Value of data.task -> everything that is particular to the task."""


def task_named(name: str) -> Task:
    """The task listed under `name`. Raises ConfigError for a name that is not listed."""
    if name not in TASKS:
        raise ConfigError(f"data.task '{name}' is unknown. Known: {', '.join(TASKS)}.")
    return TASKS[name]


def stored_task(adapter: Mapping[str, Any]) -> Task:
    """The task of an adapter_config.json. Raises ArtifactError for one that is not listed."""
    name = (adapter.get("head") or {}).get("task", "classification")
    if name not in TASKS:
        raise ArtifactError(
            f"The adapter has task {name!r}, which this version does not know. Known: "
            f"{', '.join(TASKS)}. Use a newer prefixprop."
        )
    return TASKS[name]


def metric_directions() -> dict[str, Direction]:
    """Every metric that can choose the best evaluation, of any task, and which direction is
    better.
    """
    return {name: better for task in TASKS.values() for name, better in task.metrics.items()}


def prepare(
    config: DataConfig, tokenizer: "PreTrainedTokenizerBase", *, tokenizer_id: str, cache_path: Path
) -> PreparedData:
    """Validated, tokenised documents of the task that the settings name, from the cache
    (components/data/preparation.py).
    """
    return prepare_for(
        config,
        tokenizer,
        task=task_named(config.task),
        tokenizer_id=tokenizer_id,
        cache_path=cache_path,
    )


def split_examples(
    config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
) -> dict[SplitName, list[Example]]:
    """The examples of every split with their texts (components/data/preparation.py)."""
    return split_examples_for(config, tokenizer, task=task_named(config.task))


__all__ = [
    "TASKS",
    "HeadConfig",
    "HeadForm",
    "Task",
    "TaskHeadConfig",
    "metric_directions",
    "prepare",
    "split_examples",
    "stored_task",
    "task_named",
]
