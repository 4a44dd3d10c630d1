"""Rows added to hidden states out of place: the values and gradients of slicing and concatenating,
at the place of each example.
"""

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
    expected = sliced(hidden, added, first)
    for place in (first, torch.full((B,), first)):
        result = add_rows(hidden, added, place)
        assert torch.equal(result, expected)
        for got, wanted in zip(
            gradients(result, hidden, added), gradients(expected, hidden, added), strict=True
        ):
            assert torch.equal(got, wanted)


def test_every_example_gets_its_rows_at_its_own_place() -> None:
    hidden, added, first = made(B, S, D), made(B, P, D, seed=1), torch.tensor([0, 4, S - P])
    alone = [sliced(hidden[i : i + 1], added[i : i + 1], int(first[i])) for i in range(B)]
    result, expected = add_rows(hidden, added, first), torch.cat(alone)
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


def test_suffix_rows_are_the_last_ones_unless_the_model_names_their_places() -> None:
    method, hidden = propagation(suffix=True), torch.zeros(B, S, D)
    change = method.contribute(method(), batch_size=B).before_layer
    assert change is not None
    starts = torch.tensor([1, 5, S - P])
    for start_B in (None, starts):
        changed = change(1, hidden, start_B)
        for example in range(B):
            start = S - P if start_B is None else int(start_B[example])
            expected = torch.zeros(S, D)
            expected[start : start + P] = method.prefix.detach()[1]
            assert torch.equal(changed[example], expected)


def test_a_prefix_stands_first_whatever_place_a_suffix_would_have() -> None:
    method, hidden = propagation(suffix=False), torch.zeros(B, S, D)
    change = method.contribute(method(), batch_size=B).before_layer
    assert change is not None
    assert torch.equal(change(0, hidden, torch.tensor([3, 3, 3])), change(0, hidden, None))
    assert torch.equal(change(0, hidden, None)[:, :P], method.prefix.detach()[:1].expand(B, -1, -1))


def test_dropout_is_drawn_for_each_example_alone() -> None:
    method = propagation(suffix=False, dropout=0.5).train()
    torch.manual_seed(0)
    changed = method.add_to(torch.zeros(64, S, D), method.prefix[0])
    assert len({tuple(rows.flatten().tolist()) for rows in changed[:, :P] == 0}) > 32
