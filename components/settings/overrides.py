"""A setting as somebody would type it: what messages advise must arrive as it was meant."""

import re
import shlex

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
READ_AS_OTHERS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))
"""Words that YAML does not read as text."""
SPACES = r" \U00000020"


def set_option(path: str, value: str) -> str:
    """The option `--set path=value` for a shell, quoted so that neither the shell nor YAML takes
    the text apart.
    """
    is_plain = PLAIN.fullmatch(value) is not None and value.lower() not in READ_AS_OTHERS
    return f"--set {shlex.quote(f'{path}={value if is_plain else _yaml_text(value)}')}"


def _yaml_text(value: str) -> str:
    """In double quotes, in ASCII that a terminal shows and a wrapped line does not change."""
    text = "".join(_escaped(each) for each in value)
    return f'"{text.replace("  ", SPACES)}"'


def _escaped(each: str) -> str:
    if each in '"\\':
        return f"\\{each}"
    return each if " " <= each <= "~" else f"\\U{ord(each):08X}"
