"""Agreement of logits on worked examples."""

import numpy as np
import pytest

from components.evaluation.agreement import agreement

FIRST = np.array([[2.0, 0.0], [0.0, 4.0]])


def test_the_same_logits_agree_also_when_a_constant_is_added_to_a_document():
    found = agreement(FIRST, FIRST + np.array([[3.0], [-1.0]]))
    assert (found.largest_difference, found.rms_difference, found.same_answers) == (
        pytest.approx(0),
        pytest.approx(0),
        1.0,
    )


def test_a_worked_example():
    """Centred: [1, -1], [-2, 2] against [0, 0] (a tie goes to the first class) and [-2, 2]; spread
    about the mean [-.5, .5]: rms 1.5.
    """
    found = agreement(FIRST, np.array([[5.0, 5.0], [0.0, 4.0]]))
    assert found.largest_difference == pytest.approx(1)
    assert found.rms_difference == pytest.approx(np.sqrt(2 / 4))
    assert found.relative_difference == pytest.approx(np.sqrt(2 / 4) / 1.5)
    assert found.same_answers == 1.0
    assert agreement(FIRST, np.array([[0.0, 1.0], [0.0, 4.0]])).same_answers == 0.5


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"two sets of logits"):
        agreement(FIRST, FIRST[:1])
