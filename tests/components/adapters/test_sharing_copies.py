"""Adapters on copies that share one backbone's weights: each answers as on a backbone of its own,
bit for bit, whatever the others do; and the weights are there once.
"""

from copy import deepcopy
from itertools import chain
from typing import Any

import pytest
import torch
from torch import nn

from components.adapters import AdaptedModel, ClassificationHeadConfig, adapt
from components.adapters.methods import ADAPTER_CONFIGS
from components.backbones.sharing import is_shared, own_parameter, sharing_copy
from tests.components.adapters.harness import build, documents, randomise
from tests.components.adapters.method_models import KINDS, METHODS, PAIRS

TOKEN_TYPES = "embeddings.token_type_embeddings.weight"


def made(backbone: nn.Module, kind: str, method: str, seed: int) -> AdaptedModel:
    """An adapter with values of its own."""
    torch.manual_seed(seed)
    config: Any = ADAPTER_CONFIGS[method]
    pooling = "mean" if kind == "longformer" else "last"
    head = ClassificationHeadConfig(num_labels=3, pooling=pooling)
    model = adapt(backbone, config(**METHODS[method]), head)
    randomise(model, only="adapter")
    randomise(model, only="backbone")
    return model.eval()


def logits(model: AdaptedModel) -> torch.Tensor:
    _, ids, mask = documents(model.backbone.config.pad_token_id)
    with torch.inference_mode():
        found: torch.Tensor = model(ids, mask).logits
    return found


def whole(kind: str, *, fast: bool) -> Any:
    backbone = build(kind)
    if fast:
        from components.backbones import family_of

        family_of(backbone).accelerate(backbone)
    return backbone


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_of_every_method_side_by_side_answer_as_alone(kind: str, fast: bool) -> None:
    methods = [method for method, of in PAIRS if of == kind]
    alone = [
        logits(made(whole(kind, fast=fast), kind, method, seed))
        for seed, method in enumerate(methods)
    ]
    shared = whole(kind, fast=fast)
    models = [made(sharing_copy(shared), kind, method, seed) for seed, method in enumerate(methods)]
    for _ in range(2):
        for model, expected in zip(models, alone, strict=True):
            assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("method", METHODS)
def test_training_one_changes_neither_the_shared_weights_nor_the_others(method: str) -> None:
    shared = build("longformer")
    before = {name: tensor.clone() for name, tensor in shared.state_dict().items()}
    other = made(sharing_copy(shared), "longformer", "prefix_propagation", 1)
    expected = logits(other)
    model = made(sharing_copy(shared), "longformer", method, 2).train()
    parameters = model.trainable_parameters()
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1)
    _, ids, mask = documents(1)
    model(ids, mask, torch.tensor([0, 2])).loss.backward()
    optimizer.step()
    assert torch.equal(logits(other), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.state_dict().items())
    assert all(parameter.grad is None for parameter in shared.parameters())
    assert not any(is_shared(model.backbone, name) for name in model.trained_in_backbone)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_hold_the_weights_once(kind: str) -> None:
    shared = build(kind)
    copies = [made(sharing_copy(shared), kind, "prefix_propagation", seed) for seed in range(3)]
    ours = {tensor.data_ptr() for tensor in chain(shared.parameters(), shared.buffers())}
    for model in copies:
        others = [
            name
            for name, tensor in chain(
                model.backbone.named_parameters(), model.backbone.named_buffers()
            )
            if tensor.data_ptr() not in ours
        ]
        assert others == list(model.trained_in_backbone)
        assert not {id(module) for module in model.backbone.modules()} & {
            id(module) for module in shared.modules()
        }


def test_a_parameter_becomes_its_own_once_and_leaves_the_copies_of_a_copy_alone() -> None:
    shared = build("longformer")
    copy = sharing_copy(shared)
    assert is_shared(copy, TOKEN_TYPES) and not is_shared(shared, TOKEN_TYPES)
    own = own_parameter(copy, TOKEN_TYPES)
    assert own is own_parameter(copy, TOKEN_TYPES) and not is_shared(copy, TOKEN_TYPES)
    assert torch.equal(own, shared.get_parameter(TOKEN_TYPES))
    unshared = deepcopy(sharing_copy(shared))
    assert not is_shared(unshared, TOKEN_TYPES)
    assert unshared.get_parameter(TOKEN_TYPES) is not shared.get_parameter(TOKEN_TYPES)
