"""LoRA is an update added to matrices, and nothing before it is trained."""

import pytest
import torch
from transformers import LongformerModel

from tests.components.adapters.harness import (
    build,
    documents,
)
from tests.components.adapters.method_models import (
    KINDS,
    R,
    answers,
    large,
    new,
)


@pytest.mark.parametrize("kind", KINDS)
def test_lora_equals_the_backbone_with_its_update_added(kind: str) -> None:
    model = large("lora", kind)
    merged = build(kind)
    for name, parameter in model.trainable_parameters().items():
        if "lora_A" in name:
            _, _, layer, target, *_ = name.split(".")
            update = (
                model.trainable_parameters()[name.replace("lora_A", "lora_B")] @ parameter * 6.0 / R
            )
            path = next(
                p
                for p, _ in model.family.layers(merged)[int(layer)].named_modules()
                if p.rpartition(".")[2] == target
            )
            with torch.no_grad():
                model.family.layers(merged)[int(layer)].get_submodule(path).weight += update
    plain = new("head_only", kind, backbone=merged)
    plain.head.load_state_dict(model.head.state_dict())
    torch.testing.assert_close(answers(model), answers(plain), atol=5e-5, rtol=1e-5)
    assert float((answers(model) - answers(new("head_only", kind))).abs().max()) > 0.01


def test_lora_takes_every_module_of_a_name_and_nothing_outside_the_layers() -> None:
    """Three modules of a Longformer's layer are called dense, and one of its pooler."""
    backbone = LongformerModel(build("longformer").config, add_pooling_layer=True)
    model = new("lora", "longformer", targets=("dense",), backbone=backbone)
    trained = {name.split(".")[3] for name in model.trainable_parameters() if "lora_A" in name}
    assert trained == {"attention__output__dense", "intermediate__dense", "output__dense"}
    assert type(backbone.pooler.dense) is torch.nn.Linear
    _, ids, mask = documents(1)
    model.train()(ids, mask, torch.tensor([0, 2])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.trainable_parameters().values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["lora", "prefix_memory", "san"])
def test_untrained_update_changes_nothing(method: str, kind: str) -> None:
    model, plain = new(method, kind), new("head_only", kind)
    plain.head.load_state_dict(model.head.state_dict())
    torch.testing.assert_close(answers(model), answers(plain), atol=1e-6, rtol=0)
