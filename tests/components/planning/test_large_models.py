"""The plan of decoders of 8B to 70B parameters: computed from their sizes, nothing is loaded."""

import pytest

from components.backbones import BackboneShape, backbone_shape
from components.config import ExperimentConfig
from components.planning.paper_table import BEGIN, MODELS, README, device_bytes, table
from components.planning.plan import Resources, make_plan, search_wanted
from tests.components.planning.test_plan import experiment

GIB = 1024**3


@pytest.fixture
def shape() -> BackboneShape:
    return backbone_shape(MODELS["Llama-3-70B"])


def test_sizes_are_those_of_the_models_names() -> None:
    # Without the output layer, which has as many parameters as the embedding.
    assert [round(backbone_shape(MODELS[name]).parameters / 1e9, 1) for name in MODELS] == [
        7.5,
        32.0,
        69.5,
    ]


def test_the_table_in_the_readme_is_the_one_that_is_computed() -> None:
    assert f"{BEGIN}\n\n{table()}\n" in README.read_text(encoding="utf-8")


def test_more_workers_of_stage_3_never_need_more(shape: BackboneShape) -> None:
    needed = [
        device_bytes(shape, tokens=8192, gpus=gpus, stage=3, checkpointing=True)
        for gpus in (1, 8, 64)
    ]
    assert needed == sorted(needed, reverse=True)


def test_a_stage_and_a_micro_batch_are_recommended_with_the_reason() -> None:
    plan = make_plan(
        search_wanted(large(num_workers=8)), MODELS["Llama-3-70B"], gpus(8, memory=80 * GIB)
    )
    told = plan.recommendation
    assert told is not None
    assert (told.stage, told.gradient_checkpointing) == (3, True)
    assert "shards" in told.reason and told.device_bytes < 80 * GIB


def test_whole_weights_are_recommended_where_they_fit() -> None:
    plan = make_plan(
        search_wanted(large(num_workers=8)), MODELS["Llama-3-8B"], gpus(8, memory=80 * GIB)
    )
    assert plan.recommendation is not None and plan.recommendation.stage == 2


def test_nothing_is_said_to_fit_a_gpu_that_is_not_known() -> None:
    plan = make_plan(
        search_wanted(large(num_workers=1)), MODELS["Llama-3-8B"], gpus(1, memory=None)
    )
    assert {point.fits for point in plan.points} == {None}
    assert plan.recommendation is None
    assert any("not known" in line for line in plan.advice)


def test_concurrent_trials_are_those_that_find_a_place() -> None:
    plan = make_plan(
        search_wanted(large(num_workers=2)), MODELS["Llama-3-8B"], gpus(8, memory=80 * GIB)
    )
    assert plan.concurrent_trials == 4


def gpus(count: int, *, memory: int | None) -> Resources:
    return Resources(
        source="test",
        cpus=64,
        gpus=count,
        memory_bytes=2048 * GIB,
        gpu_memory_bytes=memory,
        gpu_source="faked",
    )


def large(num_workers: int) -> ExperimentConfig:
    return experiment(
        backbone={"name_or_path": "x", "family": "decoder"},
        head={"pooling": "last"},
        data={"files": {"train": "x.jsonl"}, "max_tokens": 8192},
        training={"precision": "bf16", "micro_batch_size": 2},
        cluster={"num_workers": num_workers, "gpus_per_worker": 1.0},
        search={"space": {"seed": {"choice": [1, 2]}}, "concurrent_slots": 1},
    )
