"""Rows added to hidden states out of place: values and gradients of the naive form."""

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from components.adapters.modules.added_rows import add_rows
from components.adapters.modules.prefix_propagation import PrefixPropagation

B, P, S, D, L = 3, 2, 9, 4, 2


def sliced(hidden_BSD: Tensor, added_BPD: Tensor, first: int) -> Tensor:
    last = first + added_BPD.shape[1]
    parts = [hidden_BSD[:, :first], hidden_BSD[:, first:last] + added_BPD, hidden_BSD[:, last:]]
    return torch.cat(parts, dim=1)


def made(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype).requires_grad_()


def gradients(result: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(9))
    return torch.autograd.grad((result * weights.to(result.dtype)).sum(), leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("first", [0, 3, S - P])
def test_added_rows_equal_slices_put_together_bit_for_bit(first: int, dtype: torch.dtype) -> None:
    hidden, added = made(B, S, D, dtype=dtype), made(B, P, D, dtype=dtype, seed=1)
    expected, result = sliced(hidden, added, first), add_rows(hidden, added, first)
    assert torch.equal(result, expected)
    for got, wanted in zip(
        gradients(result, hidden, added), gradients(expected, hidden, added), strict=True
    ):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("reentrant", [False, True])
def test_hidden_states_stay_as_they_were_so_that_a_layer_can_be_recomputed(
    reentrant: bool,
) -> None:
    hidden, added = made(B, S, D), made(B, P, D, seed=1)
    before = hidden.detach().clone()

    def layer(rows: Tensor) -> Tensor:
        return torch.tanh(add_rows(rows, added, 1)) ** 2

    plain = gradients(layer(hidden), hidden, added)
    recomputed = gradients if not reentrant else backward_gradients
    again = recomputed(checkpoint(layer, hidden, use_reentrant=reentrant), hidden, added)
    assert torch.equal(hidden, before)
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


def backward_gradients(result: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(9))
    (result * weights).sum().backward()
    return tuple(leaf.grad for leaf in leaves)


def test_nothing_is_kept_for_the_backward_pass() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        add_rows(made(B, S, D), made(B, P, D), 0).sum()
    assert not kept


def propagation(*, suffix: bool, dropout: float = 0.0) -> PrefixPropagation:
    return PrefixPropagation(
        num_layers=L, prefix_length=P, hidden_size=D, init_std=1.0, dropout=dropout, suffix=suffix
    )


def test_a_suffix_is_added_to_the_rows_that_run_alone() -> None:
    method, hidden = propagation(suffix=True), torch.ones(B, P, D)
    change = method.contribute(method(), batch_size=B).before_layer
    assert change is not None
    assert torch.equal(change(1, hidden), hidden + method.prefix.detach()[1])


def test_dropout_is_drawn_for_each_example_alone() -> None:
    method = propagation(suffix=False, dropout=0.5).train()
    torch.manual_seed(0)
    changed = method.add_to(torch.zeros(64, S, D), method.prefix[0])
    assert len({tuple(rows.flatten().tolist()) for rows in changed[:, :P] == 0}) > 32
