"""When a decoder's first layer leaves its text out of the backward pass, and what it then keeps.
That the numbers stay the same is shown for every model type in rotary/test_conformance.py.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from components.backbones import constant_text, family_of
from components.backbones.constant_text import ConstantTextFacts, splits_layer
from components.backbones.own_forward import OWN_FORWARD
from tests.components.backbones.rotary.variants import P, adapted, documents

SPLIT = ConstantTextFacts(
    device_type="cpu", implementation="sdpa", dropout=0.0, installed=True, trained_or_sharded=False
)


def test_the_decision_by_its_facts() -> None:
    assert splits_layer(SPLIT)
    for changes in (
        {"device_type": "cuda"},
        {"implementation": "eager"},
        {"implementation": "flex_attention"},
        {"dropout": 0.1},
        {"installed": False},
        {"trained_or_sharded": True},
    ):
        assert not splits_layer(replace(SPLIT, **changes)), changes


def counted(model: Any) -> list[int]:
    """The prefix rows of every run in which the first layer is split from now on."""
    layer, found = model.family.layers(model.backbone)[0], []
    own = layer.__dict__[OWN_FORWARD]

    def noted(layer: Any, prefix_rows: int, *args: Any) -> Any:
        found.append(prefix_rows)
        return own.run(layer, prefix_rows, *args)

    layer.__dict__[OWN_FORWARD] = replace(own, run=noted)
    return found


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("prefix_propagation", {}, [P]),
        ("prefix_propagation", {"placement": "suffix"}, []),
        ("prompt_tuning", {}, [P]),
        ("prefix_tuning", {}, []),
        ("propagation_and_prefix_tuning", {}, []),
        ("kernel_prefix", {}, []),
        ("lora", {}, []),
        ("full_fine_tuning", {}, []),
        ("head_only", {}, []),
    ],
)
def test_only_what_changes_prefix_rows_alone_splits_the_layer(
    method: str, settings: dict[str, Any], expected: list[int]
) -> None:
    model = accelerated(method, **settings)
    _, ids, mask = documents()
    split = counted(model)
    model(input_ids=ids, attention_mask=mask)
    assert split == expected
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
    assert split == expected


def test_text_rows_of_the_first_layer_keep_neither_keys_nor_values() -> None:
    """Of the projections' outputs alone the prefix rows' ask for a gradient."""
    model, seen = accelerated("prefix_propagation"), []
    attention: Any = model.family.layers(model.backbone)[0].self_attn

    def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen.append((output.shape[1], output.requires_grad))

    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(attention, name).register_forward_hook(note)
    _, ids, mask = documents()
    model(input_ids=ids, attention_mask=mask)
    assert sorted(seen) == [(P, True)] * 3 + [(ids.shape[1], False)] * 3


def test_with_shards_of_zero_3_the_layer_is_left_as_it_is() -> None:
    model = accelerated("prefix_propagation")
    layer: Any = model.family.layers(model.backbone)[0]
    assert splits_layer(constant_text.constant_text_facts(layer))
    layer.mlp.up_proj.weight.ds_id = 7
    assert not splits_layer(constant_text.constant_text_facts(layer))


def test_a_model_of_one_layer_reads_its_last_rows_alone() -> None:
    from components.backbones.read_rows import takes_read_rows
    from tests.components.backbones.rotary.tiny import tiny_model

    backbone = tiny_model("llama", num_hidden_layers=1)
    family_of(backbone).accelerate(backbone)
    assert takes_read_rows(backbone.layers[0])
    assert not constant_text.constant_text_facts(backbone.layers[0]).installed


def accelerated(method: str, **settings: Any) -> Any:
    model = adapted("llama", method, **settings).train()
    model.family.accelerate(model.backbone)
    return model
