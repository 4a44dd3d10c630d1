"""Text that others wrote (labels, ids, messages about both), before it reaches a terminal, which
would obey it.
"""

KEPT = "\n\t\u200c\u200d"
"""Line ends, and the joiners without which some scripts cannot be written."""


def printable(text: str) -> str:
    """The text with every character that moves a cursor, changes a colour or turns the direction of
    writing as its escape: `\\x1b`, `\\u202e`.
    """
    return "".join(
        character
        if character.isprintable() or character in KEPT
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
