"""What is said of answers by document length counts documents as they were before the cut."""

from types import SimpleNamespace

import numpy as np
import pytest

from components.evaluation import reliability_diagram, softmax
from components.tasks.classification import CLASSIFICATION
from components.tasks.multiple_choice import MULTIPLE_CHOICE

FULL = np.arange(10, 90)
CUT_AT = 60
DRAW = np.random.default_rng(0)
LOGITS = (4 * DRAW.normal(size=(80, 3))).astype(np.float32)
SPLIT = SimpleNamespace(
    label_ids=DRAW.integers(3, size=80),
    tokens=np.minimum(FULL, CUT_AT),
    full_lengths=FULL,
    ids=[str(number) for number in range(80)],
)


def concluded(task):
    splits = {"validation": SPLIT, "test": SPLIT}
    return task.concluded(dict.fromkeys(splits, LOGITS), splits)


def evaluated(task):
    labels = ["a", "b", "c"]
    return task.evaluated(LOGITS, SPLIT, temperature=1.5, data_labels=labels, labels=labels)


@pytest.mark.parametrize("task", [CLASSIFICATION, MULTIPLE_CHOICE])
@pytest.mark.parametrize("said", [concluded, evaluated])
def test_lengths_are_those_before_the_cut_and_what_was_cut_is_counted(task, said):
    buckets = said(task).by_length
    assert [(bucket.shortest, bucket.longest) for bucket in buckets] == [
        (10, 29),
        (30, 49),
        (50, 69),
        (70, 89),
    ]
    assert [bucket.cut for bucket in buckets] == [0, 0, 9, 20]
    assert [bucket.cut_at for bucket in buckets] == [None, None, CUT_AT, CUT_AT]


@pytest.mark.parametrize("task", [CLASSIFICATION, MULTIPLE_CHOICE])
@pytest.mark.parametrize("said", [concluded, evaluated])
def test_reliability_is_told_before_and_after_calibration(task, said):
    found = said(task)
    temperature = 1.5 if said is evaluated else found.calibration["temperature"]
    after = reliability_diagram(softmax(LOGITS, temperature=temperature), SPLIT.label_ids)
    before = reliability_diagram(softmax(LOGITS), SPLIT.label_ids)
    assert found.reliability.count == after.count
    # Logits are divided in float32 there, in float64 here.
    assert found.reliability.ece == pytest.approx(after.ece, abs=1e-6)
    assert found.reliability.uncalibrated.count == before.count != after.count
    assert 0 < found.reliability.ece_if_calibrated < found.reliability.uncalibrated.ece
