"""What the disk refuses is told in one line that names path and setting."""

import errno
import os
from pathlib import Path

import pytest

from components.errors import ConfigError
from components.settings import disk_problem, expand_path, file_paths, writable_folder, writing


@pytest.fixture(autouse=True)
def nothing_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_paths, "_written", {})


def test_a_folder_below_a_file_is_refused_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^cluster\.cache_path: .*file/cache' \(Not a directory"):
        writable_folder(tmp_path / "file" / "cache", "cluster.cache_path")


@pytest.mark.parametrize("folder", ["/proc/nothing", "/proc", "/dev/full"])
def test_a_place_where_nobody_can_write_is_refused(folder: str) -> None:
    with pytest.raises(ConfigError, match=rf"^output: .*'{folder}'.*Give another folder"):
        writable_folder(Path(folder), "output")


def test_a_name_that_is_too_long_is_cut_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="File name too long") as caught:
        writable_folder(tmp_path / ("n" * 5000), "output")
    assert len(str(caught.value)) < 500


def test_a_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = writable_folder(tmp_path / "a" / "b", "output")
    assert folder.is_dir() and list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.ENAMETOOLONG, errno.EDQUOT]
)
def test_what_goes_wrong_while_writing_names_file_and_setting(tmp_path: Path, number: int) -> None:
    file = str(tmp_path / "cache" / "x.bin")
    with (
        pytest.raises(ConfigError, match=rf"^cluster\.cache_path: '{file}' cannot be.*") as caught,
        writing(tmp_path / "cache", "cluster.cache_path"),
    ):
        raise OSError(number, os.strerror(number), file)
    assert os.strerror(number) in str(caught.value)


def test_an_unreadable_input_is_not_blamed_on_the_folder_that_is_written(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"^'/data/in\.csv' cannot be read"),
        writing(tmp_path, "cluster.cache_path"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "/data/in.csv")


def _save_on_a_full_disk() -> None:
    try:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
    except OSError as error:
        raise RuntimeError("cannot save") from error


def test_a_full_disk_without_a_name_is_found_below_other_errors(tmp_path: Path) -> None:
    writable_folder(tmp_path, "cluster.storage_path")
    with pytest.raises(RuntimeError) as caught:
        _save_on_a_full_disk()
    line = disk_problem(caught.value) or ""
    assert line.startswith("No space left on device: nothing more can be written. Free space")
    foreign = RuntimeError("I/O error: No space left on device (os error 28)")
    assert (disk_problem(foreign) or "").startswith("No space left on device: nothing more can")


def test_what_is_no_matter_of_the_disk_keeps_its_traceback() -> None:
    assert disk_problem(ZeroDivisionError()) is None
    assert disk_problem(PermissionError(errno.EACCES, "Permission denied")) is None  # a socket's
    assert disk_problem(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing(tmp_path, "output"):
        (tmp_path / "absent").read_text()


def test_paths_are_expanded_as_a_shell_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("JOB", "7")
    assert expand_path("~/a-$JOB/${JOB}") == "/home/ann/a-7/7"
    assert expand_path("a/~/b") == "a/~/b"
    assert expand_path("$NOT_SET_HERE/x") == "$NOT_SET_HERE/x"
