"""Label words train the same over ZeRO stages and ranks, and go the whole way: train, evaluate,
predict.
"""

import copy
from pathlib import Path
from typing import Any

import pytest

from components.settings import set_path
from tests.components.training.ranks import run_ranks
from tests.components.training.whole_way import gone
from tests.toy import LABELS, make_experiment

pytestmark = pytest.mark.slow
# Float32 sums in another order, over three steps of AdamW on a toy model.
SAME_UP_TO_ROUNDING = 2e-5
STAGES = (0, 1, 2, 3)
PLACEMENTS = ("prefix", "suffix")


def experiment(folder: Path, *, tied: bool = False, **changes: Any) -> dict[str, Any]:
    import torch
    from transformers import LlamaForCausalLM

    from tests.conftest import build_tiny_decoder

    torch.manual_seed(0)
    config = build_tiny_decoder(
        pad_token_id=1, initializer_range=0.3, tie_word_embeddings=tied
    ).config
    settings = {
        "data.task": "label_words",
        "data.template": "w0 {text} w1 w2",
        "data.label_words": {"alpha": "w40"},
        "data.max_tokens": 32,
        "head": {"pooling": "last"},
    }
    return make_experiment(folder, LlamaForCausalLM(config), **settings | changes)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("label_words")
    bases = {
        tied: experiment(
            folder / f"tied {tied}",
            tied=tied,
            **{"training.epochs": 1, "training.max_steps": 3},
        )
        for tied in (False, True)
    }

    def cases(stage: int, ranks: int) -> list[dict[str, Any]]:
        found = []
        for tied, base in bases.items():
            for placement in PLACEMENTS:
                values = copy.deepcopy(base)
                set_path(values, "adapter.placement", placement)
                set_path(values, "training.micro_batch_size", 4 // ranks)
                set_path(values, "zero.stage", stage)
                found.append({"name": f"{tied} {placement} {stage}", "values": values})
        return found

    found = run_ranks(folder / "one", cases(0, 1), size=1)
    for stage in STAGES[1:]:
        found |= run_ranks(folder / f"two at stage {stage}", cases(stage, 2), size=2)
    return found


@pytest.mark.parametrize("stage", STAGES[1:])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("tied", [False, True])
def test_zero_stages_and_world_sizes_agree(
    results: dict[str, Any], tied: bool, placement: str, stage: int
) -> None:
    one, other = (results[f"{tied} {placement} {each}"] for each in (0, stage))
    assert one["parameters"] == other["parameters"] == 2 * 4 * 32
    for key in ("losses", "validation"):
        assert one[key] == pytest.approx(other[key], abs=SAME_UP_TO_ROUNDING), key
    assert set(one["best"]) == set(other["best"]) == {"adapter.prefix"}


def test_it_goes_the_whole_way(tmp_path: Path) -> None:
    way = gone(experiment(tmp_path), tmp_path)
    report, measured, found = way.report, way.measured, way.answers
    assert report.trainable_parameters == way.planned == 2 * 4 * 32
    assert report.history[-1]["train/loss"] < report.history[0]["train/loss"]
    assert way.stored["head"]["label_words"] == ["w40", "beta", "gamma"]
    assert way.stored["training"]["template"] == "w0 {text} w1 w2"
    assert measured.uncalibrated["nll"] == pytest.approx(report.metrics["test/nll"], abs=1e-5)
    assert len(found) == 9
    assert all(set(each["probabilities"]) == set(LABELS) for each in found)
    right = sum(each["label"] == LABELS[index % 3] for index, each in enumerate(found))
    assert right / 9 == pytest.approx(report.metrics["test/accuracy"], abs=1e-6)
