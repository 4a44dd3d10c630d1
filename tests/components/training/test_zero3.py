"""What stage 3 keeps of frozen weights, and what it leaves alone: linear layers, embeddings, torch
itself; and below stage 3, what is not sent.
"""

import json
from typing import Any

import pytest
import torch
from torch import nn

from components.config.zero import ZeroConfig
from components.training.zero3 import linear_over_shards, stage3_settings
from tests.components.training.ranks import run_module


def test_by_default_two_layers_are_whole_and_nothing_waits_for_its_next_use() -> None:
    settings = stage3_settings(ZeroConfig(stage=3), layer_numel=1000)
    assert settings["stage3_max_live_parameters"] == 2000
    assert settings["stage3_max_reuse_distance"] == 0
    assert settings["memory_efficient_linear"] is False


def test_what_the_user_allows_stays_whole() -> None:
    settings = stage3_settings(ZeroConfig(stage=3, max_live_parameters=500), layer_numel=1000)
    assert settings["stage3_max_live_parameters"] == settings["stage3_max_reuse_distance"] == 500


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_a_linear_layer_over_shards_computes_as_torch_s(trained: bool, bias: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(6, 4, bias=bias), nn.Linear(6, 4, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    linear_over_shards(nn.Sequential(ours.requires_grad_(trained)))
    theirs.requires_grad_(trained)
    results = []
    for layer in (ours, theirs):
        input_BTD = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1))
        input_BTD.requires_grad_(True)
        output = layer(input_BTD)
        (output**2).sum().backward()
        gradients = [input_BTD.grad, *(each.grad for each in layer.parameters())]
        results.append([output, *(each for each in gradients if each is not None)])
    assert len(results[0]) == len(results[1]) == 2 + trained * (1 + bias)
    for one, other in zip(*results, strict=True):
        # Sums over rows in another order.
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_frozen_linear_layer_over_shards_keeps_its_weight_alone_and_no_view_of_it() -> None:
    layer = nn.Linear(6, 4).requires_grad_(False)
    linear_over_shards(nn.Sequential(layer))
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(torch.randn(2, 3, 6, requires_grad=True))
    assert [each.shape for each in kept] == [(4, 6)] and kept[0].is_leaf


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks found (zero3_ranks.py)."""
    from tests.conftest import build_tiny_decoder
    from tests.toy import make_experiment

    folder = tmp_path_factory.mktemp("zero3")
    values = make_experiment(
        folder,
        build_tiny_decoder(pad_token_id=1, vocab_size=128),
        **{"head.pooling": "last", "zero.stage": 3},
    )
    (folder / "experiment.json").write_text(json.dumps(values))
    run_module("tests.components.training.zero3_ranks", folder, size=2, seconds=300)
    return [json.loads((folder / f"told{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_stage_3_leaves_nothing_in_torch_or_transformers(told: list[dict[str, Any]]) -> None:
    assert [each["changed"] for each in told] == [[], []]


@pytest.mark.slow
def test_after_a_step_no_frozen_weight_is_whole(told: list[dict[str, Any]]) -> None:
    assert [each["whole after a step"] for each in told] == [[], []]


@pytest.mark.slow
def test_recomputed_layers_are_let_go_one_by_one_in_every_trial_of_a_slot(
    told: list[dict[str, Any]],
) -> None:
    """A destroyed engine's functions on the modules would keep all of them in the second."""
    for each in told:
        assert 0 < max(each["layers whole at once"]) <= 1


@pytest.mark.slow
def test_rows_looked_up_over_shards_are_those_of_the_file(told: list[dict[str, Any]]) -> None:
    for each in told:
        assert each["weight is away"] and each["weight is back"]
        assert each["few rows equal"] and each["many rows equal"]


@pytest.mark.slow
def test_trained_parameters_are_sent_and_frozen_ones_are_not(told: list[dict[str, Any]]) -> None:
    assert [each["frozen"] for each in told] == [0.0, 7.0]
    assert told[0]["trained"] == told[1]["trained"]


@pytest.mark.slow
def test_other_weights_on_another_rank_are_told_by_name(told: list[dict[str, Any]]) -> None:
    for each in told:
        assert "rank 1" in each["refusal"] and "layers.0.mlp.up_proj.weight" in each["refusal"]
