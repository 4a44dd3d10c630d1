"""Two rungs of the length ladder: a tiled feed-forward part and offloaded activations change no
number, and keep what they say they keep.

Not covered: the time that either costs, and the GPU memory that offloading frees
(pipelines/research/benchmark/gpu asks a GPU).
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from components.backbones import activation_offload
from components.backbones.activation_offload import offloaded_activations
from components.backbones.tiled_feed_forward import tile_feed_forward, untile_feed_forward

B, S, D, WIDE = 2, 50, 16, 40


def llama(*, trained: bool = False) -> Any:
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=30,
        hidden_size=D,
        intermediate_size=WIDE,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    model: Any = LlamaModel(config).train().requires_grad_(trained)
    return model


def checkpointed(model: Any) -> Any:
    twin = copy.deepcopy(model)
    twin.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    return twin


def answers(model: Callable[..., Any]) -> list[Tensor]:
    given = torch.randn(B, S, D, generator=torch.Generator().manual_seed(1)).requires_grad_()
    hidden = model(inputs_embeds=given, use_cache=False).last_hidden_state
    (hidden * torch.sin(torch.arange(hidden.numel())).view_as(hidden)).sum().backward()
    assert given.grad is not None
    return [hidden.detach(), given.grad]


@pytest.mark.parametrize("rows", [1, 7, 25, S, 64])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "checkpointed"])
def test_a_tiled_feed_forward_part_gives_the_same_numbers(rows: int, recompute: bool) -> None:
    model = llama()
    twin = checkpointed(model) if recompute else copy.deepcopy(model)
    for layer in twin.layers:
        tile_feed_forward(layer.mlp, rows)
    for left, right in zip(answers(model), answers(copy.deepcopy(twin)), strict=True):
        # Products of fewer rows sum in another order.
        torch.testing.assert_close(right, left, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "checkpointed"])
def test_empty_pieces_change_nothing_and_are_computed_forward_and_backward(recompute: bool) -> None:
    model = llama()
    twin = checkpointed(model) if recompute else copy.deepcopy(model)
    calls = []
    for layer in twin.layers:
        tile_feed_forward(layer.mlp, 20, least_pieces=5)
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, rows: calls.append(rows[0].shape))
    for left, right in zip(answers(model), answers(twin), strict=True):
        torch.testing.assert_close(right, left, atol=1e-6, rtol=1e-5)
    # Forward and in the backward pass; a recomputed layer ends its run as soon as it can.
    empty = [shape for shape in calls if shape[1] == 0]
    assert len(empty) >= len(twin.layers) * 2 * 2


def kept_numbers(module: nn.Module, given: Tensor) -> int:
    """Numbers of activations that autograd keeps after a forward pass, each storage once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(given)
    assert output.requires_grad
    return sum(kept.values())


def test_a_tiled_feed_forward_part_keeps_its_input_alone() -> None:
    mlp, given = llama().layers[0].mlp, torch.randn(B, S, D).requires_grad_()
    assert kept_numbers(mlp, given) >= 3 * B * S * WIDE
    tile_feed_forward(mlp, 7)
    assert kept_numbers(mlp, given) == B * S * D
    untile_feed_forward(mlp)
    assert kept_numbers(mlp, given) >= 3 * B * S * WIDE


def test_trained_weights_are_not_tiled() -> None:
    with pytest.raises(ValueError, match="trained"):
        tile_feed_forward(llama(trained=True).layers[0].mlp, 7)
    with pytest.raises(ValueError, match="at least one row"):
        tile_feed_forward(llama().layers[0].mlp, 0)


def test_offloaded_activations_give_the_same_numbers_bit_for_bit() -> None:
    model = checkpointed(llama())

    def offloading(**given: Any) -> Any:
        with offloaded_activations(least_bytes=0):
            return model(**given)

    for left, right in zip(answers(model), answers(offloading), strict=True):
        assert torch.equal(left, right)


def test_inputs_of_layers_are_offloaded_and_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    model, copied = checkpointed(llama()), []
    stock = torch.empty

    def counted(*shape: Any, **options: Any) -> Tensor:
        if "pin_memory" in options:
            copied.append(tuple(shape[0]))
        return stock(*shape, **options)

    monkeypatch.setattr(torch, "empty", counted)
    given = torch.randn(B, S, D).requires_grad_()
    with activation_offload.offloaded_activations(least_bytes=4 * B * S * D):
        model(inputs_embeds=given, use_cache=False)
    monkeypatch.undo()
    assert copied.count((B, S, D)) >= len(model.layers)
    assert set(copied) == {(B, S, D)}


def test_a_tiled_part_with_dropout_drops_the_same_numbers_when_it_is_recomputed() -> None:
    """The gradient of a sum of dropped-out numbers says which ones were dropped."""
    part = nn.Sequential(nn.Linear(D, D, bias=False), nn.Dropout(0.5)).requires_grad_(False)
    with torch.no_grad():
        part[0].weight.copy_(torch.eye(D))
    tile_feed_forward(part, 7)
    given = torch.ones(B, S, D).requires_grad_()
    torch.manual_seed(3)
    output = part(given)
    output.sum().backward()
    assert given.grad is not None and 0 < int((given.grad == 0).sum()) < given.numel()
    assert torch.equal(given.grad, output.detach())
