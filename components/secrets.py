"""Texts without what nobody else may read: passwords and tokens in addresses, headers, pairs of
name and value, and the values that this process was told of.

Everything that leaves the program as text goes through `without_secrets`: errors (UserError does it
itself), the terminal, the tracker. The fact a newcomer gets wrong: a job's command line and its
environment are read on the dashboard by everybody who reaches it.
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
SHORTEST_VALUE = 8
"""A shorter value (`test`) also stands in texts where it is no secret."""

# What the name of a secret ends with: HF_TOKEN, ?X-Amz-Signature=, PGPASSWORD, AWS_ACCESS_KEY_ID.
_NAME = (
    r"[\w.-]*(?:token|password|passwd|passphrase|secret|signature|credentials?|connection_string|"
    r"(?:access|api|account|private|secret)[-_]?key(?:_id)?|webhook_url)"
)
_PAIRS = rf"(?<![\w.-])(?P<name>{_NAME}|pwd|sig)(?P<equals>\s?=\s?)(?P<value>[^\s&;,'\"]+)"
_QUOTED_PAIRS = (
    rf"(?P<name>(?P<quote>['\"])(?:{_NAME}|pwd)(?P=quote)\s*[:,]\s*)"
    r"(?P<open>['\"])(?P<value>(?:(?!(?P=open)).)+)(?P=open)"
)
_SCHEME = "[a-z][a-z0-9+.-]{0,30}:"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A password may hold a slash; then what stands before the colon is no host with a port. A path
    # made of an address has one slash.
    (re.compile(rf"({_SCHEME}//?)[^\s/@:]{{0,200}}:(?!\d+/)\S{{0,500}}@", re.I), rf"\1{HIDDEN}@"),
    (re.compile(rf"({_SCHEME}//)[^\s/]{{0,500}}@", re.I), rf"\1{HIDDEN}@"),
    (re.compile(_QUOTED_PAIRS, re.I), rf"\g<name>\g<open>{HIDDEN}\g<open>"),
    (re.compile(_PAIRS, re.I), rf"\g<name>\g<equals>{HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic) (?=[^\s'\"]*[\d=])[^\s'\"]{8,}"), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"\b(?:hf_|gh[pousr]_|github_pat_|glpat-|xox[abp]-|sk-|dapi)[A-Za-z0-9_-]{20,}"
            r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
            r"|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"
        ),
        HIDDEN,
    ),
)
_SECRET_NAME = re.compile(rf"(?:{_NAME})", re.I)

_known: set[str] = set()


def secret_values(environ: Mapping[str, str]) -> frozenset[str]:
    """The values of an environment that are secret: those whose name says so, and the passwords
    inside addresses. Paths and values under eight characters are left out.
    """
    found = {value for name, value in environ.items() if _SECRET_NAME.fullmatch(name)}
    for value in environ.values():
        found |= _password_in(value)
    return frozenset(
        value
        for value in found
        if len(value) >= SHORTEST_VALUE and not value.startswith(("/", "~"))
    )


def _password_in(address: str) -> set[str]:
    if "://" not in address or "@" not in address:
        return set()
    try:
        password = urlsplit(address).password or ""
    except ValueError:
        return set()
    return {password, unquote(password)}


def keep_secret(values: Iterable[str]) -> None:
    """Hide these values too, in this process, from now on."""
    _known.update(values)


def without_secrets(text: str) -> str:
    """The text with three asterisks in place of every secret in it; addresses lose user and
    password, and stay readable otherwise.
    """
    for value in _known:
        if value in text:
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", HIDDEN, text)
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def without_secret_value(name: str, value: str) -> str:
    """The value of a named entry: hidden where the name says that it is secret, else without the
    secrets in it.
    """
    return HIDDEN if value and _SECRET_NAME.fullmatch(name) else without_secrets(value)


def holds_secret(text: str) -> bool:
    """Whether `without_secrets` would change the text."""
    return without_secrets(text) != text
