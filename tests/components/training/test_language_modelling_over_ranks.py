"""Language modelling trains the same over ZeRO stages, ranks and micro-batches, and goes the whole
way: train, evaluate, predict.
"""

import copy
import json
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


def experiment(folder: Path, *, tied: bool = False, **changes: Any) -> dict[str, Any]:
    """The toy documents as prompts; the completion is the label, once or twice, so that documents
    have different numbers of terms.
    """
    import torch
    from transformers import LlamaForCausalLM

    from tests.conftest import build_tiny_decoder

    torch.manual_seed(0)
    config = build_tiny_decoder(
        pad_token_id=1, initializer_range=0.3, tie_word_embeddings=tied
    ).config
    settings = {
        "data.task": "language_modelling",
        "data.columns": {"prompt": "text", "completion": "answer"},
        "data.max_tokens": 40,
        "data.max_new_tokens": 4,
        "training.metric": "validation/nll",
    }
    values = make_experiment(folder, LlamaForCausalLM(config), **settings | changes)
    for path in values["data"]["files"].values():
        rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
        for number, row in enumerate(rows):
            row["answer"] = " ".join([row.pop("label")] * (1 + number % 2))
        Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return values


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("language_modelling")
    bases = {
        tied: experiment(
            folder / f"tied {tied}", tied=tied, **{"training.epochs": 1, "training.max_steps": 3}
        )
        for tied in (False, True)
    }

    def cases(stage: int, ranks: int, micro: int = 4) -> list[dict[str, Any]]:
        found = []
        for tied, base in bases.items():
            values = copy.deepcopy(base)
            set_path(values, "training.micro_batch_size", micro // ranks)
            set_path(values, "training.gradient_accumulation_steps", 4 // micro)
            set_path(values, "zero.stage", stage)
            found.append({"name": f"{tied} {stage} {micro}", "values": values})
        return found

    found = run_ranks(folder / "one", [*cases(0, 1), *cases(0, 1, micro=1)], size=1)
    for stage in STAGES[1:]:
        found |= run_ranks(folder / f"two at stage {stage}", cases(stage, 2), size=2)
    return found


@pytest.mark.parametrize("other", ["0 1", "1 4", "2 4", "3 4"])
@pytest.mark.parametrize("tied", [False, True])
def test_stages_ranks_and_micro_batches_agree(
    results: dict[str, Any], tied: bool, other: str
) -> None:
    one, another = results[f"{tied} 0 4"], results[f"{tied} {other}"]
    assert one["parameters"] == another["parameters"] == 2 * 4 * 32
    for key in ("losses", "validation"):
        assert one[key] == pytest.approx(another[key], abs=SAME_UP_TO_ROUNDING), key
    assert set(one["best"]) == set(another["best"]) == {"adapter.prefix"}


def test_it_goes_the_whole_way(tmp_path: Path) -> None:
    columns = ["data.columns.prompt=text", "data.columns.completion=answer"]
    way = gone(experiment(tmp_path), tmp_path, overrides=columns)
    report, measured, found = way.report, way.measured, way.answers
    assert report.trainable_parameters == way.planned == 2 * 4 * 32
    assert report.history[-1]["train/loss"] < report.history[0]["train/loss"]
    assert report.metrics["test/perplexity"] > 1
    assert way.stored["head"] == {"task": "language_modelling"}
    assert way.stored["training"]["max_new_tokens"] == 4
    assert measured.uncalibrated["nll"] == pytest.approx(report.metrics["test/nll"], abs=1e-5)
    assert len(found) == 9 and all(set(each) == {"id", "completion"} for each in found)
    assert all(len(each["completion"].split()) <= 4 for each in found)
    # Six epochs teach it what a completion is made of, if not which.
    words = {word for each in found for word in each["completion"].split()}
    assert words & set(LABELS)
