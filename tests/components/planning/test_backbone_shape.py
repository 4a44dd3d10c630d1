"""Counts from config.json equal the counts of the live models. Not covered: models with sliding
windows or mixtures of experts (no family reads them).
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from components.adapters import ClassificationHeadConfig, PrefixPropagationConfig, adapt
from components.adapters.methods import METHODS
from components.backbones import backbone_shape
from components.planning.trained_parameters import trainable_parameters


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_longformer_parameters_equal_the_live_model(tiny_longformer: Callable[..., Any]) -> None:
    model = tiny_longformer(type_vocab_size=2)
    shape = backbone_shape(model.config.to_dict())
    assert shape.parameters == parameters(model)
    linear = [module for module in model.encoder.modules() if type(module) is nn.Linear]
    assert shape.linear_parameters == sum(module.weight.numel() for module in linear)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
        ("qwen3", {}),
    ],
)
def test_decoder_parameters_equal_the_live_model(
    tiny_decoder: Callable[..., Any], kind: str, changes: dict[str, Any]
) -> None:
    model = tiny_decoder(kind, **changes)
    assert backbone_shape(model.config.to_dict()).parameters == parameters(model)


def test_positions_are_the_most_tokens_that_a_longformer_takes(
    tiny_longformer: Callable[..., Any],
) -> None:
    """Its table is longer: real tokens are numbered from pad_token_id + 1."""
    model = tiny_longformer()
    positions = backbone_shape(model.config.to_dict()).positions
    assert (
        model(input_ids=torch.full((1, positions), 7)).last_hidden_state.shape[1]
        == positions
        < model.config.max_position_embeddings
    )
    with pytest.raises(IndexError):
        model(input_ids=torch.full((1, positions + 1), 7))


def test_qwen2_biases_are_counted() -> None:
    from transformers import Qwen2Config, Qwen2Model

    model = Qwen2Model(
        Qwen2Config(
            vocab_size=101,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=48,
        )
    )
    assert backbone_shape(model.config.to_dict()).parameters == parameters(model)


@pytest.mark.parametrize("reparametrization", ["none", "mlp"])
def test_trainable_parameters_equal_the_live_adapted_model(
    tiny_longformer: Callable[..., Any], reparametrization: Any
) -> None:
    adapter = PrefixPropagationConfig(
        prefix_length=5, reparametrization=reparametrization, reparametrization_hidden=7
    )
    model = adapt(tiny_longformer(), adapter, ClassificationHeadConfig(num_labels=3))
    assert (
        trainable_parameters(backbone_shape(model.backbone.config.to_dict()), adapter, num_labels=3)
        == model.num_trainable_parameters()
    )


def test_a_decoder_trains_prefix_and_head_alone(tiny_decoder: Callable[..., Any]) -> None:
    adapter = PrefixPropagationConfig(prefix_length=4)
    model = adapt(tiny_decoder(), adapter, ClassificationHeadConfig(num_labels=2, pooling="last"))
    assert (
        trainable_parameters(backbone_shape(model.backbone.config.to_dict()), adapter, num_labels=2)
        == model.num_trainable_parameters()
    )


@pytest.mark.parametrize(
    ("method", "family"),
    [
        (method, family)
        for method in METHODS
        for family in ("longformer", "decoder")
        if (method, family) != ("kernel_propagation", "decoder")
    ],
)
def test_every_method_is_counted_as_it_is_built(
    tiny_longformer: Callable[..., Any], tiny_decoder: Callable[..., Any], method: str, family: str
) -> None:
    backbone = tiny_longformer() if family == "longformer" else tiny_decoder()
    shape = backbone_shape(backbone.config.to_dict())
    adapter = METHODS[method]()  # type: ignore[call-arg]
    model = adapt(backbone, adapter, ClassificationHeadConfig(num_labels=3, pooling="last"))
    assert trainable_parameters(shape, adapter, num_labels=3) == model.num_trainable_parameters()
