"""What must not be seen in a source file when the task is to tell its library: imports, comments
(licence headers) and the libraries' names.
"""

import re
from collections.abc import Iterable, Iterator

MASK = "lib"
IMPORT = re.compile(r"\s*(>>> |\.\.\. )?(from\s+[\w.]+\s+import\b|import\s+[\w.]+)")
BLANK_LINES = re.compile(r"\n\s*\n\s*\n+")


def masked(source: str, names: Iterable[str]) -> str:
    """The source without import statements and whole-line comments, and with every occurrence of a
    name, in identifiers too and in any case, as `lib`.
    """
    pattern = re.compile(
        "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name))),
        re.IGNORECASE,
    )
    text = pattern.sub(MASK, "\n".join(_without_imports(source.splitlines())))
    return BLANK_LINES.sub("\n\n", text).strip()


def _without_imports(lines: Iterable[str]) -> Iterator[str]:
    inside: str | None = None
    for line in lines:
        code = line.split("#", 1)[0].rstrip()
        if inside == "parentheses":
            inside = None if ")" in code else inside
        elif inside == "continued":
            inside = inside if code.endswith("\\") else None
        elif IMPORT.match(line):
            inside = (
                "parentheses"
                if "(" in code and ")" not in code
                else "continued"
                if code.endswith("\\")
                else None
            )
        elif not line.lstrip().startswith("#"):
            yield line
