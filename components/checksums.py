"""Checksums of what is kept: of the values of a JSON file, which stand in the file itself, and of
the files of a folder, which stand in its checksums.json.

State that carries none was written by an earlier version and is read as it is. Every check costs
one reading: sha256 takes about a second for each GB (components/README.md has the measurement).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CHECKSUMS_FILE = "checksums.json"
KEY = "sha256"
FORMAT = 1


class Damaged(ValueError):
    """A file does not hold what was written: bits that flipped, a write that broke off, an edit."""


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """The values as JSON will give them back, and the checksum over them."""
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return plain | {KEY: _of_values(plain)}


def checked(text: str) -> dict[str, Any]:
    """The values of a JSON text, without their checksum. Raises Damaged where they are not those
    that were written, or no object.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise Damaged(f"it is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise Damaged("it is no JSON object")
    if values.pop(KEY, None) not in (None, _of_values(values)):
        raise Damaged("its checksum differs: it was damaged or edited")
    return values


def _of_values(values: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in values.items() if name != KEY}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def seal(folder: Path, names: Iterable[str] | None = None) -> None:
    """Write the checksums of a folder's files (all of them, or those named) into its
    checksums.json.
    """
    chosen = sorted(_files(folder) if names is None else names)
    files = {name: _of_file(folder / name) for name in chosen}
    text = json.dumps(with_checksum({"format": FORMAT, "files": files}), indent=1)
    (folder / CHECKSUMS_FILE).write_text(text + "\n", encoding="utf-8")


def check(folder: Path) -> None:
    """Raise Damaged where a file of a sealed folder is missing or is not what was written."""
    sums = folder / CHECKSUMS_FILE
    if not sums.is_file():
        return
    try:
        files = checked(sums.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        raise Damaged(f"'{sums}' is damaged: {error}") from error
    for name, expected in files.items():
        try:
            found = _of_file(folder / name, only_if=expected["bytes"])
        except OSError as error:
            raise Damaged(f"'{folder / name}' cannot be read: {error.strerror}") from error
        if found != expected:
            raise Damaged(
                f"'{folder / name}' is not what was written ({found['bytes']} bytes, "
                f"{expected['bytes']} then; its checksum differs)"
            )


def _files(folder: Path) -> Iterable[str]:
    return (
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name != CHECKSUMS_FILE
    )


def _of_file(path: Path, *, only_if: int | None = None) -> dict[str, Any]:
    """Size and checksum; a file of another size than `only_if` is not read."""
    size = path.stat().st_size
    if only_if not in (None, size):
        return {"bytes": size, KEY: ""}
    with path.open("rb") as file:
        return {"bytes": size, KEY: hashlib.file_digest(file, "sha256").hexdigest()}
