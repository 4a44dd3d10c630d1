"""What monitoring is told of a champion."""

import numpy as np
import pytest

from components.evaluation import overconfidence
from components.registry.history import HistoryEntry
from pipelines.retraining.monitoring import champion_since


def moved(time: str, before: int | None, after: int | None) -> HistoryEntry:
    return HistoryEntry(time, "promoted", 1, before, after, by="", reason="")


def test_a_champion_is_as_old_as_the_last_move_of_its_alias() -> None:
    first, kept = moved("1970-01-02T00:00:00Z", None, 1), moved("1970-01-03T00:00:00Z", 1, 1)
    second = moved("1970-01-04T00:00:00Z", 1, 2)
    assert champion_since([]) is None
    assert champion_since([first, kept]) == 86400.0
    assert champion_since([first, kept, second]) == 3 * 86400.0
    assert champion_since([first, moved("1970-01-05T00:00:00Z", 1, None)]) is None


@pytest.mark.parametrize("documents", [20, 2000])
def test_overconfidence_has_a_scale_that_does_not_depend_on_the_number_of_documents(
    documents: int,
) -> None:
    """Of calibrated answers its quotient is a standard normal deviate; of those that say more than
    they know it is not.
    """
    draw = np.random.default_rng(0)
    deviates = {"calibrated": [], "overconfident": []}  # type: dict[str, list[float]]
    for _ in range(300):
        confidence_N = draw.uniform(0.5, 1.0, documents)
        for name, truth_N in (("calibrated", confidence_N), ("overconfident", confidence_N - 0.2)):
            gap, error = overconfidence(confidence_N, draw.random(documents) < truth_N)
            deviates[name].append(gap / error)
    # Of 300 draws mean and spread are within 4 standard errors: 4/sqrt(300), 4/sqrt(600).
    assert abs(np.mean(deviates["calibrated"])) < 0.24
    assert abs(np.std(deviates["calibrated"]) - 1.0) < 0.17
    assert np.mean(deviates["overconfident"]) > 1.5
