"""The bytes of a local file, decompressed where the name ends in .gz, and what they are where they
are not what the name says.

A name that does not fit its content is refused with the name that would, not guessed around: the
next program that reads the file would stumble too.
"""

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import IO, cast

from components.data.lookalikes import shown
from components.errors import DataError

GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"
SPREADSHEET = "save the table as CSV in UTF-8"

FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (rb"\x1f\x8b", "compressed by gzip", "name it {name}.gz"),
    (rb"PAR1[\x00-\x08\x0b-\x1f]", "a Parquet file", "name it {stem}.parquet"),
    (rb"PK\x03\x04", "a zip archive or an Excel workbook", f"unpack it, or {SPREADSHEET}"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", SPREADSHEET),
    (rb"BZh[1-9]1AY&SY", "compressed by bzip2", "decompress it"),
    (rb"\xfd7zXZ\x00", "compressed by xz", "decompress it"),
    (rb"\x28\xb5\x2f\xfd", "compressed by zstd", "decompress it"),
    (rb"ARROW1\x00\x00", "an Arrow file", "write it as Parquet"),
    (rb"%PDF-", "a PDF document", "give a table of texts"),
    (rb"SQLite format 3\x00", "an SQLite data base", SPREADSHEET),
    (rb"version https://git-lfs\.", "a Git LFS pointer", "fetch the file itself with git lfs pull"),
    (
        rb"(?i:\s*<(!doctype html|html|\?xml))",
        "a web page or XML",
        "download the file itself again",
    ),
    (rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff", "encoded as UTF-32", "save it as UTF-8"),
    (rb"\xff\xfe|\xfe\xff", "encoded as UTF-16", "save it as UTF-8"),
    (rb"[^\x00]\x00\x00\x00|\x00\x00\x00[^\x00]", "encoded as UTF-32", "save it as UTF-8"),
    (rb"[^\x00]\x00|\x00[^\x00]", "encoded as UTF-16", "save it as UTF-8"),
    (rb"\x00", "damaged: it starts with NUL bytes", "copy it again"),
)
"""How content begins that no reader of text takes; what it is; what to do about it."""
LONGEST_START = 64

DAMAGES = (EOFError, gzip.BadGzipFile, zlib.error)


def check_exists(path: str, config_path: str) -> None:
    """Raises `DataError` that names the nearest file there is."""
    try:
        if Path(path).is_file():
            return
        if Path(path).is_dir():
            raise DataError(f"{config_path}: '{path}' is a folder; give one of the files in it")
        folder = Path(path).parent
        entries = [entry.name for entry in folder.iterdir()] if folder.is_dir() else None
    except OSError as error:
        raise DataError(f"{config_path}: cannot read '{path}' ({error.strerror})") from error
    near = get_close_matches(Path(path).name, entries or [], n=1)
    hint = (
        f" Did you mean '{folder / near[0]}'?"
        if near
        else ""
        if entries is not None
        else f" The folder '{folder}' does not exist either."
    )
    raise DataError(
        f"{config_path}: no file '{path}'.{hint} Give the path with --set {config_path}=..."
    )


@contextmanager
def naming_damage(path: str, place: Callable[[], str] = str) -> Iterator[None]:
    """Turns what goes wrong while the file is read into `DataError`; `place` says after which row,
    if that is known.
    """
    try:
        yield
    except DAMAGES as error:
        raise DataError(
            f"{path}: the gzip data is damaged{place()} ({error}); copy the file again"
        ) from error
    except PermissionError as error:
        raise DataError(f"{path}: may not be read by this user; change its permissions") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read{place()} ({error}); copy it again") from error


@contextmanager
def opened_bytes(path: str) -> Iterator[IO[bytes]]:
    """The content. Raises `DataError` where it is not what the name says; what goes wrong while it
    is read, `naming_damage` names.
    """
    compressed = path.lower().endswith(".gz")
    with Path(path).open("rb") as file:
        if compressed:
            _check_compressed(path, file.peek(LONGEST_START)[:LONGEST_START])
        content = gzip.GzipFile(fileobj=file, mode="rb") if compressed else file
        _refuse_foreign(path, content.peek(LONGEST_START)[:LONGEST_START], compressed)
        yield cast("IO[bytes]", content)


@contextmanager
def opened_text(path: str) -> Iterator[io.TextIOWrapper]:
    """The content as lines with their ends (CR LF, LF or CR), a mark at its start left out. Bytes
    that are not UTF-8 come through as lone surrogates. Raises as `opened_bytes` does.
    """
    with opened_bytes(path) as content:
        yield io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="")


def what_it_is(path: str, start: bytes) -> str | None:
    """What content that begins so is, and what to do, where it is no text."""
    for pattern, what, fix in FOREIGN:
        if re.match(pattern, start, re.DOTALL):
            name = Path(path).name
            stem = re.sub(r"\.(jsonl|csv|json|txt)$", "", name, flags=re.IGNORECASE)
            return f"{what}; {fix.format(name=shown(name), stem=shown(stem))}"
    return None


def _refuse_foreign(path: str, start: bytes, compressed: bool) -> None:
    found = what_it_is(path, start)
    if found is None:
        return
    if not compressed:
        raise DataError(f"{path}: {found}")
    what = found.partition(";")[0]
    fix = "unpack it and give what it holds" if "UTF" not in what else "save it as UTF-8"
    raise DataError(f"{path}: what gzip packed here is {what}; {fix}")


def _check_compressed(path: str, start: bytes) -> None:
    if start.startswith(GZIP):
        return
    if not start:
        raise DataError(f"{path}: empty, not even a gzip header; copy the file again")
    found = what_it_is(path[: -len(".gz")], start)
    name = Path(path).name[: -len(".gz")]
    raise DataError(
        f"{path}: not compressed by gzip, but {found}"
        if found is not None
        else f"{path}: not compressed by gzip; name it {shown(name)}, or copy it again if it is "
        "damaged"
    )
