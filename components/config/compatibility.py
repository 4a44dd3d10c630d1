"""Which adapter, head and backbone family go together: one truth for the configuration, which knows
names, and for `adapt`, which has the modules.

In a causal decoder a row sees only what stands before it, so rows before the text never see it; in
a Longformer every row sees the text.
"""

from typing import Any, Literal

FamilyName = Literal["longformer", "decoder"]

ROWS_SEE_ALL_TEXT: frozenset[str] = frozenset({"longformer"})
"""Families in which a row can see text that comes after it."""


def why_not(adapter: Any, *, family: str, task: str, pooling: str | None) -> str | None:
    """Why these cannot be trained together, as one sentence that starts with the setting and ends
    with the fix; None: they can.

    `pooling` is None for a head that pools no row.
    """
    sees_all_text = family in ROWS_SEE_ALL_TEXT
    if adapter.method == "kernel_propagation" and not sees_all_text:
        return (
            "adapter.method kernel_propagation needs prefix rows that see the text, and in a "
            f"{family} they do not; use kernel_prefix or backbone.family longformer"
        )
    if getattr(adapter, "placement", "prefix") == "suffix":
        if sees_all_text:
            return (
                f"adapter.placement suffix is for causal decoders; in a {family} the prefix rows "
                "see the text already: remove it"
            )
        if pooling not in (None, "last"):
            return (
                f"head.pooling {pooling} reads rows that cannot see a suffix, which would train "
                "nothing; use last with adapter.placement suffix"
            )
    if getattr(adapter, "released_indexing", False):
        if not sees_all_text:
            return (
                "adapter.released_indexing repeats an error of the paper's Longformer code; remove "
                "it"
            )
        if task == "multiple_choice":
            return (
                "adapter.released_indexing repeats an error of the paper's classification code; "
                "remove it for multiple choice"
            )
    if task == "multiple_choice" and not sees_all_text:
        return (
            "data.qangaroo (multiple choice) asks for scores at candidates that stand before the "
            f"documents, and in a {family} they cannot see them; use backbone.family longformer"
        )
    return None


def why_blind(*, family: str, pooling: str | None) -> str | None:
    """Why a head that pools this row answers the same for every document; None: it does not."""
    if family in ROWS_SEE_ALL_TEXT or pooling not in ("prefix", "cls"):
        return None
    return (
        f"head.pooling {pooling} reads a row that comes before the document in a {family} and "
        "cannot see it, so every document gets the same answer; use last or mean"
    )
