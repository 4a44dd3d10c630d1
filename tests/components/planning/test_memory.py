"""The activation estimate against what autograd really keeps, and the laws of the other parts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from components.adapters import ClassificationHeadConfig, PrefixPropagationConfig, adapt
from components.backbones import BackboneShape, backbone_shape
from components.config import BackboneConfig, DataConfig, HeadConfig, TrainConfig
from components.config.training import TrainingConfig
from components.config.zero import ZeroConfig
from components.data.settings import FilesConfig
from components.planning.memory import activation_bytes, micro_batch_rows, worker_memory

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


def kept_bytes(backbone: Any) -> int:
    """Bytes of every tensor that the backward pass keeps, parameters left out."""
    model = adapt(
        backbone,
        PrefixPropagationConfig(prefix_length=PREFIX),
        ClassificationHeadConfig(num_labels=2, pooling="mean"),
    ).train()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.randint(3, 100, (2, TOKENS))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, labels=torch.tensor([0, 1]))
    return sum(size for size, _ in kept.values())


# A plan is asked whether it fits: within a factor of 1.5 either way is what it promises. Small
# layers carry relatively more small tensors.
FACTOR = 1.5
LARGER: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 512}


def test_longformer_activations_are_estimated_within_the_promised_factor(
    tiny_longformer: Callable[..., Any],
) -> None:
    backbone = tiny_longformer(**LARGER, attention_window=[32, 32])
    estimate = activation_bytes(train_config(), backbone_shape(backbone.config.to_dict()))
    measured = kept_bytes(backbone)
    assert measured / FACTOR < estimate < measured * FACTOR, (estimate, measured)


def test_fast_longformer_activations_are_estimated_within_the_promised_factor(
    tiny_longformer: Callable[..., Any],
) -> None:
    from components.backbones import family_named

    backbone = tiny_longformer(**LARGER, attention_window=[32, 32], hidden_dropout_prob=0.1)
    family_named("longformer").accelerate(backbone)
    estimate = activation_bytes(
        train_config(attention="auto"), backbone_shape(backbone.config.to_dict())
    )
    measured = kept_bytes(backbone)
    assert measured / FACTOR < estimate < measured * FACTOR, (estimate, measured)


def test_decoder_activations_are_estimated_within_the_promised_factor(
    tiny_decoder: Callable[..., Any],
) -> None:
    backbone = tiny_decoder(**LARGER)
    estimate = activation_bytes(
        train_config(family="decoder"), backbone_shape(backbone.config.to_dict())
    )
    measured = kept_bytes(backbone)
    assert measured / FACTOR < estimate < measured * FACTOR, (estimate, measured)


@pytest.fixture
def shape(tiny_longformer: Callable[..., Any]) -> BackboneShape:
    return backbone_shape(tiny_longformer().config.to_dict())


def test_only_stage_3_saves_weight_memory(shape: BackboneShape) -> None:
    weights = [
        worker_memory(train_config(stage=stage), shape, trainable=10, num_workers=8).weights
        for stage in range(4)
    ]
    assert weights[0] == weights[1] == weights[2] == 4 * shape.parameters


def test_each_stage_shards_more_of_what_is_trained(shape: BackboneShape) -> None:
    trained = [
        worker_memory(train_config(stage=stage), shape, trainable=1000, num_workers=2).trained
        for stage in range(4)
    ]
    assert trained == [16_000, 12_000, 10_000, 8_000]


def test_gradient_checkpointing_never_needs_more(shape: BackboneShape) -> None:
    assert activation_bytes(train_config(gradient_checkpointing=True), shape) < activation_bytes(
        train_config(), shape
    )


def test_a_token_budget_cuts_the_micro_batch_but_never_a_document() -> None:
    assert micro_batch_rows(train_config(micro_batch_size=8, tokens_per_batch=2 * TOKENS)) == 2 * (
        TOKENS + PREFIX
    )
    assert (
        micro_batch_rows(train_config(micro_batch_size=8, tokens_per_batch=10)) == TOKENS + PREFIX
    )
