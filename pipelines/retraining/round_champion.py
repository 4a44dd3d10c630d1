"""The experiment of a retraining: the documents that were written down, and a small search round
the champion's point that starts from its values.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.config import ExperimentConfig, resolved, validate
from components.config.retraining import RoundChampionConfig
from components.config.space import check_space
from components.data.settings import ColumnsConfig

SOURCES = ("files", "hub", "installed_source", "letters", "needle", "qangaroo")


def on_snapshot(config: ExperimentConfig, snapshot: Path) -> ExperimentConfig:
    """The experiment on a snapshot's documents."""
    values = resolved(config)
    data = values["data"] | dict.fromkeys(SOURCES)
    files = {split: str(snapshot / f"{split}.jsonl") for split in ("train", "validation", "test")}
    values["data"] = data | {
        "files": files,
        "columns": ColumnsConfig().model_dump(mode="json"),
        "validation_from": "train",
    }
    return validate(ExperimentConfig, values)


def round_champion(
    config: ExperimentConfig,
    point: Mapping[str, Any],
    champion: Path,
    settings: RoundChampionConfig,
) -> ExperimentConfig:
    """The experiment with the search replaced by one round the champion. `point`: values of the
    champion's training by dotted path (learning rate, prefix length); `champion`: its folder.
    """
    values = resolved(config)
    space: dict[str, Any] = {}
    rate = point.get("optimizer.learning_rate")
    if rate is not None:
        space["optimizer.learning_rate"] = {
            "grid": sorted({float(rate) * factor for factor in settings.learning_rate_factors})
        }
    length = point.get("adapter.prefix_length")
    if length:
        lengths = {max(1, round(length * factor)) for factor in settings.prefix_length_factors}
        space["adapter.prefix_length"] = {"grid": sorted(lengths)}
    for path, value in point.items():
        if path not in space:
            space[path] = {"grid": [value]}
    values["search"] |= {"searcher": "grid", "space": space}
    values["search"].pop("num_trials", None)
    if settings.warm_start:
        values["training"]["warm_start"] = str(champion)
    made = validate(ExperimentConfig, values)
    check_space(made)
    return made


def point_of(champion: Path, config_of_run: Mapping[str, Any]) -> dict[str, Any]:
    """The champion's values of what is searched round it. `config_of_run`: the resolved
    configuration that its run keeps.
    """
    from components.adapters import read_adapter_config

    adapter = read_adapter_config(champion)
    found = {"optimizer.learning_rate": config_of_run["optimizer"]["learning_rate"]}
    if adapter.get("prefix_length"):
        found["adapter.prefix_length"] = int(adapter["prefix_length"])
    return found
