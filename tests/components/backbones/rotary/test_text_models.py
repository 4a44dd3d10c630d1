"""Text models inside models of several modalities, and config.json with other values."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from components.backbones import BackboneConfig, backbone_shape, load_backbone
from components.backbones.sources import read_backbone_config
from components.errors import BackboneError
from tests.components.backbones.rotary.tiny import RECIPE, tiny_model

VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
WRAPPERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma3": (
        "gemma3_text",
        {
            "vision_config": VISION | {"model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 4,
            "image_token_index": 90,
            "boi_token_index": 91,
            "eoi_token_index": 92,
        },
    ),
    "mistral3": ("mistral", {"vision_config": VISION | {"model_type": "pixtral"}}),
    "llava": (
        "llama",
        {"vision_config": VISION | {"model_type": "clip_vision_model", "projection_dim": 16}},
    ),
    "llama4": (
        "llama4_text",
        {
            "vision_config": VISION
            | {
                "model_type": "llama4_vision_model",
                "vision_output_dim": 16,
                "projector_input_dim": 16,
                "projector_output_dim": 16,
            }
        },
    ),
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def local(folder: Path, **settings: Any) -> BackboneConfig:
    settings = {"family": "decoder"} | settings
    return BackboneConfig(source="local", name_or_path=str(folder), **settings)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_text_model_inside_is_read_as_if_it_stood_alone(wrapper: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModel

    text, further = WRAPPERS[wrapper]
    inner = AutoConfig.for_model(text, **RECIPE).to_dict()
    torch.manual_seed(0)
    whole = AutoModel.from_config(AutoConfig.for_model(wrapper, text_config=inner, **further))
    whole.save_pretrained(tmp_path)
    backbone = load_backbone(local(tmp_path), cache_path=tmp_path)
    alone = tiny_model(text).to(torch.float32)
    alone.load_state_dict(backbone.state_dict())
    ids = torch.randint(3, 90, (1, 15))
    expected = alone(input_ids=ids).last_hidden_state
    assert torch.equal(backbone(input_ids=ids).last_hidden_state, expected)
    values = read_backbone_config(local(tmp_path))
    assert backbone_shape(values).parameters == sum(p.numel() for p in backbone.parameters())
    assert backbone.config._name_or_path == str(tmp_path)


def test_yarn_counts_the_positions_after_stretching(tmp_path: Path) -> None:
    """As Qwen2.5 writes it: max_position_embeddings are those before."""
    tiny_model("qwen2").save_pretrained(tmp_path)
    assert backbone_shape(read_backbone_config(local(tmp_path))).positions == 64
    stretched = local(tmp_path, config_overrides={"rope_parameters": YARN})
    values = read_backbone_config(stretched)
    assert backbone_shape(values).positions == 256
    backbone = load_backbone(stretched, cache_path=tmp_path)
    assert backbone.rotary_emb.rope_type == "yarn"
    assert backbone.config.rope_parameters["rope_theta"] == 10_000.0  # as before


def test_a_window_can_be_taken_away(tmp_path: Path) -> None:
    tiny_model("mistral").save_pretrained(tmp_path)
    wide = load_backbone(
        local(tmp_path, config_overrides={"sliding_window": None}), cache_path=tmp_path
    )
    assert wide.config.sliding_window is None
    ids = torch.randint(3, 90, (1, 20))
    narrow = load_backbone(local(tmp_path), cache_path=tmp_path)
    difference = wide(input_ids=ids).last_hidden_state - narrow(input_ids=ids).last_hidden_state
    assert difference[0, :5].abs().max() == 0.0 and difference[0, 10:].abs().max() > 1e-3


def test_only_fields_of_reach_are_overridden(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="'hidden_size' cannot be overridden; known: rope_"):
        local(tmp_path, config_overrides={"hidden_size": 64})
    with pytest.raises(ValidationError, match="a lengthened checkpoint has a config"):
        local(
            tmp_path,
            family="longformer",
            lengthen_to=512,
            config_overrides={"sliding_window": 8},
        )


@pytest.mark.parametrize("name", ["factor", "original_max_position_embeddings", "rope_theta"])
@pytest.mark.parametrize("value", ["abc", 0, -4.0, True, float("inf")])
def test_a_rotation_is_made_of_numbers(name: str, value: Any, tmp_path: Path) -> None:
    tiny_model("qwen2").save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match=f"{name} is .*, expected a positive number"):
        read_backbone_config(
            local(tmp_path, config_overrides={"rope_parameters": YARN | {name: value}})
        )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "qwen3_next"}, "recurrent layers, in which a prefix fades with distance"),
        ({"model_type": "eurobert"}, "Set backbone.family encoder."),
        ({"model_type": "gptj"}, "reads llama, .*components/backbones/README.md"),
        ({"model_type": "xlm-roberta"}, "Set backbone.lengthen_to to turn it into a Longformer"),
    ],
)
def test_another_model_type_is_refused_with_what_to_do(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    import json

    tiny_model("llama").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(BackboneError, match=reason):
        read_backbone_config(local(tmp_path))
