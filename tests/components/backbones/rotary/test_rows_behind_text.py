"""Rows that see the text and that the text does not see, for every listed model type: a decoder's
suffix and an encoder's one-way form.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from components.backbones import family_of
from components.backbones.rotary.sizes import LOCAL, layer_kinds
from components.backbones.rotary.types import MODEL_TYPES
from components.errors import ConfigError
from tests.components.backbones.rotary.tiny import WINDOW
from tests.components.backbones.rotary.variants import (
    TOLERANCE,
    P,
    adapted,
    backbone_of,
    documents,
    each_variant,
)


@each_variant
def test_a_suffix_stands_behind_the_last_token_of_each_document(variant: str) -> None:
    encoder = family_of(backbone_of(variant)).rows_see_all_text
    if encoder:
        with pytest.raises(ConfigError, match=r"adapter\.placement suffix is for causal decoders"):
            adapted(variant, placement="suffix")
    model = adapted(variant, placement="one_way" if encoder else "suffix")
    texts, ids, mask = documents()
    logits_BC = model(input_ids=ids, attention_mask=mask).logits
    for text, logits_C in zip(texts, logits_BC, strict=True):
        alone_C = model(input_ids=torch.tensor([text])).logits[0]
        torch.testing.assert_close(alone_C, logits_C, atol=TOLERANCE, rtol=TOLERANCE)
    other_C = model(input_ids=torch.tensor([[*texts[0][:-1], 5]])).logits[0]
    assert (other_C - logits_BC[0]).abs().max() > 1e-3


@each_variant
def test_rows_on_the_states_of_the_text_are_the_stock_model_over_both(variant: str) -> None:
    """Text and the rows behind it in one run of the stock model, differentiated through all of it;
    of an encoder under masks that hide these rows from the text.
    """
    encoder = family_of(backbone_of(variant)).rows_see_all_text
    model = adapted(variant, placement="one_way" if encoder else "suffix").train()
    texts, ids, mask = documents()
    logits_BC = model(input_ids=ids, attention_mask=mask).logits
    prefix: Any = model.adapter.prefix  # type: ignore[attr-defined]
    found = torch.autograd.grad(logits_BC.square().sum(), prefix)[0]
    stock_BC = torch.stack([suffix_by_the_stock_model(model, text) for text in texts])
    expected = torch.autograd.grad(stock_BC.square().sum(), prefix)[0]
    torch.testing.assert_close(logits_BC, stock_BC, atol=TOLERANCE, rtol=TOLERANCE)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found / scale, expected / scale, atol=10 * TOLERANCE, rtol=0)


def suffix_by_the_stock_model(model: Any, text: list[int]) -> Tensor:
    """Logits (C,) of one document."""
    text_1TD = model.backbone.get_input_embeddings()(torch.tensor([text]))
    rows_1SD = torch.cat([text_1TD, torch.zeros_like(text_1TD[:, :P])], dim=1)
    handles = []
    for index, layer in enumerate(model.family.layers(model.backbone)):

        def add(_layer: Any, inputs: Any, index: int = index) -> Any:
            hidden_1SD = inputs[0]
            changed = hidden_1SD[:, -P:] + model.adapter.prefix[index]
            return (torch.cat([hidden_1SD[:, :-P], changed], dim=1), *inputs[1:])

        handles.append(layer.register_forward_pre_hook(add))
    inputs = {"inputs_embeds": rows_1SD}
    config: Any = model.backbone.config
    kind = MODEL_TYPES[config.model_type]
    if kind.is_causal:
        inputs["use_cache"] = False
    else:
        kinds = set(layer_kinds(kind, config.to_dict()))
        masks = {each: one_way_mask(each, len(text)) for each in kinds}
        whole = next(iter(masks.values()))
        inputs["attention_mask"] = masks if kind.masks_by_layer else whole
    hidden_1SD = model.backbone(**inputs).last_hidden_state
    for handle in handles:
        handle.remove()
    logits_C: Tensor = model.head(hidden_1SD[:, -1])[0]
    return logits_C


def one_way_mask(kind: str, text: int) -> Tensor:
    """Of an encoder's text and P rows behind it: 0 where the key is seen, else the least number."""
    mask = torch.full((1, 1, text + P, text + P), torch.finfo(torch.float32).min)
    for query in range(text + P):
        for key in range(text + P):
            near = abs(query - key) <= WINDOW or kind not in LOCAL
            if query >= text or (key < text and near):
                mask[0, 0, query, key] = 0.0
    return mask
