"""Several adapters in one run of the backbone: the answers and gradients of a run of their own."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from components.adapters import (
    AdaptedModel,
    ClassificationHeadConfig,
    PrefixPropagationConfig,
    adapt,
)
from components.adapters.side_by_side import Share, logits_side_by_side
from components.backbones.readers import RandomState
from components.tasks import HeadForm
from tests.components.adapters.harness import build, documents, randomise
from tests.components.adapters.method_models import C
from tests.components.backbones.rotary.tiny import tiny_model

ROUNDING = 1e-6
"""Float32; products of other widths add up in another order. Of gradients: of their largest."""
OF_EXPERTS = 1e-5
"""The rows that an expert gets are another product each time."""
KINDS = {
    "longformer": "one_way",
    "llama": "suffix",
    "qwen3": "suffix",
    "modernbert": "one_way",
    "gemma2": "suffix",
    "mixtral": "suffix",
}
LENGTHS, LABELS = (2, 5, 3, 5), (C, 2, C + 2, C)
"""Of the adapters: rows, and classes of their heads."""
FORMS: tuple[HeadForm, ...] = ("mlp", "linear", "mlp", "linear")
"""Of their heads."""
CPU = torch.device("cpu")


def backbone_of(kind: str) -> Any:
    if kind in ("longformer", "llama", "qwen3"):
        return build(kind)
    # gemma2 (softcap) runs eager attention.
    return tiny_model(kind, **({"attn_implementation": "eager"} if kind == "gemma2" else {}))


def models_on(backbone: Any, kind: str, *, dropout: float = 0.0) -> list[AdaptedModel]:
    models = []
    for seed, (length, labels) in enumerate(zip(LENGTHS, LABELS, strict=True)):
        torch.manual_seed(seed)
        config = PrefixPropagationConfig(
            prefix_length=length, placement=KINDS[kind], dropout=dropout
        )
        head = ClassificationHeadConfig(
            num_labels=labels, pooling="last", dropout=dropout, form=FORMS[seed]
        )
        models.append(adapt(backbone, config, head))
        randomise(models[-1])
    return models


def batches(models: Sequence[AdaptedModel]) -> list[tuple[Tensor, Tensor]]:
    """The first two and the last adapter read the same documents, the third has its own."""
    _, ids, mask = documents(1)
    other_ids, other_mask = ids.flip(0)[:1, :-2].clone(), mask.flip(0)[:1, :-2].clone()
    return [(ids, mask), (ids, mask), (other_ids, other_mask), (ids, mask)]


def shares_of(
    models: Sequence[AdaptedModel], texts: Sequence[tuple[Tensor, Tensor]]
) -> list[Share]:
    """Each with a random state of its own, seeded by its number."""
    read: dict[int, Any] = {}
    shares = []
    for number, (model, (ids, mask)) in enumerate(zip(models, texts, strict=True)):
        if id(ids) not in read:
            read[id(ids)] = model.read_text(ids, mask)
        torch.manual_seed(number)
        shares.append(Share(model, read[id(ids)], RandomState(CPU)))
    return shares


def gradients(model: AdaptedModel, logits: Tensor) -> dict[str, Tensor]:
    named = model.trainable_parameters()
    found = torch.autograd.grad(
        logits.square().sum(), list(named.values()), retain_graph=True, allow_unused=True
    )
    return {name: value for name, value in zip(named, found, strict=True) if value is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_side_by_side_is_each_alone(kind: str) -> None:
    models = models_on(backbone_of(kind), kind)
    texts = batches(models)
    rounding = OF_EXPERTS if kind == "mixtral" else ROUNDING
    together = logits_side_by_side(shares_of(models, texts))
    for model, (ids, mask), logits_BC in zip(models, texts, together, strict=True):
        alone_BC = model(ids, mask).logits
        torch.testing.assert_close(logits_BC, alone_BC, atol=rounding, rtol=rounding)
        alone, found = gradients(model, alone_BC), gradients(model, logits_BC)
        assert set(alone) == set(found) == set(model.trainable_parameters())
        for name, value in alone.items():
            largest = float(value.abs().max())
            assert largest > 0, name
            difference = float((found[name] - value).abs().max())
            assert difference <= 5 * rounding * largest, name


@pytest.mark.parametrize("kind", ["longformer", "modernbert", "gemma2"])
def test_dropout_is_that_of_a_run_of_its_own(kind: str) -> None:
    backbone = backbone_of(kind)
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
        for name in ("dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.2)
    models = models_on(backbone, kind, dropout=0.1)
    for model in models:
        model.train()
    texts = batches(models)
    together = logits_side_by_side(shares_of(models, texts))
    again = logits_side_by_side(shares_of(models, texts))
    for number, (model, (ids, mask)) in enumerate(zip(models, texts, strict=True)):
        torch.manual_seed(number)
        alone_BC = model(ids, mask).logits
        assert torch.equal(together[number], again[number])
        # What is left is scaled up in every layer, rounding with it.
        torch.testing.assert_close(together[number], alone_BC, atol=5 * ROUNDING, rtol=ROUNDING)
        assert not torch.allclose(model(ids, mask).logits, alone_BC), "nothing was dropped"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_number_in_one_leaves_the_others_bit_for_bit(kind: str) -> None:
    models = models_on(backbone_of(kind), kind)
    texts = batches(models)
    before = logits_side_by_side(shares_of(models, texts))
    expected = [gradients(model, logits) for model, logits in zip(models, before, strict=True)]
    with torch.no_grad():
        models[1].adapter.prefix.fill_(float("nan"))  # type: ignore[attr-defined]
    after = logits_side_by_side(shares_of(models, texts))
    assert not bool(after[1].isfinite().any())
    for number in (0, 2, 3):
        assert torch.equal(after[number], before[number])
        for name, value in gradients(models[number], after[number]).items():
            assert torch.equal(value, expected[number][name]), name
