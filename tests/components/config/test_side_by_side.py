"""Which searches may train trials side by side is known before anything starts."""

from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.config.hashes import config_sha256
from components.config.side_by_side import check_side_by_side, side_by_side_obstacle
from components.errors import ConfigError
from components.settings import set_path


def experiment(**changes: Any) -> ExperimentConfig:
    values: dict[str, Any] = {
        "name": "toy",
        "backbone": {"name_or_path": "a/b", "family": "longformer"},
        "adapter": {"placement": "one_way"},
        "head": {"pooling": "last"},
        "data": {"files": {"train": "x.jsonl"}},
        "search": {"trials_per_slot": 4},
    }
    for path, value in changes.items():
        set_path(values, path.replace("__", "."), value)
    return validate(ExperimentConfig, values)


def test_where_the_text_does_not_see_the_rows_trials_share_a_run() -> None:
    check_side_by_side(experiment())
    assert side_by_side_obstacle(experiment()) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"adapter__placement": "prefix"},
            r"^search\.trials_per_slot 4: prefix_propagation with adapter\.placement prefix: its "
            r"text sees what is trained .* set adapter\.placement to suffix .* or trials_per_slot "
            r"to 1\.$",
        ),
        (
            {
                "adapter": {"method": "lora"},
                "search__space": {"optimizer.learning_rate": {"choice": [0.1, 0.2]}},
            },
            r"trials_per_slot 4: lora: its text sees",
        ),
        ({"zero__stage": 3}, r"trials_per_slot 4: zero\.stage 3: .* set zero\.stage to 0, 1 or 2"),
        (
            {"training": {"gradient_checkpointing": True, "offload_activations": True}},
            r"training\.offload_activations .* set it to false",
        ),
        (
            {"training__feed_forward_tile_rows": 64},
            r"training\.feed_forward_tile_rows .* set it to null",
        ),
        (
            {"search__space": {"adapter.placement": {"choice": ["one_way", "prefix"]}}},
            r"the space has adapter\.placement = 'prefix', with which .* take these values out",
        ),
    ],
)
def test_what_cannot_is_refused_with_its_reason(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_side_by_side(experiment(**changes))
    check_side_by_side(experiment(**changes, search__trials_per_slot=1))


def test_a_search_is_continued_with_another_number_of_trials_in_a_slot() -> None:
    hashes = {config_sha256(experiment(search__trials_per_slot=count)) for count in (1, 4)}
    assert len(hashes) == 1
