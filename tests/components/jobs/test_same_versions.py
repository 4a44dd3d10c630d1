"""Driver and workers run the same, or one line says what differs."""

from typing import Any

import pytest

from components.errors import ClusterError
from components.jobs.same_versions import check_builds, check_versions, versions


class OfRanks:
    """As much of a world as is asked."""

    def __init__(self, *values: str) -> None:
        self.values = list(values)

    def gather(self, value: Any) -> list[str]:
        return self.values


def test_the_same_versions_are_told() -> None:
    assert check_versions(versions()) == versions()
    assert versions()["torch"].count("+") == 0, "a driver may have another build"


def test_all_that_differs_is_told_in_one_line() -> None:
    driver = versions() | {"torch": "1.0", "code": "other"}
    with pytest.raises(ClusterError) as caught:
        check_versions(driver)
    told = str(caught.value)
    assert f"torch {versions()['torch']} (the driver: 1.0)" in told
    assert "(the driver: other)" in told and "constraints.txt" in told and "\n" not in told


def test_ranks_of_one_slot_have_one_build() -> None:
    world: Any = OfRanks("12.6", "12.6")
    check_builds(world, build="12.6")
    world = OfRanks("12.6", "none")
    with pytest.raises(ClusterError, match=r"rank 0: 12\.6, rank 1: none"):
        check_builds(world, build="12.6")
