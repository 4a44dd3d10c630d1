"""What an interrupted search is continued from."""

import json
from pathlib import Path

import pytest

from components.errors import ConfigError
from components.tuning.search_folder import exclusive, new_search, unfinished_search


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
        pytest.raises(ConfigError, match=r"still runs.*ray job stop"),
        exclusive(unfinished_search(tmp_path, "toy", "a")),
    ):
        pass
    with exclusive(folder):
        pass
