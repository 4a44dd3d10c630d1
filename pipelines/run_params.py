"""The params that runs carry in the tracker: what people filter and compare trainings by."""

import json
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from components.config import ExperimentConfig, TrainConfig

if TYPE_CHECKING:
    from components.data import PreparedData

KEY_PARAMS = {
    "backbone": "backbone.name_or_path",
    "method": "adapter.method",
    "adapter.prefix_length": "adapter.prefix_length",
    "optimizer.learning_rate": "optimizer.learning_rate",
    "pooling": "head.pooling",
    "max_tokens": "data.max_tokens",
    "epochs": "training.epochs",
    "precision": "training.precision",
    "zero_stage": "zero.stage",
    "seed": "seed",
}
"""What people filter and compare runs by, and the config path it is the value of."""
BATCH_SIZE_PATHS = {"training.micro_batch_size", "training.gradient_accumulation_steps"}


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
        path: json.dumps(domain.model_dump(mode="json"))
        for path, domain in config.search.space.items()
    }
    params = {
        name: value
        for name, value in key_params(config, config.cluster.num_workers).items()
        if KEY_PARAMS.get(name) not in searched
        and not (name == "train_batch_size" and BATCH_SIZE_PATHS & set(searched))
    }
    return params | searched


def truncation_params(data: "PreparedData") -> dict[str, int]:
    """How many training documents there are, and how many of them were cut."""
    train = data.report.splits["train"]
    return {"train_documents": train.documents, "train_truncated_documents": train.truncated}
