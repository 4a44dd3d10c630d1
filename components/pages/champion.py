"""Challenger, champion and baselines side by side on the test documents, each with its interval."""

import math
from typing import TYPE_CHECKING

from components.evaluation.colours import BLUE, GREY, INK, ORANGE
from components.pages import quantities
from components.pages.canvas import canvas, literal, short
from components.pages.values import Contestant, Score, SearchPage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS: dict[Contestant, tuple[str, str, str]] = {
    "challenger": (BLUE, "D", "new"),
    "champion": (ORANGE, "o", "champion before"),
    "baseline": (GREY, "|", "baseline"),
}
"""Colour, mark and word of each kind."""
HEIGHT_PER_SCORE = 0.85


def against_champion(page: SearchPage) -> "Figure | None":
    """The test metric of everyone who is known, the new one on top; None where there is nobody to
    compare with.
    """
    known = [score for score in page.scores if math.isfinite(score.value)]
    if len(known) < 2:
        return None
    kinds = list(LOOKS)
    scores = sorted(known, key=lambda score: kinds.index(score.kind))
    figure, axes = canvas(
        _title(page, scores),
        f"{page.test_metric} on the test documents, with 95% intervals",
        size=(10.5, 2.4 + HEIGHT_PER_SCORE * len(scores)),
    )
    for place, score in enumerate(scores):
        _score(axes, place, score)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_yticks(
        range(len(scores)),
        [literal(f"{short(score.name, 30)}\n{LOOKS[score.kind][2]}") for score in scores],
        fontsize=12.5,
    )
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{page.test_metric} on test documents")
    _ends(axes, scores)
    return figure


def _title(page: SearchPage, scores: list[Score]) -> str:
    """Both numbers and what the gate made of them."""
    new = next((score for score in scores if score.kind == "challenger"), scores[0])
    old = next((score for score in scores if score.kind == "champion"), None)
    title = f"{short(new.name, 24)}: {quantities.score(new.value)}"
    if old is not None:
        title += f", {short(old.name, 24)}: {quantities.score(old.value)}"
    return f"{title} (gate: {page.gate.verdict})" if page.gate else title


def _score(axes: "Axes", place: int, score: Score) -> None:
    colour, mark, _ = LOOKS[score.kind]
    if score.low is not None and score.high is not None:
        axes.plot([score.low, score.high], [place, place], color=colour, linewidth=3, alpha=0.55)
        for end in (score.low, score.high):
            axes.plot(end, place, "|", color=colour, markersize=14, markeredgewidth=2)
    axes.plot(
        score.value,
        place,
        mark,
        color=colour,
        markersize=18 if mark == "|" else 13,
        markeredgewidth=3 if mark == "|" else 1,
        clip_on=False,
    )
    axes.annotate(
        quantities.score(score.value),
        (score.value, place),
        xytext=(0, 13),
        textcoords="offset points",
        ha="center",
        fontsize=13,
        fontweight="bold" if score.kind == "challenger" else None,
        color=INK,
        annotation_clip=False,
    )


def _ends(axes: "Axes", scores: list[Score]) -> None:
    """Room on both sides, within 0 and 1 where all values are shares."""
    ends = [
        end for score in scores for end in (score.value, score.low, score.high) if end is not None
    ]
    room = 0.08 * max(max(ends) - min(ends), 0.02)
    low, high = min(ends) - room, max(ends) + room
    shares = all(0 <= end <= 1 for end in ends)
    axes.set_xlim(max(low, -0.01) if shares else low, min(high, 1.01) if shares else high)
