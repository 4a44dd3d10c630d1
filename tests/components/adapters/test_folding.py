"""A folded prefix in the cache of the stock model is the adapted model, for every decoder that can
be folded; what cannot is refused by name.

Tolerance: float32 over four layers; a text alone takes other products than a padded batch.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from components.adapters import AdaptedModel
from components.adapters.folding import KeysAndValues, folded
from components.adapters.modules.adapter_method import Contribution
from components.backbones.rotary.types import MODEL_TYPES
from components.errors import ConfigError
from tests.components.backbones.rotary.variants import (
    METHODS,
    TOLERANCE,
    VARIANTS,
    P,
    adapted,
    documents,
)

CAUSAL = [name for name, (kind, _) in VARIANTS.items() if MODEL_TYPES[kind].is_causal]
WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    name: VARIANTS[name]
    for name in (
        *("llama", "qwen2", "qwen3", "gemma", "gpt_neox", "phi", "olmo2", "granite", "smollm3"),
        *("glm4", "seed_oss", "nanochat", "mistral without a window", "qwen2 with YaRN"),
        *("llama with biases", "phi with normalised queries"),
    )
}
"""Every layer sees all of the text, and no rotation goes by its length."""
HIDDEN = {
    "mistral": "sliding_window is less than its 64",
    "starcoder2": "sliding_window is less than its 64",
    "gemma2": "sliding_window is less than its 64",
    "qwen3 with a window": "sliding_window is less than its 64",
    "llama4_text": "attention_chunk_size is less than its 64",
    "phi3 with longrope": "less than its 64|length of the text",
    "llama with dynamic scaling": "rotates a prefix by the length of the text",
}
STATIC = {
    "prefix_propagation": {},
    "adaptive_prefix_propagation": {},
    "prefix_tuning": {},
    "adaptive_prefix_tuning": {},
    "prompt_tuning": {},
}
"""Methods that are rows before the text and nothing else."""


def stock_text(model: AdaptedModel, prefix: KeysAndValues, text: list[int]) -> Tensor:
    """Last hidden states (T, D) of the stock model, with the prefix in its cache."""
    from transformers import DynamicCache

    backbone: Any = model.backbone
    cache = DynamicCache(prefix)
    hidden_1TD: Tensor = backbone(
        input_ids=torch.tensor([text]), past_key_values=cache, use_cache=True
    ).last_hidden_state
    return hidden_1TD[0]


def adapted_text(model: AdaptedModel, text: list[int]) -> Tensor:
    """The same rows of the adapted model."""
    seen: list[Tensor] = []
    handle = model.backbone.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.last_hidden_state)
    )
    model(input_ids=torch.tensor([text]))
    handle.remove()
    return seen[0][0, P:]


@pytest.mark.parametrize("variant", WHOLE)
@pytest.mark.parametrize("method", ["prefix_propagation", "prefix_tuning"])
def test_the_stock_model_with_the_folded_prefix_is_the_adapted_model(
    variant: str, method: str
) -> None:
    model = adapted(variant, method, pooling="mean")
    texts, *_ = documents()
    with torch.no_grad():
        prefix = folded(model)
        for text in texts:
            torch.testing.assert_close(
                stock_text(model, prefix, text),
                adapted_text(model, text),
                atol=TOLERANCE,
                rtol=TOLERANCE,
            )


@pytest.mark.parametrize("method", STATIC)
def test_every_method_that_is_rows_before_the_text_folds(method: str) -> None:
    model = adapted("llama", method, pooling="mean")
    text = documents()[0][0]
    with torch.no_grad():
        found, expected = stock_text(model, folded(model), text), adapted_text(model, text)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
    without = model.backbone(input_ids=torch.tensor([text])).last_hidden_state[0]
    assert (without - expected).abs().max() > 0.01


@pytest.mark.parametrize(
    "settings", [{"rank": 2}, {"reparametrization": "mlp", "reparametrization_hidden": 6}]
)
def test_a_prefix_folds_however_it_is_produced(settings: dict[str, Any]) -> None:
    model = adapted("qwen3", pooling="mean", **settings)
    text = documents()[0][0]
    with torch.no_grad():
        found, expected = stock_text(model, folded(model), text), adapted_text(model, text)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_shapes_are_those_of_a_cache_and_nothing_of_the_model_is_changed() -> None:
    model = adapted("qwen3", dropout=0.5).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, again = folded(model), folded(model)
    assert len(first) == 4
    for layer, same in zip(first, again, strict=True):
        assert [tuple(each.shape) for each in layer] == [(1, 2, P, 8)] * 2
        for one, other in zip(layer, same, strict=True):
            assert not one.requires_grad
            torch.testing.assert_close(one, other, atol=0, rtol=0)
    assert model.training and model.adapter.dropout.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(("variant", "reason"), HIDDEN.items())
def test_a_backbone_that_needs_our_masks_or_rotations_is_refused(variant: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        folded(adapted(variant))


def test_a_window_as_wide_as_the_backbone_hides_nothing() -> None:
    from components.backbones import family_of
    from tests.components.backbones.rotary.tiny import tiny_model

    config = tiny_model("mistral", sliding_window=64).config
    assert family_of(tiny_model("mistral")).folding_fault(config.to_dict()) is None


@pytest.mark.parametrize("variant", CAUSAL)
def test_every_decoder_folds_or_says_why_not(variant: str) -> None:
    model = adapted(variant)
    reason = model.family.folding_fault(model.backbone.config.to_dict())
    if variant in WHOLE:
        assert reason is None
    if reason is None:
        assert len(folded(model)) == 4
    else:
        with pytest.raises(ConfigError, match="no static prefix stands for its rows"):
            folded(model)


@pytest.mark.parametrize("variant", ["modernbert", "eurobert"])
def test_an_encoder_is_refused_by_its_family(variant: str) -> None:
    with pytest.raises(ConfigError, match="family encoder: a prefix sees the text"):
        folded(adapted(variant))


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(STATIC)))
def test_a_method_that_changes_more_is_refused_by_its_name(method: str) -> None:
    with pytest.raises(ConfigError, match=f"adapter.method {method} "):
        folded(adapted("llama", method))


def test_a_suffix_is_refused_by_its_placement() -> None:
    with pytest.raises(ConfigError, match=r"adapter\.placement suffix"):
        folded(adapted("llama", placement="suffix"))


def test_a_method_whose_inside_is_not_keys_and_values_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new method is not taken for prefix-tuning because it has rows of that kind."""
    model = adapted("llama", "prefix_tuning")
    whole = model.adapter.contribute

    def without(values: Any, *, batch_size: int) -> Contribution:
        return Contribution(inside_layer=whole(values, batch_size=batch_size).inside_layer)

    monkeypatch.setattr(model.adapter, "contribute", without)
    with pytest.raises(ConfigError, match="more inside a layer than keys and values"):
        folded(model)
