"""A text that is read in passing is the text whose states stay: answers bit for bit, gradients up
to rounding, for every listed model type; and nothing of its length is kept for the backward pass.
"""

from typing import Any

import pytest
import torch

from components.adapters.model import AdaptedModel
from components.backbones.rotary.types import MODEL_TYPES
from components.backbones.text_in_passing import TextInPassing, passes
from tests.components.backbones.rotary.variants import (
    adapted,
    backbone_of,
    documents,
    each_variant,
)

ROUNDING = 2e-5
"""Of gradients of size 1: sums over the text in another order, through all layers."""


def recomputing(variant: str) -> Any:
    backbone: Any = backbone_of(variant)
    encoder = not MODEL_TYPES[backbone.config.model_type].is_causal
    model: Any = adapted(variant, placement="one_way" if encoder else "suffix").train()
    model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def gradients(logits: torch.Tensor, model: AdaptedModel) -> tuple[torch.Tensor, ...]:
    trained = list(model.trainable_parameters().values())
    return torch.autograd.grad(logits.square().sum(), trained)


@each_variant
def test_in_passing_is_the_same_as_states_that_stay(variant: str) -> None:
    model = recomputing(variant)
    _, ids, mask = documents()
    states = model.read_text(ids, mask)
    staying = model(ids, mask, states=states).logits
    passing = model(ids, mask).logits
    torch.testing.assert_close(passing, staying, atol=0, rtol=0)
    for found, expected in zip(gradients(passing, model), gradients(staying, model), strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(found / scale, expected / scale, atol=ROUNDING, rtol=0)


def kept_bytes(model: Any, ids: torch.Tensor) -> int:
    """What autograd keeps of a forward pass, whatever is not a weight; each storage once."""
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    alive = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        alive.append(model(ids).logits)
    return sum(found.values())


@pytest.mark.parametrize("in_passing", [True, False])
def test_what_is_kept_depends_on_the_texts_length_only_where_states_stay(
    in_passing: bool,
) -> None:
    model = recomputing("llama")
    if not in_passing:
        model.backbone.gradient_checkpointing_disable()
    short, long = (torch.randint(5, 90, (1, tokens)) for tokens in (20, 60))
    assert (kept_bytes(model, short) == kept_bytes(model, long)) is in_passing


def test_who_does_not_recompute_or_cannot_pass_keeps_the_states() -> None:
    model = recomputing("llama")
    _, ids, mask = documents()

    def of(stays: bool) -> Any:
        return model.family.text_states(model.backbone, ids, mask, model.adapter.rows, stays=stays)

    assert isinstance(of(False), TextInPassing) and not isinstance(of(True), TextInPassing)
    model.backbone.config._attn_implementation = "eager"
    assert not passes(model.backbone) and not isinstance(of(False), TextInPassing)
