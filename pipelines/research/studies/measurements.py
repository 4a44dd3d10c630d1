"""What a study has measured already: one JSON file per measurement, written whole or not at all.

A measurement is taken from its file only where it was made under the same settings; under others it
is made again and replaced. A change of the code is not noticed: take a new folder then.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.atomic_file import read_state, write_state

Measured = dict[str, Any]


class Measurements:
    """The measurements of one study below `folder`; `say` gets one line per new one."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        self.used: dict[str, float] = {}
        """Name -> seconds that each measurement asked for so far took when it was made."""

    def get(
        self, name: str, settings: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]
    ) -> Measured:
        """The values, measured now if they are not there. `settings`: all that decides them,
        JSON-able; `measure` returns JSON-able values.
        """
        path, key = (
            self.folder / f"{name}.json",
            hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        )
        stored = _read(path)
        if stored is None or stored["key"] != key:
            self.say(f"measuring {name}")
            started = time.monotonic()
            values = dict(measure())
            stored = {"key": key, "seconds": round(time.monotonic() - started, 1), "values": values}
            json.dumps(stored, allow_nan=False)
            write_state(path, stored)
        self.used[name] = stored["seconds"]
        values = stored["values"]
        assert isinstance(values, dict)
        return values

    @property
    def seconds(self) -> float:
        """Time that the measurements asked for so far took to measure, over all the processes that
        measured them.
        """
        return sum(self.used.values())


def _read(path: Path) -> Measured | None:
    """What was measured; None where nothing was, or the file is damaged."""
    try:
        content: Measured = read_state(path)
    except (OSError, ValueError):
        return None
    return content if {"key", "seconds", "values"} <= set(content) else None
