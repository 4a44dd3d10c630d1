"""The plan of decoders of 8B to 70B parameters: computed from their sizes, nothing is loaded."""

from typing import Any

import pytest

from components.backbones import BackboneShape, backbone_shape
from components.config import ExperimentConfig
from components.planning import Resources, make_plan, search_wanted
from components.planning.memory import worker_memory
from components.planning.paper_table import BEGIN, LADDER, MODELS, README, device_bytes, table
from components.planning.recommend import TILE_ROWS, Rung
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
        device_bytes(shape, tokens=8192, gpus=gpus, stage=3, rung=LADDER[1][1])
        for gpus in (1, 8, 64)
    ]
    assert needed == sorted(needed, reverse=True)


def test_a_stage_and_a_micro_batch_are_recommended_with_the_reason() -> None:
    plan = make_plan(
        search_wanted(large(num_workers=8)), MODELS["Llama-3-70B"], gpus(8, memory=80 * GIB)
    )
    told = plan.recommendation
    assert told is not None
    assert (told.stage, told.rung) == (3, Rung(True, False, None))
    assert "shards" in told.reason and told.device_bytes < 80 * GIB


@pytest.mark.parametrize(
    ("tokens", "rung"),
    [
        (8192, Rung(False, False, None)),
        (32_768, Rung(True, False, None)),
        (131_072, Rung(True, True, None)),
        (262_144, Rung(True, True, TILE_ROWS)),
    ],
)
def test_the_ladder_is_climbed_as_documents_grow(tokens: int, rung: Rung) -> None:
    config = large(num_workers=1, max_tokens=tokens, micro_batch_size=1)
    told = make_plan(
        search_wanted(config), MODELS["Llama-3-8B"], gpus(1, memory=80 * GIB)
    ).recommendation
    assert told is not None
    assert (told.stage, told.rung) == (2, rung)
    assert ("tiles" in told.reason, "main memory" in told.reason) == (
        rung.feed_forward_tile_rows is not None,
        rung.offload_activations,
    )


def test_what_is_offloaded_is_main_memory_of_the_worker(shape: BackboneShape) -> None:
    config = large(num_workers=1, gradient_checkpointing=True)
    asked = config.training.model_copy(update={"offload_activations": True})
    plain, moved = (
        worker_memory(each, shape, trainable=1000, num_workers=1, gpu=True)
        for each in (config, config.model_copy(update={"training": asked}))
    )
    inputs = 2 * 8192 * 2 * shape.hidden  # sequences, rows without the prefix's, bf16
    assert moved.host - plain.host >= shape.layers * inputs
    assert plain.device - moved.device >= (shape.layers - 1) * inputs


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


def large(num_workers: int, max_tokens: int = 8192, **training: Any) -> ExperimentConfig:
    return experiment(
        backbone={"name_or_path": "x", "family": "decoder"},
        head={"pooling": "last"},
        data={"files": {"train": "x.jsonl"}, "max_tokens": max_tokens},
        training={"precision": "bf16", "micro_batch_size": 2, **training},
        cluster={"num_workers": num_workers, "gpus_per_worker": 1.0},
        search={"space": {"seed": {"choice": [1, 2]}}, "concurrent_slots": 1},
    )
