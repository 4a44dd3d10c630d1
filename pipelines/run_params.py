"""The params that runs carry in the tracker: what people filter and compare trainings by."""

from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from components.config import ExperimentConfig, TrainConfig
from components.settings.paths import config_paths

if TYPE_CHECKING:
    from components.config.search import Domain
    from components.data import PreparedData

KEY_PARAMS = {
    "backbone": "backbone.name_or_path",
    "method": "adapter.method",
    "prefix_length": "adapter.prefix_length",
    "learning_rate": "optimizer.learning_rate",
    "pooling": "head.pooling",
    "max_tokens": "data.max_tokens",
    "epochs": "training.epochs",
    "precision": "training.precision",
    "zero_stage": "zero.stage",
    "seed": "seed",
}
"""What people filter and compare runs by, and the config path it is the value of."""
BATCH_SIZE_PATHS = {"training.micro_batch_size", "training.gradient_accumulation_steps"}


def param_name(path: str) -> str:
    """A setting's one name as a param, searched or not: its last part, where that names no other
    setting too.
    """
    known = next((name for name, other in KEY_PARAMS.items() if other == path), None)
    if known is not None:
        return known
    name = path.rpartition(".")[2]
    others = [other for other in config_paths(TrainConfig) if other.rpartition(".")[2] == name]
    return path if len(others) > 1 or name in KEY_PARAMS else name


def point_params(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point of the space as params."""
    return {param_name(path): value for path, value in point.items()}


def key_params(config: TrainConfig, num_workers: int) -> dict[str, Any]:
    """The settings that people filter and compare runs by; copied to every trial because MLflow's
    children do not inherit them.
    """
    values = {name: attrgetter(path)(config) for name, path in KEY_PARAMS.items()}
    return values | {
        "train_batch_size": config.training.batch_size(num_workers),
        "num_workers": num_workers,
    }


def search_params(config: ExperimentConfig) -> dict[str, Any]:
    """For the search's own run: what is searched stands in place of the value that only its trials
    have.
    """
    searched = {
        param_name(path): searched_words(domain) for path, domain in config.search.space.items()
    }
    params = key_params(config, config.cluster.num_workers)
    if BATCH_SIZE_PATHS & set(config.search.space):
        del params["train_batch_size"]
    return params | searched


def searched_words(domain: "Domain") -> str:
    """`4, 8, 16` or `1e-05 to 0.01 (log)`."""
    values: Any
    ((kind, values),) = domain.model_dump(mode="json").items()
    if kind in ("choice", "grid"):
        return ", ".join(str(value) for value in values)
    low, high = values
    return f"{low:g} to {high:g}" + (" (log)" if kind == "log_uniform" else "")


def truncation_params(data: "PreparedData") -> dict[str, int]:
    """How many training documents there are, and how many of them were cut."""
    train = data.report.splits["train"]
    return {"train_documents": train.documents, "train_truncated_documents": train.truncated}
