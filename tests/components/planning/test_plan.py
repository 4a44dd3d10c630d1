"""What a plan counts, and what it refuses."""

from collections.abc import Callable
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.errors import ConfigError
from components.planning import (
    Plan,
    Resources,
    check_feasible,
    check_resources,
    make_plan,
    search_wanted,
    trainings_of,
)
from components.planning.counts import number_of_trials
from components.planning.paper_table import MODELS

LLAMA = MODELS["Llama-3-8B"]


@pytest.fixture
def longformer_json(tiny_longformer: Callable[..., Any]) -> dict[str, Any]:
    values: dict[str, Any] = tiny_longformer().config.to_dict()
    return values


def experiment(**sections: Any) -> ExperimentConfig:
    values: dict[str, Any] = {
        "name": "x",
        "backbone": {"name_or_path": "x", "family": "longformer"},
        "data": {"files": {"train": "x.jsonl"}, "max_tokens": 100},
        "search": {
            "space": {
                "adapter.prefix_length": {"choice": [4, 8]},
                "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]},
            }
        },
    }
    return validate(ExperimentConfig, values | sections)


def feasible(config: ExperimentConfig, backbone_json: dict[str, Any]) -> None:
    check_feasible(trainings_of(config), backbone_json)


def plan_of(
    config: ExperimentConfig, backbone_json: dict[str, Any], resources: Resources | None = None
) -> Plan:
    return make_plan(search_wanted(config), backbone_json, resources)


def test_the_last_usable_position_is_usable_and_the_next_is_not(
    longformer_json: dict[str, Any],
) -> None:
    usable = longformer_json["max_position_embeddings"] - longformer_json["pad_token_id"] - 1
    feasible(experiment(data={"files": {"train": "x"}, "max_tokens": usable - 8}), longformer_json)
    with pytest.raises(
        ConfigError, match=r"^search\.space\.adapter\.prefix_length = 8: data\.max_tokens"
    ):
        feasible(
            experiment(data={"files": {"train": "x"}, "max_tokens": usable - 7}), longformer_json
        )


def test_a_decoder_must_pool_a_row_that_sees_the_document(tiny_decoder: Callable[..., Any]) -> None:
    values = tiny_decoder().config.to_dict()
    decoder = {"name_or_path": "x", "family": "decoder"}
    feasible(experiment(backbone=decoder, head={"pooling": "last"}), values)
    with pytest.raises(ConfigError, match=r"head\.pooling prefix reads.*use last or mean"):
        feasible(experiment(backbone=decoder), values)


def test_slots_that_can_never_be_placed_are_refused() -> None:
    config = experiment(cluster={"num_workers": 2, "cpus_per_worker": 2.0})
    check_resources(config.cluster, slots=1, cpus=4, gpus=0)
    with pytest.raises(
        ConfigError,
        match=(
            r"^cluster\.cpus_per_worker: 1 slot\(s\) x 2 worker\(s\) x 2 CPU = 4, but the cluster "
            r"has 3"
        ),
    ):
        check_resources(config.cluster, slots=1, cpus=3, gpus=0)


@pytest.mark.parametrize(
    ("search", "trials"),
    [
        ({"space": {"seed": {"integer": [1, 9]}}, "num_trials": 5}, 5),
        ({"space": {"seed": {"choice": [1, 2]}}, "num_trials": 5}, 2),
        (
            {
                "space": {"seed": {"grid": [1, 2]}, "optimizer.eps": {"uniform": [0.1, 0.2]}},
                "num_trials": 5,
            },
            10,
        ),
        (
            {
                "space": {"seed": {"choice": [1, 2]}, "adapter.prefix_length": {"integer": [1, 3]}},
                "searcher": "grid",
                "num_trials": 5,
            },
            6,
        ),
    ],
)
def test_trials_are_counted_as_the_searcher_makes_them(search: dict[str, Any], trials: int) -> None:
    assert number_of_trials(experiment(search=search)) == trials


def test_values_that_change_no_size_share_one_point(longformer_json: dict[str, Any]) -> None:
    plan = plan_of(experiment(), longformer_json)
    assert [point.prefix_length for point in plan.points] == [4, 8]
    assert plan.num_labels is None
    assert plan.steps_per_trial is None


def test_classes_and_an_upper_bound_of_steps_are_known_for_installed_source(
    longformer_json: dict[str, Any],
) -> None:
    data = {
        "installed_source": {"libraries": ["a", "b", "c"], "documents_per_library": 10},
        "max_tokens": 100,
    }
    plan = plan_of(
        experiment(data=data, training={"epochs": 2, "micro_batch_size": 4}), longformer_json
    )
    assert plan.num_labels == 3
    assert plan.steps_per_trial == 2 * 6  # 30 documents x .85 x .85 = 21.7 -> 22 -> 6 steps of 4


