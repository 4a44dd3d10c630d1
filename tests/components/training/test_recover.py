"""A checkpoint survives a kill at any moment of its replacement."""

import os
from pathlib import Path

import pytest

from components.atomic_folder import atomic_folder, recover


def write(folder: Path, text: str) -> None:
    with atomic_folder(folder) as unfinished:
        (unfinished / "state").write_text(text)


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_killed_writer_leaves_the_old_folder_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """Killed before its first rename, between the two, and before it has cleaned up."""
    checkpoint = tmp_path / "checkpoint"
    write(checkpoint, "old")
    rename, done = os.replace, []

    def killed(source: Path, target: Path) -> None:
        if len(done) == renames:
            raise SystemExit
        done.append(source)
        rename(source, target)

    monkeypatch.setattr(
        "components.atomic_folder.shutil.rmtree", lambda *args, **kwargs: None
    )  # a killed process does not clean up either
    monkeypatch.setattr("components.atomic_folder.os.replace", killed)
    if renames < 2:
        with pytest.raises(SystemExit):
            write(checkpoint, "new")
    else:
        write(checkpoint, "new")
    monkeypatch.undo()
    assert (recover(checkpoint) / "state").read_text() == ("new" if renames == 2 else "old")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_where_nothing_was_written_there_is_nothing(tmp_path: Path) -> None:
    assert not recover(tmp_path / "none" / "checkpoint").exists()
