"""SAN on every listed model type: scaled outputs and inputs are the backbone with scaled weights,
and a type whose layers have no such chain is refused by name.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from components.adapters import (
    AdaptedModel,
    ClassificationHeadConfig,
    HeadOnlyConfig,
    SanConfig,
    adapt,
    load_adapter,
    save_adapter,
)
from components.backbones import backbone_shape
from components.errors import ConfigError
from components.planning.trained_parameters import trainable_parameters
from tests.components.backbones.rotary.variants import (
    CHAINED,
    VARIANTS,
    adapted,
    backbone_of,
    documents,
    let_layers_recompute,
)

NAMES = {
    "gpt_neox": ("attention.dense", ("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h"),
    "starcoder2": ("self_attn.o_proj", ("mlp.c_fc",), "mlp.c_proj"),
    "nanochat": ("self_attn.o_proj", ("mlp.fc1",), "mlp.fc2"),
    "phi3": ("self_attn.o_proj", ("mlp.gate_up_proj",), "mlp.down_proj"),
    "glm4": ("self_attn.o_proj", ("mlp.gate_up_proj",), "mlp.down_proj"),
    "modernbert": ("attn.Wo", ("mlp.Wi",), "mlp.Wo"),
}
"""Output projection, what goes in, what comes out, where they are not those of Llama."""
LLAMA = ("self_attn.o_proj", ("mlp.up_proj", "mlp.gate_proj"), "mlp.down_proj")
# Products of scales go through four layers, and their rounding with them.
TOLERANCE = 1e-4


def scale(module: Any, *, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    """Multiply a linear module's weight, and its bias by rows, in place."""
    with torch.no_grad():
        if columns is not None:
            module.weight.mul_(columns)
        if rows is not None:
            module.weight.mul_(rows[:, None])
            if module.bias is not None:
                module.bias.mul_(rows)


def with_scaled_weights(variant: str, model: AdaptedModel) -> Any:
    """The same backbone, its weights scaled as the model's scales say."""
    backbone = backbone_of(variant)
    scales: Any = model.adapter
    output, inward, outward = NAMES.get(VARIANTS[variant][0], LLAMA)
    for index, layer in enumerate(backbone.layers):
        attention_D = scales.attention_scale[index].detach()
        up_F, down_D = scales.up_scale[index].detach(), scales.down_scale[index].detach()
        scale(layer.get_submodule(output), rows=attention_D)
        for name in inward:
            scale(layer.get_submodule(name), columns=attention_D)
        up = layer.get_submodule(inward[0])
        of_gate = torch.ones(up.out_features - len(up_F))
        scale(up, rows=torch.cat([of_gate, up_F]))
        scale(layer.get_submodule(outward), rows=down_D, columns=up_F)
    return backbone


@pytest.mark.parametrize("variant", CHAINED)
def test_scales_are_the_backbone_with_scaled_weights(variant: str) -> None:
    model = adapted(variant, "san", pooling="mean")
    _, ids, mask = documents()
    plain = adapt(
        with_scaled_weights(variant, model),
        HeadOnlyConfig(),
        ClassificationHeadConfig(num_labels=3, pooling="mean"),
    ).eval()
    plain.head.load_state_dict(model.head.state_dict())  # type: ignore[attr-defined]
    expected = plain(input_ids=ids, attention_mask=mask).logits
    found = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
    other = adapted(variant, "head_only", pooling="mean")
    other.head.load_state_dict(model.head.state_dict())  # type: ignore[attr-defined]
    assert not torch.allclose(other(input_ids=ids, attention_mask=mask).logits, expected)


@pytest.mark.parametrize("variant", CHAINED)
def test_the_backbone_keeps_its_weights_and_no_hook(variant: str) -> None:
    model = adapted(variant, "san").train()
    let_layers_recompute(model)
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    hooks = _hooks(model)
    _, ids, mask = documents()
    model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 2])).loss.backward()
    after = model.backbone.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert _hooks(model) == hooks


def _hooks(model: AdaptedModel) -> list[int]:
    found = [(each._forward_hooks, each._forward_pre_hooks) for each in model.backbone.modules()]
    return [len(after) + len(before) for after, before in found]


@pytest.mark.parametrize("variant", CHAINED)
def test_counted_saved_and_loaded(variant: str, tmp_path: Path) -> None:
    model = adapted(variant, "san")
    shape = backbone_shape(model.backbone.config.to_dict())
    planned = trainable_parameters(shape, model.adapter_config, num_labels=3)
    assert model.num_trainable_parameters() == planned
    _, ids, mask = documents()
    expected = model(input_ids=ids, attention_mask=mask).logits
    save_adapter(model, tmp_path / "adapter")
    loaded = load_adapter(backbone_of(variant), tmp_path / "adapter")
    assert torch.equal(loaded(input_ids=ids, attention_mask=mask).logits, expected)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in CHAINED])
def test_layers_without_such_a_chain_are_refused_by_name(variant: str) -> None:
    backbone = backbone_of(variant)
    head = ClassificationHeadConfig(num_labels=3, pooling="last")
    with pytest.raises(ConfigError, match=r"adapter.method san .* use lora"):
        adapt(backbone, SanConfig(), head)
    with pytest.raises(ConfigError, match=r"adapter.method san"):
        trainable_parameters(backbone_shape(backbone.config.to_dict()), SanConfig(), num_labels=3)