def test_steps_and_evaluations_are_those_of_the_longest_trial(
    longformer_json: dict[str, Any],
) -> None:
    data = {
        "installed_source": {"libraries": ["a", "b", "c"], "documents_per_library": 10},
        "max_tokens": 100,
    }
    space = {"training.epochs": {"choice": [1, 5]}}
    assert (
        plan_of(
            experiment(data=data, training={"max_steps": 1000}, search={"space": space}),
            longformer_json,
        ).steps_per_trial
        == 5 * 6
    )
    cut = plan_of(
        experiment(
            data=data,
            training={"max_steps": 7, "epochs": 10},
            search={"space": {"seed": {"choice": [1]}}},
        ),
        longformer_json,
    )
    assert (cut.steps_per_trial, cut.evaluations_per_trial) == (7, 2)
    assert any("ASHA will never stop one" in line for line in cut.advice) is False
    unknown = plan_of(
        experiment(training={"max_steps": 7, "epochs": 10}, search={"space": space}),
        longformer_json,
    )
    assert (unknown.steps_per_trial, unknown.evaluations_per_trial) == (7, 5)


def test_memory_is_that_of_the_largest_combination(longformer_json: dict[str, Any]) -> None:
    space = {
        "adapter.prefix_length": {"choice": [4, 20]},
        "training.micro_batch_size": {"choice": [1, 8]},
    }
    plan = plan_of(experiment(search={"space": space}), longformer_json)
    largest = max(plan.points, key=lambda point: point.memory.total)
    assert (largest.prefix_length, largest.micro_batch_size) == (20, 8) and len(plan.points) == 4


def test_stage_3_is_advised_against_where_the_backbone_fits(
    longformer_json: dict[str, Any],
) -> None:
    room = Resources(source="test", cpus=4, gpus=0, memory_bytes=64 * 1024**3)
    assert any(
        "zero.stage 3" in line
        for line in plan_of(experiment(zero={"stage": 3}), longformer_json, room).advice
    )
    assert not plan_of(experiment(zero={"stage": 2}), longformer_json, room).advice


def test_too_little_memory_is_said_with_what_helps(longformer_json: dict[str, Any]) -> None:
    advice = plan_of(
        experiment(), longformer_json, Resources(source="test", cpus=4, gpus=0, memory_bytes=1024)
    ).advice
    assert any("gradient_checkpointing" in line for line in advice)


def test_asha_that_cannot_stop_anything_is_said(longformer_json: dict[str, Any]) -> None:
    advice = plan_of(experiment(training={"epochs": 1}), longformer_json).advice
    assert any("ASHA will never stop" in line for line in advice)


def test_tiles_are_refused_where_there_is_nothing_to_tile(longformer_json: dict[str, Any]) -> None:
    tiled = {"training": {"feed_forward_tile_rows": 64}}
    with pytest.raises(ConfigError, match=r"feed_forward_tile_rows: a longformer has no"):
        feasible(experiment(**tiled), longformer_json)
    decoder: dict[str, Any] = {
        "backbone": {"name_or_path": "x", "family": "decoder"},
        "head": {"pooling": "last"},
        "search": {"space": {"seed": {"choice": [1, 2]}}},
        **tiled,
    }
    feasible(experiment(**decoder), LLAMA)
    with pytest.raises(ConfigError, match="trained feed-forward part needs all its rows"):
        feasible(experiment(**decoder, adapter={"method": "full_fine_tuning"}), LLAMA)
    inside = {"method": "lora", "targets": ["q_proj", "down_proj"]}
    with pytest.raises(ConfigError, match="trains down_proj, which is inside of one"):
        feasible(experiment(**decoder, adapter=inside), LLAMA)
    feasible(experiment(**decoder, adapter={"method": "lora"}), LLAMA)
    with pytest.raises(ConfigError, match="method san scales linear modules inside of one"):
        feasible(experiment(**decoder, adapter={"method": "san"}), LLAMA)
    mixtral = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    with pytest.raises(ConfigError, match="experts are asked for all rows at once"):
        feasible(experiment(**decoder), mixtral)


def test_activations_are_offloaded_from_gpus_alone_and_recomputed_ones_alone(
    longformer_json: dict[str, Any],
) -> None:
    training = {"offload_activations": True, "gradient_checkpointing": True}
    with pytest.raises(ConfigError, match=r"offload_activations: activations of a CPU"):
        plan_of(experiment(training=training), longformer_json)
    plan_of(experiment(training=training, cluster={"gpus_per_worker": 1.0}), longformer_json)
    with pytest.raises(ConfigError, match="set gradient_checkpointing to true"):
        experiment(training={"offload_activations": True})


def test_what_kept_states_take_on_disk_is_told() -> None:
    sections: dict[str, Any] = {
        "backbone": {"name_or_path": "x", "family": "decoder"},
        "adapter": {"placement": "suffix"},
        "head": {"pooling": "last"},
        "training": {"precision": "bf16", "text_states": "kept"},
    }
    # 32 layers, 8 key/value heads of 128, two bytes.
    assert plan_of(experiment(**sections), LLAMA).states_bytes_per_token == 2 * 32 * 1024 * 2
    sections["training"] = {}
    assert plan_of(experiment(**sections), LLAMA).states_bytes_per_token is None


