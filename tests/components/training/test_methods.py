"""Every adapter method trains the same over all ZeRO stages and ranks, and leaves nothing behind in
the slot's backbone.

Small parameters are sharded too (param_persistence_threshold 0): a hook that reads a parameter of a
module it does not call would find it empty at stage 3.
"""

import copy
from typing import Any

import pytest

from components.settings import set_path
from tests.components.training.ranks import run_ranks
from tests.toy import make_experiment, make_question_experiment

pytestmark = pytest.mark.slow
# Float32 sums in another order, over three steps of AdamW on a toy model.
SAME_UP_TO_ROUNDING = 2e-5
METHODS: dict[str, dict[str, Any]] = {
    "prefix_propagation": {"prefix_length": 3},
    "prefix_tuning": {"prefix_length": 3},
    "prompt_tuning": {"prefix_length": 3},
    "propagation_and_prefix_tuning": {
        "prefix_length": 3,
        "reparametrization": "mlp",
        "reparametrization_hidden": 6,
    },
    "head_only": {},
    "full_fine_tuning": {},
    "lora": {"rank": 2},
    "adaptive_prefix_propagation": {"prefix_length": 3},
    "adaptive_prefix_tuning": {"prefix_length": 3},
    "prefix_memory": {},
    "kernel_prefix": {"prefix_length": 3},
    "kernel_propagation": {"prefix_length": 3},
    "san": {},
}
STAGES = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from tests.conftest import build_tiny_decoder, build_tiny_longformer

    folder = tmp_path_factory.mktemp("methods")
    # Weights large enough for attention to look somewhere.
    base = make_experiment(
        folder / "longformer",
        build_tiny_longformer(initializer_range=0.2),
        **{"training.epochs": 1, "training.max_steps": 3},
    )
    decoder = make_experiment(
        folder / "decoder",
        build_tiny_decoder(pad_token_id=1),
        **{"head.pooling": "last", "training.epochs": 1, "training.max_steps": 3},
    )

    questions = make_question_experiment(
        folder / "questions",
        build_tiny_longformer(initializer_range=0.2),
        **{"training.epochs": 1, "training.max_steps": 3},
    )

    def cases(
        values: dict[str, Any], methods: Any, *, stage: int, ranks: int, **form: Any
    ) -> list[dict[str, Any]]:
        found = []
        for name, method in methods:
            changed = copy.deepcopy(values)
            set_path(
                changed,
                "adapter",
                {
                    "method": method,
                    **METHODS[method],
                    **form,
                    **({"dropout": 0.0} if METHODS[method] else {}),
                },
            )
            if method == "lora":
                changed["adapter"].pop("dropout")
            set_path(
                changed, "optimizer.learning_rate", 1e-3 if method == "full_fine_tuning" else 1e-2
            )
            set_path(changed, "training.micro_batch_size", 4 // ranks)
            set_path(changed, "zero.stage", stage)
            found.append({"name": f"{name} {stage}", "values": changed})
        return found

    every = [(method, method) for method in METHODS]
    again = [("again " + method, method) for method in ("prefix_propagation", "full_fine_tuning")]
    on_decoder = [
        ("decoder " + method, method)
        for method in ("prefix_tuning", "lora", "kernel_prefix", "san", "full_fine_tuning")
    ]
    on_questions = [
        ("questions " + method, method)
        for method in ("prefix_propagation", "prefix_tuning", "full_fine_tuning")
    ]
    one = cases(base, every + again, stage=0, ranks=1) + cases(
        decoder, on_decoder, stage=0, ranks=1
    )
    one += cases(questions, on_questions, stage=0, ranks=1)
    two = {
        stage: cases(base, every + (again if stage == 3 else []), stage=stage, ranks=2)
        for stage in STAGES[1:]
    }
    for stage in STAGES[1:]:
        two[stage] += cases(questions, on_questions, stage=stage, ranks=2)
    two[3] += cases(decoder, on_decoder, stage=3, ranks=2)
    suffix = {"rank": 2, "placement": "suffix"}
    one += cases(decoder, [("low-rank suffix", "prefix_propagation")], stage=0, ranks=1, **suffix)
    two[3] += cases(
        decoder, [("low-rank suffix", "prefix_propagation")], stage=3, ranks=2, **suffix
    )
    found = run_ranks(folder / "one", one, size=1)
    for (
        stage,
        chosen,
    ) in two.items():  # one after the other, each within the ranks' time limit on a busy machine
        found |= run_ranks(folder / f"two at stage {stage}", chosen, size=2)
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["parameters"] == other["parameters"]
    for key in ("losses", "validation"):
        assert one[key] == pytest.approx(other[key], abs=SAME_UP_TO_ROUNDING), key
    assert set(one["best"]) == set(other["best"])


@pytest.mark.parametrize("stage", STAGES[1:])
@pytest.mark.parametrize("method", METHODS)
def test_zero_stages_and_world_sizes_agree(
    results: dict[str, Any], method: str, stage: int
) -> None:
    same(results[f"{method} {stage}"], results[f"{method} 0"])


@pytest.mark.parametrize(
    "method", ["prefix_tuning", "lora", "kernel_prefix", "san", "full_fine_tuning"]
)
def test_decoder_agrees_under_zero_3(results: dict[str, Any], method: str) -> None:
    same(results[f"decoder {method} 3"], results[f"decoder {method} 0"])


def test_low_rank_suffix_agrees_under_zero_3(results: dict[str, Any]) -> None:
    same(results["low-rank suffix 3"], results["low-rank suffix 0"])
    assert {"adapter.prefix_coefficients", "adapter.prefix_basis"} <= set(
        results["low-rank suffix 3"]["best"]
    )


@pytest.mark.parametrize("stage", STAGES[1:])
@pytest.mark.parametrize("method", ["prefix_propagation", "prefix_tuning", "full_fine_tuning"])
def test_multiple_choice_agrees_over_stages_and_world_sizes(
    results: dict[str, Any], method: str, stage: int
) -> None:
    """Steps of 4 questions in one process at stage 0, and of 2 per rank on two ranks."""
    same(results[f"questions {method} {stage}"], results[f"questions {method} 0"])
    assert {"head.special_tokens.weight", "head.score.weight"} <= set(
        results[f"questions {method} {stage}"]["best"]
    )


@pytest.mark.parametrize("stage", [0, 3])
@pytest.mark.parametrize("method", ["prefix_propagation", "full_fine_tuning"])
def test_trials_of_all_methods_leave_nothing_behind(
    results: dict[str, Any], method: str, stage: int
) -> None:
    """Full fine-tuning among them: the same trial before and after the others gives the same
    bytes.
    """
    assert results[f"again {method} {stage}"]["digest"] == results[f"{method} {stage}"]["digest"]


def test_methods_differ(results: dict[str, Any]) -> None:
    assert len({tuple(results[f"{method} 0"]["validation"]) for method in METHODS}) == len(METHODS)
