"""CSV, strictly: a quote that was never closed must not swallow the rows after it.

The fact a newcomer gets wrong: rows are records, not lines. A quoted field may hold line ends, so
the number of a row (the header is row 1) may differ from that of the line it begins in.
"""

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

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
from components.data.lookalikes import plain
from components.errors import DataError

LONGEST_ID = 100
SAMPLE = 1000
"""Lines of a record that are compared with other rows: enough to tell a text from rows."""
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
    suspects = _Suspects(path)
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
            fault = _fault(fields, written) or suspects.fault(lines.of_record, len(header))
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


def _count_fix(fields: Sequence[str], width: int) -> str:
    if len(fields) < width:
        return "add what is missing, or delete the row"
    if not any(fields[width:]):
        return "delete the commas at its end, or name their columns in the header"
    return "put a text that holds commas between double quotes, or delete the row"


class _Suspects:
    """Finds the record that two stray quotes make of several: a legal one, with a field that holds
    whole rows.

    Every line of such a record is a row of its own, with values in its other columns that other
    rows have too (labels) or ids of the same form. A text that was meant so is not taken for one.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._others: list[tuple[set[str], set[str]]] | None = None
        self._rows = 0

    def fault(self, lines: Sequence[str], width: int) -> tuple[str, ...] | None:
        """What is wrong about a record of these lines and `width` fields, as `_fault` says it."""
        # no quotes are looked for: one inside such a field would have ended it
        if len(lines) == 1 or width == 1 or any(line.count(",") != width - 1 for line in lines):
            return None
        rows = [[field.strip().strip('"') for field in line.split(",")] for line in lines[:SAMPLE]]
        if not self._like_others(rows, width):
            return None
        found = f"a quoted field holds {len(lines)} lines that each read as a row"
        return "broken_row", found, f"{QUOTE_FIX}, or write the file as JSON Lines if it is right"

    def _like_others(self, inner: Sequence[Sequence[str]], width: int) -> bool:
        telling = False
        for column, (values, forms) in enumerate(self._known(width)):
            own = [row[column] for row in inner]
            own_values, own_forms = set(own), {_form(value) for value in own}
            if own_values != {""} and self._are_few(values, own_values, len(own)):
                alike = not self._rows or own_values <= values
            elif own_values != {""} and self._are_few(forms, own_forms, len(own)):
                alike = (not self._rows or own_forms <= forms) and _may_be_ids(own)
            else:
                continue  # as good as every row has a value of its own
            if not alike:
                return False
            telling = True
        return telling

    def _are_few(self, others: set[str], own: set[str], lines: int) -> bool:
        return 2 * (len(others) + len(own - others)) <= self._rows + lines

    def _known(self, width: int) -> list[tuple[set[str], set[str]]]:
        """Values and their forms in the rows of one line, by column: read anew, once, on
        suspicion.
        """
        if self._others is None:
            self._others = [(set(), set()) for _ in range(width)]
            with opened_text(self._path) as file:
                for fields in islice(_rows_of_one_line(file), 1, None):
                    if len(fields) == width:
                        self._rows += 1
                        for (values, forms), field in zip(self._others, fields, strict=True):
                            values.add(field.strip()[:LONGEST_ID])
                            forms.add(_form(field))
        return self._others


def _rows_of_one_line(file: Iterable[str]) -> Iterator[list[str]]:
    lines = _Lines(file)
    reader = csv.reader(lines)
    for fields in reader:
        if len(lines.of_record) == 1:
            yield fields
        lines.of_record.clear()


def _form(value: str) -> str:
    """Equal for ids of one form; texts beyond any label or id count as different anyway."""
    return re.sub(r"\d+", "0", value.strip()[:LONGEST_ID])


def _may_be_ids(values: Sequence[str]) -> bool:
    """Bare numbers are ids of rows only where they count them: a text may hold any."""
    if not all(value.isdecimal() and len(value) <= LONGEST_ID for value in values):
        return True
    return all(int(after) - int(before) == 1 for before, after in pairwise(values))
