"""Laws of the plan's memory; test_activations.py holds activations against live tensors."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.adapters import PrefixPropagationConfig
from components.adapters.methods import FullFineTuningConfig
from components.backbones import BackboneShape, backbone_shape
from components.config import BackboneConfig, DataConfig, HeadConfig, TrainConfig
from components.config.training import TrainingConfig
from components.config.zero import ZeroConfig
from components.data.settings import FilesConfig
from components.planning.memory import WorkerMemory, micro_batch_sequences, worker_memory
from components.planning.trained_memory import trained_memory

TOKENS, PREFIX = 96, 4


def train_config(
    family: Any = "longformer", attention: Any = "stock", stage: int = 2, **training: Any
) -> TrainConfig:
    return TrainConfig(
        backbone=BackboneConfig(name_or_path="x", family=family, attention=attention),
        adapter=PrefixPropagationConfig(prefix_length=PREFIX),
        head=HeadConfig(pooling="mean"),
        data=DataConfig(files=FilesConfig(train="x.jsonl"), max_tokens=TOKENS),
        training=TrainingConfig(**{"micro_batch_size": 2, **training}),
        zero=ZeroConfig(stage=stage),
    )


@pytest.fixture
def shape(tiny_longformer: Callable[..., Any]) -> BackboneShape:
    return backbone_shape(tiny_longformer().config.to_dict())


def test_only_stage_3_saves_weight_memory(shape: BackboneShape) -> None:
    weights = [
        worker_memory(train_config(stage=stage), shape, trainable=10, num_workers=8).weights
        for stage in range(4)
    ]
    assert weights[0] == weights[1] == weights[2] == 4 * shape.parameters


def test_weights_that_stay_quantised_take_their_bits_and_one_module_is_written_out(
    shape: BackboneShape,
) -> None:
    nf4 = replace(shape, linear_bits=4.5)
    plain, small = (
        worker_memory(train_config(), each, trainable=10, num_workers=1) for each in (shape, nf4)
    )
    assert plain.weights - small.weights == shape.linear_parameters * (32 - 4.5) / 8
    assert small.activations >= plain.activations + 4 * shape.largest_linear


def memory(shape: BackboneShape, workers: int = 1, **settings: Any) -> WorkerMemory:
    gpu = settings.pop("gpu", False)
    return worker_memory(
        train_config(**settings), shape, trainable=1000, num_workers=workers, gpu=gpu
    )


def test_each_stage_keeps_less_of_what_is_trained() -> None:
    def stays(stage: int) -> int:
        return trained_memory(1000, stage=stage, num_workers=8, bucket_elements=0, gpu=False).stays

    assert stays(1) == stays(2) > stays(3)
    assert stays(0) > stays(1)


def test_on_one_worker_stage_0_keeps_the_least_of_what_is_trained() -> None:
    """From stage 1 on DeepSpeed copies even float32 parameters."""
    least, *others = (
        trained_memory(1000, stage=stage, num_workers=1, bucket_elements=0, gpu=False).stays
        for stage in range(4)
    )
    assert all(least < other for other in others)


def test_a_bucket_takes_its_whole_size_on_a_gpu_alone(shape: BackboneShape) -> None:
    on_gpu, on_cpu = (
        trained_memory(1000, stage=2, num_workers=1, bucket_elements=10**6, gpu=gpu).bucket
        for gpu in (True, False)
    )
    assert (on_gpu, on_cpu) == (4_000_000, 4_000)


def test_gradient_checkpointing_never_needs_more(shape: BackboneShape) -> None:
    assert memory(shape, gradient_checkpointing=True).activations < memory(shape).activations


def test_more_rows_and_wider_numbers_never_need_less(shape: BackboneShape) -> None:
    assert memory(shape).activations < memory(shape, micro_batch_size=4).activations
    assert memory(shape, attention="auto", precision="bf16", gpu=True).device < (
        memory(shape, attention="auto", gpu=True).device
    )


def test_weights_that_are_trained_are_counted_once(shape: BackboneShape) -> None:
    config = train_config().model_copy(update={"adapter": FullFineTuningConfig()})
    whole = worker_memory(config, shape, trainable=shape.parameters, num_workers=1)
    assert whole.weights == 0 and whole.host == 4 * shape.parameters


def test_a_token_budget_cuts_the_micro_batch_but_never_a_document() -> None:
    assert micro_batch_sequences(train_config(micro_batch_size=8, tokens_per_batch=2 * TOKENS)) == 2
    assert micro_batch_sequences(train_config(micro_batch_size=8, tokens_per_batch=10)) == 1


def test_stored_numbers_count_as_their_config_json_says(
    tiny_longformer: Callable[..., Any],
) -> None:
    values = tiny_longformer().config.to_dict()
    stored, single = (
        memory(backbone_shape({**values, "dtype": dtype}), precision="stored").weights
        for dtype in ("bfloat16", "float32")
    )
    assert 2 * stored == single


def test_stage_3_gathers_less_than_a_layer(shape: BackboneShape) -> None:
    shard = memory(shape, workers=8, stage=3).weights
    assert shape.parameters / 8 * 4 < shard < shape.parameters / 8 * 4 + 4 * shape.largest_layer
