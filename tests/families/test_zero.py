"""Every listed model type trains the same on one rank and on two, at every ZeRO stage: a tiny
random model of each, three steps of prefix-propagation, weights read straight into shards at stage
3.

Apart from `make test`: `make families`, some minutes.
"""

import copy
from typing import Any

import pytest

from components.backbones.rotary.types import MODEL_TYPES
from components.settings import set_path
from tests.components.backbones.rotary.tiny import tiny_model
from tests.components.training.ranks import run_ranks
from tests.toy import make_experiment

pytestmark = pytest.mark.slow
# Float32 sums in another order, over three steps of AdamW on a toy model.
SAME_UP_TO_ROUNDING = 2e-5
STAGES = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("families")
    made = {}
    for name, kind in MODEL_TYPES.items():
        values = make_experiment(
            folder / name,
            tiny_model(name, pad_token_id=1, max_position_embeddings=128, num_hidden_layers=2),
            **{"head.pooling": "last", "training.epochs": 1, "training.max_steps": 3},
        )
        set_path(values, "backbone.family", "decoder" if kind.is_causal else "encoder")
        set_path(values, "adapter.dropout", 0.0)
        made[name] = values

    def cases(*, stage: int, ranks: int) -> list[dict[str, Any]]:
        found = []
        for name, values in made.items():
            changed = copy.deepcopy(values)
            set_path(changed, "training.micro_batch_size", 4 // ranks)
            set_path(changed, "zero.stage", stage)
            case = {"name": f"{name} {stage} on {ranks}", "values": changed}
            found.append(case | {"toy_tokenizer": True})
        return found

    found = run_ranks(folder / "one", cases(stage=0, ranks=1), size=1)
    for stage in STAGES:
        found |= run_ranks(folder / f"stage {stage}", cases(stage=stage, ranks=2), size=2)
    return found


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", MODEL_TYPES)
def test_two_ranks_train_as_one(results: dict[str, Any], name: str, stage: int) -> None:
    one, two = results[f"{name} 0 on 1"], results[f"{name} {stage} on 2"]
    assert one["outcome"] == two["outcome"] == "completed", (one["reason"], two["reason"])
    assert one["losses"] == pytest.approx(two["losses"], abs=SAME_UP_TO_ROUNDING)
    for tensor, values in one["best"].items():
        assert values == pytest.approx(two["best"][tensor], abs=SAME_UP_TO_ROUNDING), tensor
