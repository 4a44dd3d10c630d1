"""What the benchmark of quantised backbones compares."""

from pathlib import Path

import numpy as np

from pipelines.research.benchmark.quantised import Answers, case_of, experiment

STATES = np.array([[3.0, 4.0], [0.0, 0.0]])
LOGITS = np.array([[1.0, 0.0], [0.0, 2.0]])
REPORT = {
    "metrics": dict.fromkeys(
        ("test/accuracy", "test/accuracy_low", "test/accuracy_high", "test/nll"), 0.5
    ),
    "tokens_per_second": 10.0,
}


def test_a_backbone_compared_with_itself_differs_in_nothing() -> None:
    same = Answers(STATES, LOGITS, weights_bytes=2**20)
    case = case_of("float32", "toy", REPORT, same, same)
    assert case["hidden_difference"] == case["logit_difference_of_same_adapter"] == 0
    assert case["other_answers_of_same_adapter"] == 0 and case["layers_mib"] == 1


def test_differences_are_over_what_is_expected_and_answers_count_by_document() -> None:
    expected = Answers(STATES, LOGITS, weights_bytes=1)
    found = Answers(STATES * 1.1, LOGITS[:, ::-1], weights_bytes=1)
    case = case_of("nf4", "toy", REPORT, found, expected)
    assert abs(case["hidden_difference"] - 0.1) < 1e-9
    assert case["other_answers_of_same_adapter"] == 1


def test_trainings_differ_in_the_backbone_s_numbers_alone(tmp_path: Path) -> None:
    plain, nf4 = (experiment(kind, {}, tmp_path, epochs=1) for kind in ("float32", "nf4"))
    assert nf4["backbone"].pop("quantization") == "nf4"
    assert plain["backbone"].pop("quantization") is None
    assert plain == nf4
