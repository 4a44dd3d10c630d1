"""The paper's released class, run once on toy Longformers: logits and gradients agree to 1e-5
(float32), through the public surface and through a folder written by hand.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import LongformerConfig, LongformerModel

from components.adapters import (
    AdaptedModel,
    ClassificationHeadConfig,
    PrefixPropagationConfig,
    PrefixTuningConfig,
    adapt,
    load_adapter,
)

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "reference"
TOLERANCE = 1e-5
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(),
    reason="reference tensors are not beside this clone (../shared/reference)",
)
NAMES = {
    "classifier.dense": "head.dense",
    "classifier.out_proj": "head.out_proj",
    "longformer.": "backbone.",
}


def read(name: str) -> dict[str, Any]:
    reference: dict[str, Any] = torch.load(REFERENCE / f"{name}.pt", weights_only=True)
    return reference


def backbone_of(reference: dict[str, Any]) -> LongformerModel:
    keys = set(LongformerConfig().to_dict())
    backbone = LongformerModel(
        LongformerConfig(**{k: v for k, v in reference["config"].items() if k in keys}),
        add_pooling_layer=False,
    )
    state = {
        k.removeprefix("longformer."): v
        for k, v in reference["state_dict"].items()
        if k.startswith("longformer.")
    }
    backbone.load_state_dict(state)
    return backbone


def ours(reference: dict[str, Any], tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Released names -> artifact names; the released tables are (P, L*D), and (P, L*2*D) with a
    layer's key before its value.
    """
    renamed = {}
    for name, tensor in tensors.items():
        if name == "propagated_prefix_encoder.embedding.weight":
            layers = reference["config"]["num_hidden_layers"]
            renamed["adapter.prefix"] = (
                tensor.unflatten(1, (layers, -1)).transpose(0, 1).contiguous()
            )
            continue
        if name == "prefix_encoder.embedding.weight":
            layers = reference["config"]["num_hidden_layers"]
            both = tensor.unflatten(1, (layers, 2, -1)).permute(1, 2, 0, 3)
            renamed |= {
                "adapter.prefix_key": both[:, 0].contiguous(),
                "adapter.prefix_value": both[:, 1].contiguous(),
            }
            continue
        for old, new in NAMES.items():
            name = name.replace(old, new, 1) if name.startswith(old) else name
        renamed[name] = tensor
    return renamed


def trained_tensors(reference: dict[str, Any]) -> dict[str, torch.Tensor]:
    return ours(
        reference, {name: reference["state_dict"][name] for name, _ in reference["trainable"]}
    )


def pooling_of(reference: dict[str, Any]) -> Any:
    """The release classifies row 0: the first prefix row, or the first text row where prefix-tuning
    adds none.
    """
    return (
        "cls"
        if reference["config"]["use_offset_pool_tok"]
        or reference["config"]["propagate_prefix"] == "none"
        else "prefix"
    )


def adapter_of(reference: dict[str, Any]) -> dict[str, Any]:
    if reference["config"]["propagate_prefix"] == "none":
        return {"method": "prefix_tuning", "prefix_length": 4, "released_indexing": True}
    return {"method": "prefix_propagation", "prefix_length": 4}


def by_surface(reference: dict[str, Any], folder: Path) -> AdaptedModel:
    settings = adapter_of(reference)
    config = (
        PrefixTuningConfig if settings["method"] == "prefix_tuning" else PrefixPropagationConfig
    ).model_validate(settings)
    model = adapt(
        backbone_of(reference),
        config,
        ClassificationHeadConfig(num_labels=5, pooling=pooling_of(reference)),
    )
    with torch.no_grad():
        for name, parameter in model.trainable_parameters().items():
            parameter.copy_(trained_tensors(reference)[name])
    return model


def by_folder(reference: dict[str, Any], folder: Path) -> AdaptedModel:
    config = {
        "format": 1,
        **adapter_of(reference),
        "backbone": {"name_or_path": "toy", "family": "longformer"},
        "head": {"task": "classification", "num_labels": 5, "pooling": pooling_of(reference)},
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(trained_tensors(reference), folder / "adapter_model.safetensors")
    return load_adapter(backbone_of(reference), folder)


@needs_reference
@pytest.mark.parametrize("build", [by_surface, by_folder])
@pytest.mark.parametrize("attention", ["stock", "auto"])
@pytest.mark.parametrize("name", ["prop_full", "prop_padded", "prop_offset_pool", "prefix_full"])
def test_released_logits_and_gradients(
    name: str, attention: str, build: Any, tmp_path: Path
) -> None:
    reference = read(name)
    model = build(reference, tmp_path)
    if attention == "auto":
        model.family.accelerate(model.backbone)
    out = model(**reference["inputs"])
    torch.testing.assert_close(out.logits, reference["logits"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(out.loss, reference["loss"], atol=TOLERANCE, rtol=0)
    (out.logits * reference["upstream_grad"]).sum().backward(retain_graph=True)
    check_gradients(model, ours(reference, reference["grads_of_weighted_logits"]))
    model.zero_grad()
    out.loss.backward()
    check_gradients(model, ours(reference, reference["grads_of_loss"]))


def check_gradients(model: AdaptedModel, expected: dict[str, torch.Tensor]) -> None:
    parameters = model.trainable_parameters()
    assert set(parameters) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            parameters[name].grad, gradient, atol=TOLERANCE, rtol=0, msg=name
        )
