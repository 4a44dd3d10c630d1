"""Names that models registered by earlier commits import, and where they stand now.

Such a model brings its own copy of `components`, but in a process that has imported today's
before, Python keeps what it has, and the model's code meets these modules
(tests/compatibility/test_befcae5.py). A name leaves this table when no such model is in use.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

MOVED = {
    ("components.data.documents", "Question"): "components.tasks.questions",
    ("components.data.qangaroo", "questions_of"): "components.tasks.questions",
}


def moved_names(module: str) -> Callable[[str], Any]:
    """The module-level `__getattr__` of `module`."""

    def find(name: str) -> Any:
        if (module, name) not in MOVED:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(import_module(MOVED[module, name]), name)

    return find
