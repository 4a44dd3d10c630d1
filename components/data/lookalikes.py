"""Names that a reader cannot tell apart: the same letters in another Unicode form, or with
invisible characters between them.

Two labels or two columns of this kind are one to whoever wrote them and two to a program. What is
refused or matched here is what looks the same in every font: composed and decomposed letters,
full-width forms, ligatures, every kind of space, zero-width and control characters, soft hyphens,
direction marks. Upper and lower case, and letters of other alphabets, are visible differences.
"""

import unicodedata

IGNORABLE = (
    range(0x034F, 0x0350),  # combining grapheme joiner
    range(0x115F, 0x1161),  # Hangul fillers
    range(0x17B4, 0x17B6),
    range(0x180B, 0x1810),  # Mongolian variation selectors
    range(0x3164, 0x3165),
    range(0xFE00, 0xFE10),  # variation selectors
    range(0xFFA0, 0xFFA1),
    range(0xE0000, 0xE1000),
)
"""Invisible characters that are of no control or format category."""

SAME_LOOK = frozenset(
    (
        *("<compat>", "<wide>", "<narrow>", "<noBreak>", "<font>"),
        *("<initial>", "<medial>", "<final>", "<isolated>"),
    )
)
"""Compatibility forms that are drawn alike; superscripts, circled digits and the like are not."""


def plain(text: str) -> str:
    """What is seen of a text: equal for texts that look the same."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    visible = "".join(_plain_character(each) for each in text if not _is_invisible(each))
    return " ".join(unicodedata.normalize("NFC", visible).split())


def is_blank(text: str) -> bool:
    """Whether nothing of the text is seen."""
    return all(each.isspace() or _is_invisible(each) for each in text)


def shown(text: str, limit: int = 80) -> str:
    """The text for a message: on one line, at most `limit` characters, with escapes for what cannot
    be seen.
    """
    cut = text if len(text) <= limit else f"{text[: limit - 3]}..."
    return "".join(
        each if each.isprintable() and not _is_invisible(each) else _escape(each) for each in cut
    )


def shown_exactly(text: str, limit: int = 80) -> str:
    """As `shown`, with escapes for all that is not ASCII: tells lookalikes apart."""
    cut = text if len(text) <= limit else f"{text[: limit - 3]}..."
    return "".join(each if " " <= each <= "~" else _escape(each) for each in cut)


def _plain_character(each: str) -> str:
    if each.isspace():
        return " "
    tag = unicodedata.decomposition(each).partition(" ")[0]
    return unicodedata.normalize("NFKC", each) if tag in SAME_LOOK else each


def _is_invisible(each: str) -> bool:
    if each.isascii():
        return (each < " " and not each.isspace()) or each == "\x7f"
    if each.isspace():
        return False
    return unicodedata.category(each) in ("Cc", "Cf") or any(
        ord(each) in some for some in IGNORABLE
    )


def _escape(each: str) -> str:
    return (
        each.encode("ascii", "backslashreplace").decode() if each > "~" else f"\\x{ord(each):02x}"
    )
