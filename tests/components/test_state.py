"""What is kept is read back as it was written, or found out: every single bit of it."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.atomic_file import read_state, write_state
from components.atomic_folder import atomic_folder
from components.checksums import CHECKSUMS_FILE, Damaged, check

VALUES = {"format": 1, "numbers": [0.1, 1e-300, -0.0, 3], "name": "a\u00e9", "none": None}


def damages(content: bytes) -> Iterator[bytes]:
    """Cut short, emptied, doubled, replaced by zeros, and with one bit of every byte flipped."""
    yield from (content[:-20], b"", content + content, bytes(len(content)))
    for place in range(0, len(content), max(1, len(content) // 40)):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_values_are_read_back_and_every_change_is_found(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    write_state(file, VALUES)
    assert read_state(file) == VALUES
    written = file.read_bytes()
    for damaged in damages(written):
        file.write_bytes(damaged)
        try:
            # a bit of white space, or of the checksum's own name: then the values are whole
            assert VALUES.items() <= read_state(file).items()
        except Damaged:
            continue


def test_an_edited_value_is_found(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    write_state(file, {"labels": ["alpha", "beta"]})
    file.write_text(file.read_text().replace("alpha", "gamma"))
    with pytest.raises(Damaged, match="checksum differs"):
        read_state(file)


def test_state_from_before_there_were_checksums_is_read(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(VALUES))
    assert read_state(tmp_path / "old.json") == VALUES
    check(tmp_path)


def sealed(folder: Path) -> Path:
    with atomic_folder(folder, checksums=True) as unfinished:
        (unfinished / "deep").mkdir()
        (unfinished / "a.bin").write_bytes(bytes(range(256)) * 16)
        (unfinished / "deep" / "b.json").write_text("{}")
    return folder


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a file is gone": lambda folder: (folder / "a.bin").unlink(),
    "a file is cut": lambda folder: (folder / "a.bin").write_bytes(b"\0"),
    "a file became a folder": lambda folder: (
        (folder / "a.bin").replace(folder / "c.bin").with_name("a.bin").mkdir()
    ),
    "the checksums are cut": lambda folder: (folder / CHECKSUMS_FILE).write_text("{"),
    "the checksums are empty": lambda folder: (folder / CHECKSUMS_FILE).write_text(""),
    "the checksums are of others": lambda folder: (folder / CHECKSUMS_FILE).write_text("[1]"),
    "a bit deep in it": lambda folder: (folder / "deep" / "b.json").write_text("{ "),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_happens_to_a_sealed_folder_is_found(tmp_path: Path, change: str) -> None:
    folder = sealed(tmp_path / "folder")
    check(folder)
    CHANGES[change](folder)
    with pytest.raises(Damaged, match=r"folder"):
        check(folder)


def test_every_flipped_bit_of_a_file_is_found(tmp_path: Path) -> None:
    folder = sealed(tmp_path / "folder")
    written = (folder / "a.bin").read_bytes()
    for damaged in damages(written):
        (folder / "a.bin").write_bytes(damaged)
        with pytest.raises(Damaged, match=r"a\.bin"):
            check(folder)
    (folder / "a.bin").write_bytes(written)
    check(folder)


def test_a_sealed_folder_may_move_and_what_is_added_is_no_damage(tmp_path: Path) -> None:
    folder = sealed(tmp_path / "folder")
    moved = Path(shutil.move(folder, tmp_path / "elsewhere"))
    (moved / "added.txt").write_text("x")
    check(moved)


def test_the_predecessor_stays(tmp_path: Path) -> None:
    for text in ("one", "two", "three"):
        with atomic_folder(tmp_path / "it", predecessor=tmp_path / "it.before") as unfinished:
            (unfinished / "state").write_text(text)
    assert (tmp_path / "it" / "state").read_text() == "three"
    assert (tmp_path / "it.before" / "state").read_text() == "two"
    assert {path.name for path in tmp_path.iterdir()} == {"it", "it.before"}
