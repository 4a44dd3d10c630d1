"""The loss in pieces is the loss: values and gradients of torch's cross-entropy on whole logits,
whatever the pieces, and nothing as wide as the vocabulary is kept.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from components.backbones import layer_memory
from components.backbones.output_embedding import formed
from components.backbones.token_losses import token_losses

R, V, D = 23, 57, 8
# Float64 throughout but for the logits, which are float32.
TOLERANCE = 1e-5


def made() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(R, D), torch.randn(V, D), torch.randn(V)
    return hidden.requires_grad_(), weight, bias, torch.randint(V, (R,)), torch.randn(R)


@pytest.mark.parametrize("rows", [1, 5, 23, 1000])
@pytest.mark.parametrize("form", [{}, {"scale": 0.3}, {"cap": 2.0}, {"scale": 0.5, "cap": 3.0}])
@pytest.mark.parametrize("biased", [False, True])
def test_values_and_gradients_are_those_of_whole_logits(
    rows: int, form: dict[str, float], biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_memory, "LOGITS_AT_ONCE", rows * V)
    hidden, weight, bias, targets, weights = made()
    given: dict[str, Any] = {"bias_V": bias} if biased else {}
    losses = token_losses(hidden, weight, targets, **given, **form)
    (losses * weights).sum().backward()
    assert hidden.grad is not None
    found, hidden.grad = hidden.grad.clone(), None
    products = torch.nn.functional.linear(hidden, weight, bias if biased else None)
    logits = formed(products, scale=form.get("scale", 1.0), cap=form.get("cap"))
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    (expected * weights).sum().backward()
    torch.testing.assert_close(losses, expected, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(found, hidden.grad, atol=TOLERANCE, rtol=TOLERANCE)


def test_nothing_as_wide_as_the_vocabulary_is_kept() -> None:
    hidden, weight, _, targets, _ = made()
    kept: list[torch.Size] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_losses(hidden, weight, targets)
    assert kept == [(R, D)]
    with torch.no_grad():
        assert token_losses(hidden, weight, targets).shape == (R,)
