"""Attention of few rows to a text and to themselves is the plain formula in float64, gradients with
it, for one adapter and for several that read the same documents.
"""

import pytest
import torch
from torch import Tensor

from components.backbones.attention_of_few import attention_of_few

B, T, P, K, G, E = 2, 37, 3, 2, 3, 8
LEAST = torch.finfo(torch.float32).min


def tensors(adapters: int, dtype: torch.dtype) -> list[Tensor]:
    """Queries (scaled), the rows' keys and values, the text's."""
    torch.manual_seed(adapters)
    n = adapters * B
    shapes = [(n, K, G * P, E), (n, K, P, E), (n, K, P, E), (B, K, T, E), (B, K, T, E)]
    query, *others = (torch.randn(shape) for shape in shapes)
    return [each.to(dtype) for each in (query * E**-0.5, *others)]


def mask_of(adapters: int) -> Tensor:
    """Texts of 37 and 20 tokens; rows see the rows before them, the last of each no text at all."""
    mask = torch.zeros(B, 1, P, T + P)
    mask[1, ..., 20:T] = LEAST
    mask[..., T:] = torch.full((P, P), LEAST).triu(1)
    mask[:, :, -1, :T] = LEAST
    return mask.repeat(adapters, 1, 1, 1)


def plain(given: list[Tensor], mask: Tensor, adapters: int) -> Tensor:
    query, key, value, text_key, text_value = given
    keys, values = (
        torch.cat([text.repeat(adapters, 1, 1, 1), rows], dim=2)
        for text, rows in ((text_key, key), (text_value, value))
    )
    scores = query @ keys.transpose(-1, -2) + mask.repeat(1, 1, G, 1)
    return scores.softmax(dim=-1) @ values


@pytest.mark.parametrize("adapters", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 5e-2)], ids=["fp32", "bf16"]
)
def test_it_is_the_plain_formula(adapters: int, dtype: torch.dtype, tolerance: float) -> None:
    given, mask = tensors(adapters, dtype), mask_of(adapters)
    trained = [each.requires_grad_() for each in given[:3]]
    found = attention_of_few(
        trained[0], (given[3], given[4]), (trained[1], trained[2]), mask, adapters=adapters
    )
    exact = [each.detach().double() for each in given]
    leaves = [each.requires_grad_() for each in exact[:3]]
    expected = plain(exact, mask.double(), adapters)
    upstream = torch.randn_like(expected)
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)
    gradients = torch.autograd.grad(found, trained, upstream.to(dtype))
    wanted = torch.autograd.grad(expected, leaves, upstream)
    for one, other in zip(gradients, wanted, strict=True):
        assert one.dtype == dtype
        scale = float(other.abs().max())
        torch.testing.assert_close(one.double() / scale, other / scale, atol=tolerance, rtol=0)
