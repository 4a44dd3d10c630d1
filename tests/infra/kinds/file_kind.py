"""What every kind of file in infra/ answers: what is wrong with a text of it, and texts that are
wrong in three ways.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WAYS = ("a key", "a value", "a name")
"""A key that nobody knows; a value that its key does not take; a command, variable, file or object
that does not exist.
"""


@dataclass(frozen=True)
class FileKind:
    """Files of one kind, by patterns below infra/. A content is whatever `read` makes of a text."""

    patterns: tuple[str, ...]
    read: Callable[[str], Any]
    problems: Callable[[Path, Any], list[str]]
    """The file's path and a content in its place -> what is wrong, a line each; none: nothing."""
    broken: Callable[[Path, Any], dict[str, list[Any]]]
    """For each of the ways: contents of which every one must be found wrong."""


def misspelt(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The content with each of its own keys misspelt, one at a time."""
    found = []
    for key in content:
        changed = copy.deepcopy(content)
        changed[f"{key}x"] = changed.pop(key)
        found.append(changed)
    return found