def test_keeping_states_is_advised_where_documents_would_be_read_again() -> None:
    sections: dict[str, Any] = {
        "backbone": {"name_or_path": "x", "family": "decoder"},
        "adapter": {"placement": "suffix"},
        "head": {"pooling": "last"},
        "training": {"precision": "bf16", "epochs": 3},
        "search": {"searcher": "random", "num_trials": 4, "trials_per_slot": 2},
    }

    def advice(**changed: dict[str, Any]) -> str:
        merged = {name: values | changed.get(name, {}) for name, values in sections.items()}
        return " ".join(plan_of(experiment(**merged), LLAMA).advice)

    assert (
        "text_states=kept would read each training document once instead of up to 6 times, and "
        "keep 128.0 KiB for each of their tokens" in advice()
    )
    assert "up to 12 times" in advice(search={"trials_per_slot": 1})
    once = advice(training={"epochs": 1}, search={"num_trials": 2})
    assert "text_states=kept" not in once
    assert "text_states=kept" not in advice(training={"text_states": "kept"})
    assert "text_states=kept" not in advice(
        adapter={"placement": "prefix"}, search={"trials_per_slot": 1}
    )


def test_a_suffix_needs_less_memory_than_a_prefix_and_a_text_s_states_are_counted() -> None:
    """Reading keeps keys and values of all layers and one layer at work; nothing for a backward
    pass through the text.
    """
    common: dict[str, Any] = {
        "backbone": {"name_or_path": "x", "family": "decoder"},
        "head": {"pooling": "last"},
        "data": {"files": {"train": "x.jsonl"}, "max_tokens": 4096},
        "training": {"precision": "bf16", "micro_batch_size": 1},
    }
    found = {}
    for placement in ("prefix", "suffix"):
        plan = plan_of(experiment(**common, adapter={"placement": placement}), LLAMA)
        found[placement] = max(point.memory.activations for point in plan.points)
    states = 4096 * 2 * 32 * 1024 * 2
    assert states < found["suffix"] < 0.2 * found["prefix"]


def test_states_that_are_kept_do_not_pass_where_layers_are_recomputed() -> None:
    common: dict[str, Any] = {
        "backbone": {"name_or_path": "x", "family": "decoder"},
        "adapter": {"placement": "suffix"},
        "head": {"pooling": "last"},
    }

    def instants(**training: Any) -> Any:
        plan = plan_of(experiment(**common, training=training), LLAMA)
        return plan.points[0].memory.instants

    assert "rows meet the text" in instants(gradient_checkpointing=True)
    kept = instants(gradient_checkpointing=True, text_states="kept")
    assert kept == instants(text_states="kept")


def one_way(**search: Any) -> ExperimentConfig:
    return experiment(
        adapter={"placement": "one_way"},
        head={"pooling": "last"},
        search={"num_trials": 9} | search,
    )


def test_trials_side_by_side_take_the_weights_once_and_all_else_each(
    longformer_json: dict[str, Any],
) -> None:
    alone, four = (
        plan_of(one_way(trials_per_slot=count), longformer_json).points[0].memory
        for count in (1, 4)
    )
    assert four.weights == alone.weights and four.process == alone.process
    assert four.trained == 4 * alone.trained
    # Their texts are read one after the other.
    assert alone.activations < four.activations <= 4 * alone.activations


def test_a_plan_counts_all_trials_that_are_at_work_at_the_same_time(
    longformer_json: dict[str, Any],
) -> None:
    room = Resources(source="here", cpus=3.0, memory_bytes=2**40)
    told = plan_of(one_way(trials_per_slot=4), longformer_json, room)
    assert told.trials_per_slot == 4 and told.concurrent_trials == 12


def test_side_by_side_is_offered_where_trials_share_a_text_and_fit(
    longformer_json: dict[str, Any],
) -> None:
    def offers(config: ExperimentConfig, memory_bytes: int) -> list[str]:
        room = Resources(source="here", cpus=2.0, memory_bytes=memory_bytes)
        told = plan_of(config, longformer_json, room)
        return [line for line in told.advice if "search.trials_per_slot" in line]

    (offer,) = offers(one_way(), 2**40)
    assert offer.startswith("search.trials_per_slot=8 would train 8 trials side by side")
    alone = plan_of(one_way(), longformer_json).points[0].memory.total
    assert offers(one_way(), alone) == []  # one fits, two do not
    assert offers(one_way(trials_per_slot=2), 2**40) == []
    assert offers(experiment(), 2**40) == []


def test_where_trials_cannot_share_a_run_the_plan_says_why(longformer_json: dict[str, Any]) -> None:
    told = plan_of(experiment(), longformer_json)
    assert told.side_by_side_obstacle is not None
    assert "its text sees what is trained" in told.side_by_side_obstacle
    assert plan_of(one_way(), longformer_json).side_by_side_obstacle is None
