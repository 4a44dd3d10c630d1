"""What an interrupted search is continued from."""

import json
import os
from pathlib import Path

import pytest

from components.errors import ConfigError
from components.tuning.search_folder import (
    exclusive,
    exclusive_experiment,
    new_search,
    searches,
    unfinished_search,
)


def test_every_search_gets_a_new_id(tmp_path: Path) -> None:
    one, two = new_search(tmp_path, "toy", "a"), new_search(tmp_path, "toy", "a")
    assert one.search_id != two.search_id and one.path != two.path


def test_resume_finds_the_unfinished_search_with_its_run(tmp_path: Path) -> None:
    new_search(tmp_path, "toy", "a").with_run("run-0").ended("done").save()
    interrupted = new_search(tmp_path, "toy", "a").with_run("run-1").ended("interrupted")
    interrupted.save()
    assert unfinished_search(tmp_path, "toy", "a") == interrupted
    assert (
        json.loads((Path(interrupted.path) / "search.json").read_text())["search_run_id"] == "run-1"
    )


def test_search_whose_driver_died_counts_as_unfinished(tmp_path: Path) -> None:
    running = new_search(tmp_path, "toy", "a")
    assert unfinished_search(tmp_path, "toy", "a") == running


def test_resume_takes_the_latest_of_several(tmp_path: Path) -> None:
    for day in ("20260101-000000-aaaa", "20260102-000000-aaaa"):
        folder = tmp_path / "toy" / day
        folder.mkdir(parents=True)
        (folder / "search.json").write_text(
            json.dumps(
                {
                    "path": str(folder),
                    "search_id": day,
                    "config_sha256": "a",
                    "state": "interrupted",
                }
            )
        )
    assert unfinished_search(tmp_path, "toy", "a").search_id == "20260102-000000-aaaa"


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no unfinished search of 'toy'"):
        unfinished_search(tmp_path, "toy", "a")
    new_search(tmp_path, "toy", "a").ended("done").save()
    new_search(tmp_path, "other", "a").save()
    with pytest.raises(ConfigError, match="no unfinished search of 'toy'"):
        unfinished_search(tmp_path, "toy", "a")


def test_other_settings_are_refused(tmp_path: Path) -> None:
    new_search(tmp_path, "toy", "a").save()
    with pytest.raises(ConfigError, match="other settings"):
        unfinished_search(tmp_path, "toy", "b")


def test_a_search_has_one_driver_at_a_time(tmp_path: Path) -> None:
    """`--resume` beside a driver that still runs (a job that was followed and left) would write
    into the same checkpoints and runs.
    """
    folder = new_search(tmp_path, "toy", "a")
    with (
        exclusive(folder),
        pytest.raises(ConfigError, match=r"still runs.*prefixprop jobs stop"),
        exclusive(unfinished_search(tmp_path, "toy", "a")),
    ):
        pass
    with exclusive(folder):
        pass


def test_a_clock_that_jumped_does_not_hide_the_later_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(("20300101-000000", "20260101-000000"))
    monkeypatch.setattr("components.tuning.search_folder.time.strftime", lambda _: next(clock))
    first, second = (new_search(tmp_path, "toy", "a") for _ in range(2))
    assert first.search_id > second.search_id
    assert unfinished_search(tmp_path, "toy", "a") == second


def test_a_later_search_with_other_settings_hides_none(tmp_path: Path) -> None:
    first, second = (new_search(tmp_path, "toy", settings) for settings in "ab")
    assert unfinished_search(tmp_path, "toy", "a") == first
    assert unfinished_search(tmp_path, "toy", "a", search_id=first.search_id) == first
    with pytest.raises(ConfigError, match=f"{second.search_id} was started with other settings"):
        unfinished_search(tmp_path, "toy", "a", search_id=second.search_id)
    with pytest.raises(ConfigError, match=rf"{second.search_id} .*, {first.search_id} .*other"):
        unfinished_search(tmp_path, "toy", "c")


def test_an_unknown_id_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    known = new_search(tmp_path, "toy", "a")
    with pytest.raises(ConfigError, match=rf"is called x\. .*--resume ID: {known.search_id}"):
        unfinished_search(tmp_path, "toy", "a", search_id="x")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"path": "x"}', "\0" * 50])
def test_a_damaged_search_stands_in_no_others_way(tmp_path: Path, text: str) -> None:
    good = new_search(tmp_path, "toy", "a")
    bad = new_search(tmp_path, "toy", "a")
    (Path(bad.path) / "search.json").write_text(text)
    with pytest.warns(RuntimeWarning, match=f"{bad.search_id}.*cannot be continued"):
        assert unfinished_search(tmp_path, "toy", "a") == good


def test_moved_storage_is_continued_where_it_lies(tmp_path: Path) -> None:
    search = new_search(tmp_path / "old", "toy", "a")
    (tmp_path / "old").rename(tmp_path / "new")
    found = unfinished_search(tmp_path / "new", "toy", "a")
    assert found.search_id == search.search_id
    assert found.path == str(tmp_path / "new" / "toy" / search.search_id)


def test_the_second_driver_of_an_experiment_is_told_who_holds_it(tmp_path: Path) -> None:
    with exclusive_experiment(tmp_path, "toy"):
        search = new_search(tmp_path, "toy", "a")
        with (
            exclusive(search),
            pytest.raises(ConfigError, match=rf"process {os.getpid()} .*{search.search_id}"),
            exclusive_experiment(tmp_path, "toy"),
        ):
            pass
        with exclusive_experiment(tmp_path, "another"):
            pass
    assert [each.search_id for each in searches(tmp_path, "toy")] == [search.search_id]
