"""When workers leave so that more of them can start."""

import pytest

from components.config import validate
from components.config.cluster import ClusterConfig
from components.errors import ConfigError
from components.jobs import elastic
from components.jobs.elastic import FIRST_TRY_SECONDS, Growth, most_workers
from components.jobs.worker_group import scaling

ELASTIC = ClusterConfig(num_workers=4, min_workers=1)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Its last entry is how many workers would fit."""
    places = [0]
    monkeypatch.setattr(elastic, "room_for", lambda cluster: places[-1])
    return places


def test_workers_leave_once_there_is_room_for_more(room: list[int]) -> None:
    growth = Growth(ELASTIC)
    growth.began(2, 0.0)
    assert growth.due(FIRST_TRY_SECONDS) == ""
    room.append(1)
    assert growth.due(FIRST_TRY_SECONDS - 1) == ""
    assert growth.due(FIRST_TRY_SECONDS) == "there is room for 3 workers again"


def test_a_try_that_gave_no_more_doubles_the_time_to_the_next(room: list[int]) -> None:
    growth = Growth(ELASTIC)
    room.append(2)
    now = 0.0
    for wait in (FIRST_TRY_SECONDS, 2 * FIRST_TRY_SECONDS, 4 * FIRST_TRY_SECONDS):
        growth.began(2, now)
        growth.began(2, now)  # every rank tells
        assert growth.due(now + wait - 1) == ""
        assert growth.due(now + wait) != ""
        growth.ended()
        assert growth.due(now + wait) == "", "what ended workers held is no room for more of them"
        now += wait + 30
    growth.began(3, now)
    assert growth.due(now + FIRST_TRY_SECONDS) != ""


def test_all_that_were_asked_for_stay(room: list[int]) -> None:
    growth = Growth(ELASTIC)
    room.append(9)
    assert growth.due(1e9) == "", "before any started"
    growth.began(4, 0.0)
    assert growth.due(1e9) == ""


def test_ray_train_is_asked_for_a_range_and_changes_nothing_under_way() -> None:
    asked = scaling(ELASTIC)
    assert (asked.min_workers, asked.max_workers) == (1, 4)
    assert asked.elastic_resize_monitor_interval_s == float("inf")
    assert scaling(ClusterConfig(num_workers=4)).elasticity_enabled is False


def test_no_more_are_asked_for_than_have_room_now(
    room: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elastic, "FREED_SECONDS", 0.2)
    monkeypatch.setattr(elastic, "BETWEEN_LOOKS_SECONDS", 0.05)
    for free, most in ((0, 1), (3, 3), (9, 4)):
        room.append(free)
        assert most_workers(ELASTIC) == most
    asked = scaling(ELASTIC, most=3)
    assert (asked.min_workers, asked.max_workers) == (1, 3)
    assert scaling(ELASTIC, most=1).num_workers == 1
    room.append(0)
    assert most_workers(ClusterConfig(num_workers=4)) == 4, "a fixed number waits for its room"


def test_room_that_comes_free_late_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([1, 1, 4])
    monkeypatch.setattr(elastic, "room_for", lambda cluster: next(looks))
    monkeypatch.setattr(elastic, "BETWEEN_LOOKS_SECONDS", 0.0)
    assert most_workers(ELASTIC) == 4


def test_fewer_than_none_and_more_than_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="min_workers 3 is more than num_workers 2"):
        validate(ClusterConfig, {"num_workers": 2, "min_workers": 3})
    assert ClusterConfig(num_workers=3).fewest_workers == 3
