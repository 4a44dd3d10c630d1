"""A comparison is refused whole, with path and fix, before anything starts."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config import config_sha256, load_experiment
from components.config.comparison import load_comparison
from components.errors import ConfigError

VALUES: dict[str, Any] = {
    "name": "toy",
    "base": {
        "backbone": {"name_or_path": "x", "family": "longformer"},
        "training": {"epochs": 2, "metric": "validation/macro_f1"},
    },
    "tasks": {
        "a": {"data": {"files": {"train": "a.jsonl"}}},
        "b": {"data": {"files": {"train": "b.jsonl"}, "max_tokens": 512}},
    },
    "methods": {
        "propagation": {
            "adapter": {"method": "prefix_propagation"},
            "points": [
                {"optimizer.learning_rate": 0.01, "adapter.prefix_length": 4},
                {"optimizer.learning_rate": 0.001},
            ],
        },
        "head": {
            "adapter": {"method": "head_only"},
            "points": [{"optimizer.learning_rate": 0.01}, {"optimizer.learning_rate": 0.001}],
        },
    },
    "search": {"points": 2, "settings": {"training": {"epochs": 1}}},
    "seeds": [1, 2],
}


def write(folder: Path, **changes: Any) -> str:
    from components.settings import set_path

    values = yaml.safe_load(yaml.safe_dump(VALUES, sort_keys=False))
    for path, value in changes.items():
        set_path(values, path.replace("__", "."), value)
    file = folder / "toy.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(file)


def test_a_cell_takes_base_task_search_settings_and_point_in_this_order(tmp_path: Path) -> None:
    config = load_comparison(write(tmp_path))
    point = config.methods["propagation"].points[0]
    searching = config.train_config("b", "propagation", point=point, seed=10, searching=True)
    final = config.train_config("b", "propagation", point=point, seed=1, searching=False)
    assert (searching.training.epochs, final.training.epochs) == (1, 2)
    assert (
        final.seed,
        final.data.max_tokens,
        final.adapter.prefix_length,
        final.optimizer.learning_rate,
    ) == (1, 512, 4, 0.01)
    assert searching.training.metric == "validation/macro_f1"


def test_making_cells_changes_no_other_cell(tmp_path: Path) -> None:
    config = load_comparison(write(tmp_path))

    def sha(task: str, method: str) -> str:
        return config_sha256(
            config.train_config(
                task, method, point={"optimizer.learning_rate": 0.01}, seed=1, searching=False
            )
        )

    before = sha("a", "head")
    sha("b", "propagation")
    config.train_config("a", "head", point={"optimizer.learning_rate": 0.5}, seed=2, searching=True)
    assert sha("a", "head") == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search__points": 3}, r"methods.propagation.points: 2 points, but search.points is 3"),
        ({"seeds": [1, 1]}, "holds a seed twice"),
        ({"base__seed": 3}, "base.seed: the comparison sets it"),
        (
            {"tasks__a__adapter": {"prefix_length": 3}},
            "tasks.a.adapter.prefix_length: the comparison sets it",
        ),
        ({"base__training__epoch": 3}, "Did you mean 'base.training.epochs'"),
        ({"tasks__b__zero": {"stage": 3}}, "must be the same in all tasks"),
        ({"methods__head__adapter": {"method": "prompt"}}, "adapter.method .* is unknown"),
        (
            {"methods__head__points": [{"adapter.prefix_length": 2}, {"adapter.prefix_length": 3}]},
            "task a, method head, point adapter.prefix_length=2",
        ),
        (
            {"methods__head__points": [{"data.max_tokens": 2}, {"data.max_tokens": 3}]},
            "is the same for all methods",
        ),
        (
            {
                "methods__head__points": [
                    {"optimizer.learning_rat": 2},
                    {"optimizer.learning_rat": 3},
                ]
            },
            "Did you mean 'methods.head.points: optimizer.learning_rate'",
        ),
        (
            {"methods__head__points": [{"training.epochs": 2}, {"training.epochs": 3}]},
            "part of the budget",
        ),
        (
            {"methods__head__points": [{"optimizer.learning_rate": 2.0}] * 2},
            "methods.head.points holds a point twice",
        ),
        ({"tasks__a__data": {"max_tokens": 3}}, "give exactly one of files, hub, installed_source"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_comparison(write(tmp_path, **changes))


def test_overrides_reach_every_part(tmp_path: Path) -> None:
    sets = [
        "base.training.epochs=5",
        "tasks.a.data.files.train=c.jsonl",
        "search.settings.training.epochs=3",
        "seeds=[7]",
    ]
    config = load_comparison(
        write(tmp_path), [*sets, "methods.propagation.adapter.prefix_length=2"]
    )
    point = config.methods["propagation"].points[1]
    cell = config.train_config("a", "propagation", point=point, seed=7, searching=False)
    assert (cell.training.epochs, cell.adapter.prefix_length, config.seeds) == (5, 2, (7,))
    assert cell.data.files is not None and cell.data.files.train == "c.jsonl"
    assert (
        config.train_config("a", "propagation", point=point, seed=7, searching=True).training.epochs
        == 3
    )


@pytest.mark.parametrize(
    "override",
    ["base.training.epoch=5", "tasks.a.data.file=3", "search.settings.training.epoch=1", "seed=3"],
)
def test_an_unknown_override_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="Unknown config path"):
        load_comparison(write(tmp_path), [override])


def test_a_comparison_is_no_experiment_and_the_other_way_round(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prefixprop compare"):
        load_experiment(write(tmp_path))
    path = tmp_path / "experiment.yaml"
    path.write_text("name: toy\n")
    with pytest.raises(ConfigError, match=r"prefixprop search .*experiment\.yaml"):
        load_comparison(path)
