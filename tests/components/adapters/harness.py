"""Tiny backbones, documents, and the comparison with the naive dense float64 reference: what the
tests of every method share.

The reference (dense_longformer.py, dense_decoder.py) shares no code with the project. Tolerance
1e-5: float32 against float64 over two layers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from components.adapters import AdaptedModel
from tests.components.adapters.dense_decoder import dense_decoder
from tests.components.adapters.dense_longformer import Parts, dense_head, dense_longformer
from tests.conftest import build_tiny_decoder, build_tiny_longformer

TOLERANCE = 1e-5
LENGTHS = (15, 6)
BOTH = ("stock", "fast")


def build(kind: str, **changes: Any) -> Any:
    """A tiny backbone whose weights are large enough for attention to look somewhere: with the
    usual 0.02 every softmax is nearly uniform.
    """
    changes = {"initializer_range": 0.2} | changes
    return (
        build_tiny_longformer(**changes)
        if kind == "longformer"
        else build_tiny_decoder(kind, **changes)
    )


def documents(
    pad: int, lengths: tuple[int, ...] = LENGTHS
) -> tuple[list[list[int]], Tensor, Tensor]:
    """Token lists, and the same right-padded with their mask."""
    draw = torch.Generator().manual_seed(3)
    texts = [torch.randint(4, 100, (length,), generator=draw).tolist() for length in lengths]
    width = max(lengths)
    ids = torch.tensor([text + [pad] * (width - len(text)) for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts])
    return texts, ids, mask


def left_padded(texts: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask with the padding before the text."""
    width = max(len(text) for text in texts)
    ids = torch.tensor([[pad] * (width - len(text)) + text for text in texts])
    mask = torch.tensor([[0] * (width - len(text)) + [1] * len(text) for text in texts])
    return ids, mask


def without_and_with_checkpointing(make: Callable[[], AdaptedModel]) -> list[AdaptedModel]:
    """Two models made alike, after one backward pass each: the second recomputed its layers."""
    models = []
    for checkpointing in (False, True):
        model = make().train()
        models.append(model)
        if checkpointing:
            model.backbone.activation_checkpointing_enable(
                activation_checkpointing_kwargs={"use_reentrant": False}
            )
        _, ids, mask = documents(model.backbone.config.pad_token_id)
        model(ids, mask, torch.tensor([0, 2])).loss.backward()
    return models


def check_same_gradients(models: list[AdaptedModel], *, rtol: float) -> None:
    """The second model's gradients are the first one's, up to `rtol` and, near zero, a millionth of
    the largest: sums in another order differ by the processor.
    """
    found = models[1].trainable_parameters()
    for name, parameter in models[0].trainable_parameters().items():
        assert parameter.grad is not None, name
        near_zero = 1e-6 * float(parameter.grad.abs().max())
        torch.testing.assert_close(
            found[name].grad, parameter.grad, atol=near_zero, rtol=rtol, msg=name
        )


def randomise(model: AdaptedModel, *, only: str = "") -> None:
    """Large values in the trained tensors (whose names start with `only`), so that nothing agrees
    because it is near zero.
    """
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.trainable_parameters().items():
            if name.startswith(only):
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)


def dense_logits(
    model: AdaptedModel, texts: list[list[int]], parts_of: Callable[[dict[str, Tensor]], Parts]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits (B, C) float64 of the naive reference, and the leaves that its gradients arrive in, by
    artifact name.
    """
    leaves = {
        name: parameter.detach().double().requires_grad_()
        for name, parameter in model.trainable_parameters().items()
    }
    state = {name: tensor.detach().double() for name, tensor in model.backbone.state_dict().items()}
    state |= {
        name.removeprefix("backbone."): leaf
        for name, leaf in leaves.items()
        if name.startswith("backbone.")
    }
    parts, config = parts_of(leaves), model.backbone.config
    dense = dense_longformer if config.model_type == "longformer" else dense_decoder
    rows = 0 if parts.prefix_LPD is None and parts.prompt_PD is None else parts.offset
    pooled = []
    for text in texts:
        hidden_SD = dense(state, config, text, parts)
        pooled.append(
            {
                "prefix": hidden_SD[0],
                "cls": hidden_SD[rows],
                "last": hidden_SD[-1],
                "mean": hidden_SD[rows:].mean(0),
            }[model.head_config.pooling]
        )
    return dense_head(leaves, torch.stack(pooled)), leaves


def check_against_dense(
    model: AdaptedModel,
    parts_of: Callable[[dict[str, Tensor]], Parts],
    *,
    lengths: tuple[int, ...] = LENGTHS,
    attentions: tuple[str, ...] = ("stock",),
) -> None:
    """Logits and every gradient of a random weighting of the logits agree, on each of the
    attentions.
    """
    texts, ids, mask = documents(model.backbone.config.pad_token_id, lengths)
    expected, leaves = dense_logits(model, texts, parts_of)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(7))
    (expected * weights).sum().backward()
    for attention in attentions:
        if attention == "fast":
            model.family.accelerate(model.backbone)
        model.zero_grad(set_to_none=True)
        found = model(ids, mask).logits
        torch.testing.assert_close(found.double(), expected, atol=TOLERANCE, rtol=0)
        (found * weights).sum().backward()
        check_gradients(model, leaves, attention)


def check_gradients(model: AdaptedModel, leaves: dict[str, Tensor], attention: str) -> None:
    """The tolerance is relative to the largest: gradients reach a few tens."""
    for name, parameter in model.trainable_parameters().items():
        expected = leaves[name].grad
        assert parameter.grad is not None and expected is not None, name
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(
            parameter.grad.double() / scale,
            expected / scale,
            atol=TOLERANCE,
            rtol=0,
            msg=f"{name}, {attention}",
        )
