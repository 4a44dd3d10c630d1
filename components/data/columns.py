"""Which column of a file is the one that the settings name, and what is said where none is, or two.

A column is found by what is seen of its name (lookalikes.py): `text, label` has a column `label`.
Two columns that look the same are refused: nobody can tell which of them was meant.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from components.data.documents import FIXES
from components.data.lookalikes import plain, shown, shown_exactly
from components.settings import set_option

NAMED_COLUMNS = 20
SEPARATORS = (";", "\t", "|")
KEEP_ONE = FIXES["repeated_column"]


class RepeatedColumn(ValueError):
    """Two columns of a mapped name: the message says which."""


def positions(names: Sequence[str], mapped: Iterable[str]) -> dict[str, int]:
    """Where each mapped column stands, as far as it is there. Raises RepeatedColumn."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(plain(name), []).append(place)
    found = {}
    for column in mapped:
        of_the_name = places.get(plain(column), [])
        if len(of_the_name) > 1:
            raise RepeatedColumn(_repeated(names, of_the_name))
        if of_the_name:
            found[column] = of_the_name[0]
    return found


def canonical(names: Sequence[str], mapped: Iterable[str] | None) -> list[str]:
    """The names, with mapped columns as the settings write them; without a mapping every name
    counts. Raises RepeatedColumn.
    """
    if mapped is None:
        positions(names, {name for name in names if plain(name)})
        return list(names)
    columns = list(names)
    for column, place in positions(names, mapped).items():
        columns[place] = column
    return columns


def listed(names: Iterable[str]) -> str:
    """Names for a message."""
    names = list(names)
    more = len(names) - NAMED_COLUMNS
    return ", ".join(shown(name, 40) for name in names[:NAMED_COLUMNS]) + (
        f" and {more} more" if more > 0 else ""
    )


def separator_of(names: Sequence[str]) -> str | None:
    """What separates columns that were read as a single one."""
    if len(names) != 1:
        return None
    return next((mark for mark in SEPARATORS if mark in names[0]), None)


def wrong_separator(file: str, separator: str) -> str:
    """What is said of a file whose columns are separated by something else than a comma."""
    return f"{file}: the columns are separated by {separator!r}; write the file with commas"


def no_such_column(file: str, setting: str, column: str, names: Sequence[str]) -> str:
    """What is said where no row has the column that data.columns.`setting` names."""
    separator = separator_of(names)
    if separator is not None:
        return wrong_separator(file, separator)
    near = [name for name in names if name.casefold() == column.casefold()]
    near += get_close_matches(column, names, n=1)
    path = f"data.columns.{setting}"
    advice = (
        f"Did you mean '{shown(near[0])}'? Map it with {set_option(path, near[0])}"
        if near
        else f"Map the right one with --set {path}=NAME, or name it so in the file"
    )
    return f"{file} row 1: no column '{shown(column)}'; the columns are {listed(names)}. {advice}"


def _repeated(names: Sequence[str], places: Sequence[int]) -> str:
    first, second = (names[place] for place in places[:2])
    numbers = f"columns {places[0] + 1} and {places[1] + 1}"
    if first == second:
        return f"{numbers} are both named '{shown(first)}'"
    return f"{numbers}, '{shown_exactly(first)}' and '{shown_exactly(second)}', look the same"
