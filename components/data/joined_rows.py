"""Two stray quotes make one record of several rows of a CSV file, and a legal one: a field that
holds whole rows.

Every line of such a record is a row of its own, with values in its other columns that other rows
have too (labels), or ids of the same form. A text that was meant so is not taken for one.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

from components.data.content import opened_text

LONGEST_ID = 100
MANY = 5
"""So many lines that all begin or end with a number of their own are no text."""
SAMPLE = 1000
"""Lines of a record that are compared with other rows: enough to tell a text from rows."""


class JoinedRows:
    """Tells the joined rows of one CSV file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._others: list[tuple[set[str], set[str]]] | None = None
        self._rows = 0

    def are(self, lines: Sequence[str], width: int) -> bool:
        """Whether a record of these lines and `width` fields is several rows of the file."""
        # no quotes are looked for: one inside such a field would have ended it
        if len(lines) == 1 or width == 1 or any(line.count(",") != width - 1 for line in lines):
            return False
        rows = [[field.strip().strip('"') for field in line.split(",")] for line in lines[:SAMPLE]]
        return self._like_others(rows, width)

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
    reader, before = csv.reader(file), 0
    for fields in reader:
        if reader.line_num == before + 1:
            yield fields
        before = reader.line_num


def _form(value: str) -> str:
    """Equal for ids of one form; texts beyond any label or id count as different anyway."""
    return re.sub(r"\d+", "0", value.strip()[:LONGEST_ID])


def _may_be_ids(values: Sequence[str]) -> bool:
    """Bare numbers are ids of rows only where they count them, or are many: a text may hold any."""
    if len(set(values)) == len(values) >= MANY:
        return True
    if not all(value.isdecimal() and len(value) <= LONGEST_ID for value in values):
        return True
    return all(int(after) - int(before) == 1 for before, after in pairwise(values))
