"""CSV, strictly: a quote that was never closed must not swallow the rows after it.

The fact a newcomer gets wrong: rows are records, not lines. A quoted field may hold line ends, so
the number of a row (the header is row 1) may differ from that of the line it begins in.
"""

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Sequence

from components.data.columns import (
    KEEP_ONE,
    RepeatedColumn,
    canonical,
    positions,
    separator_of,
    wrong_separator,
)
from components.data.content import opened_text
from components.data.documents import Problem, Row
from components.data.joined_rows import JoinedRows
from components.data.lookalikes import plain
from components.errors import DataError

MARK = "\ufeff "
QUOTE_FIX = 'close the quote, or double it where the text itself holds one ("")'


class _Lines(Iterator[str]):
    """Lines of the file, and those of the present record."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.read = 0
        self.of_record: list[str] = []

    def __next__(self) -> str:
        line = next(self._lines)
        self.read += 1
        self.of_record.append(line)
        return line


def read_csv(path: str, columns: Sequence[str] | None) -> Iterator[Row | Problem]:
    """Rows by the names in the header. Raises `DataError` for a header that does not do, and for
    quotes that do not match: it names the row in which the field was opened.
    """
    csv.field_size_limit(sys.maxsize)  # the default refuses documents over 131,072 characters
    joined = JoinedRows(path)
    empty: list[int] = []
    with opened_text(path) as file:
        lines = _Lines(file)
        written, spaced = _header(path, lines)
        header = _named(path, written, columns)
        for number, fields in _records(path, lines, spaced):
            if not fields:  # an empty line: in a table of one column an empty text, but at its end
                empty += [number] if len(header) == 1 else []
                continue
            for before in empty:
                yield Row(path, before, {header[0]: ""})
            empty.clear()
            fault = _fault(fields, written)
            if fault is None and joined.are(lines.of_record, len(header)):
                fault = _joined(len(lines.of_record))
            if fault is None:
                yield Row(path, number, dict(zip(header, fields, strict=True)))
            else:
                yield Problem(fault[0], path, number, *fault[1:])


def _header(path: str, lines: _Lines) -> tuple[list[str], bool]:
    """The names as they are written, and whether a space follows each comma."""
    _, names = next(_records(path, lines, False, first=1), (1, []))
    if not any(plain(name) for name in names):
        raise DataError(f"{path}: no header in the first line; name the columns there")
    if re.match(r"\s*[\[{]+\s*(\"|$)", lines.of_record[0]):
        raise DataError(f"{path}: JSON, not CSV; write one object per line and name it .jsonl")
    if re.match("sep=", lines.of_record[0], re.IGNORECASE):
        raise DataError(f"{path} row 1: 'sep=' is a note for Excel, no header; delete the line")
    spaced = len(names) > 1 and all(name.startswith(" ") for name in names[1:])
    if spaced:
        _, names = next(_records(path, _Lines(lines.of_record), True, first=1))
    return [name.strip(MARK) for name in names], spaced


def _named(path: str, written: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    try:
        header = canonical(written, columns)
    except RepeatedColumn as error:
        raise DataError(f"{path} row 1: {error}; {KEEP_ONE}") from error
    separator = separator_of(written)
    if columns is not None and separator is not None and not positions(written, columns):
        raise DataError(wrong_separator(path, separator))
    return header


def _records(
    path: str, lines: _Lines, spaced: bool, first: int = 2
) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of every record; empty lines are records without fields."""
    reader, number = csv.reader(lines, strict=True, skipinitialspace=spaced), first
    while True:
        lines.of_record.clear()
        begins = lines.read + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            place = f"row {number}" if begins == number else f"row {number} (line {begins})"
            raise DataError(f"{path} {place}: {_unmatched(lines, begins, error)}") from error
        yield number, fields
        number += 1


def _unmatched(lines: _Lines, begins: int, error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return (
            f"a quoted field opens here and is not closed until the file ends at line {lines.read};"
            f" {QUOTE_FIX}"
        )
    if "expected after" in str(error) and lines.read == begins:
        return f"text follows the closing quote of a field; {QUOTE_FIX}"
    if "expected after" in str(error):
        return (
            f"a quoted field opens here and goes on to line {lines.read}, where text follows its "
            f"closing quote; {QUOTE_FIX}"
        )
    return f"not readable as CSV ({error}); mend the quoting there"


def _fault(fields: Sequence[str], header: Sequence[str]) -> tuple[str, ...] | None:
    """Reason, what was found and fix."""
    if len(fields) != len(header):
        found = f"{len(fields)} fields where the header names {len(header)}"
        return "broken_row", found, _count_fix(fields, len(header))
    if fields[0].strip(MARK) == header[0] and [field.strip(MARK) for field in fields] == header:
        return "broken_row", "the header stands here again", "delete the row"
    if any("\x00" in field for field in fields):
        found = "has NUL bytes"
        return "bad_encoding", found, "save the file as UTF-8, or copy it again if it is damaged"
    return None


def _joined(lines: int) -> tuple[str, ...]:
    found = f"a quoted field holds {lines} lines that each read as a row"
    return "broken_row", found, f"{QUOTE_FIX}, or write the file as JSON Lines if it is right"


def _count_fix(fields: Sequence[str], width: int) -> str:
    if len(fields) < width:
        return "add what is missing, or delete the row"
    if not any(fields[width:]):
        return "delete the commas at its end, or name their columns in the header"
    return "put a text that holds commas between double quotes, or delete the row"
