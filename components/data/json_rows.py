"""JSON as people write it by the million lines: one object per line, and what Python's reader would
take or refuse without a clear word.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from components.data.columns import RepeatedColumn, canonical
from components.data.content import opened_text
from components.data.documents import Problem, Row
from components.errors import DataError

OBJECT_FIX = "write one JSON object per line (a table with commas is named .csv)"


class RepeatingObject(dict[str, object]):
    """A JSON object in which a key occurs twice; the last one counts, as everywhere."""

    keys_as_written: tuple[str, ...]

    @property
    def repeated(self) -> list[str]:
        """Keys that occur more than once."""
        return [key for key in self if self.keys_as_written.count(key) > 1]


@dataclass(frozen=True, slots=True)
class LongInteger:
    """An integer of more digits than Python takes: only its text is ever used."""

    digits: str

    def __str__(self) -> str:
        return self.digits


def parsed_json(text: str) -> object:
    """The value. Raises ValueError whose message says what is wrong."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python's limit of digits
        return json.loads(text, object_pairs_hook=_object, parse_int=_integer)


def read_jsonl(path: str, columns: Sequence[str] | None) -> Iterator[Row | Problem]:
    """Rows of one object each; the number is that of the line."""
    names_of = lru_cache(maxsize=1024)(lambda keys: tuple(canonical(keys, columns)))
    with opened_text(path) as lines:
        for number, written in enumerate(lines, start=1):
            line = written.removeprefix("\ufeff")  # of a file that was appended
            if not line.strip():
                continue
            try:
                values = parsed_json(line)
            except ValueError as error:
                if number == 1:
                    _refuse_other_json(path, line)
                fix = "" if "{" in line else OBJECT_FIX
                yield Problem("broken_row", path, number, f"not valid JSON ({error})", fix)
                continue
            if not isinstance(values, dict):
                found = f"expected a JSON object, got {type(values).__name__}"
                yield Problem("broken_row", path, number, found, OBJECT_FIX)
                continue
            try:
                if isinstance(values, RepeatingObject):
                    names_of(values.keys_as_written)
                keys = tuple(values)
                names = names_of(keys)
            except RepeatedColumn as error:
                yield Problem("repeated_column", path, number, str(error))
                continue
            if names != keys:
                values = dict(zip(names, values.values(), strict=True))
            yield Row(path, number, values)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    repeating = RepeatingObject(values)
    repeating.keys_as_written = tuple(key for key, _ in pairs)
    return repeating


def _integer(digits: str) -> int | LongInteger:
    try:
        return int(digits)
    except ValueError:
        return LongInteger(digits)


def _refuse_other_json(path: str, first_line: str) -> None:
    """A list or an object over several lines is another format, not a broken row."""
    if re.fullmatch(r"\s*[\[{]\s*", first_line):
        raise DataError(
            f"{path}: one JSON value over several lines; write one object per line (JSON Lines)"
        )
