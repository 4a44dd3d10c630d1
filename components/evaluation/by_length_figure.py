"""Accuracy and calibration by document length as a figure. Where documents were cut the ground is
grey: from there on the model saw the beginning alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.evaluation.by_length import LengthBucket
from components.evaluation.colours import BLUE, GREY, INK, LIGHT, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = (("accuracy", "accuracy"), ("ece", "ECE (15 bins)"), ("nll", "NLL (nats)"))
ROOM = 0.04
"""Share of an axis beyond its last value, so that no mark is cut by the frame."""


def plot_by_length(buckets: Sequence[LengthBucket], *, title: str) -> "Figure":
    """A matplotlib figure: accuracy, ECE and NLL with their 95% intervals, one mark per bucket; the
    number of documents, and of cut ones, below.
    """
    # Figure, not pyplot: pyplot picks a display backend and keeps every figure alive.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    panels = figure.subplots(1, 3)
    for panel, (name, unit) in zip(panels, PANELS, strict=True):
        _ground(panel, buckets)
        _measured(panel, buckets, name)
        panel.set(ylabel=unit, xlim=(-0.5, len(buckets) - 0.5))
        panel.set_xlabel(_length_words(buckets))
        panel.set_xticks(range(len(buckets)), [_name(bucket) for bucket in buckets], fontsize=9)
        panel.grid(axis="y", color=LIGHT)
        panel.set_axisbelow(True)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[0].set_ylim(-ROOM, 1 + ROOM)
    floor = [bucket.ece_if_calibrated for bucket in buckets]
    panels[1].plot(
        range(len(buckets)), floor, "x--", color=VERMILION, label="ECE if perfectly calibrated"
    )
    for panel in panels[1:]:
        panel.set_ylim(bottom=0, top=panel.get_ylim()[1] * (1 + ROOM))
    _legend(figure, panels, buckets)
    figure.suptitle(title, color=INK)
    return figure


def _measured(panel: "Axes", buckets: Sequence[LengthBucket], name: str) -> None:
    """One score of every bucket with its interval."""
    middle = [float(getattr(bucket, name)) for bucket in buckets]
    low = [float(getattr(bucket, f"{name}_low")) for bucket in buckets]
    high = [float(getattr(bucket, f"{name}_high")) for bucket in buckets]
    below = [value - end for value, end in zip(middle, low, strict=True)]
    above = [end - value for value, end in zip(middle, high, strict=True)]
    panel.errorbar(
        range(len(buckets)),
        middle,
        yerr=[below, above],
        fmt="o-",
        capsize=4,
        color=BLUE,
        clip_on=False,
        label="measured, with its 95% interval",
    )


def _ground(panel: "Axes", buckets: Sequence[LengthBucket]) -> None:
    """Grey over the share of every bucket that was cut, from its right: buckets go from short to
    long, so where one limit cut all of them the grey begins at the limit.
    """
    for place, bucket in enumerate(buckets):
        if bucket.cut:
            right = place + 0.5
            panel.axvspan(right - bucket.cut / bucket.documents, right, color=LIGHT, linewidth=0)
    at = _cut_at(buckets)
    first = next((place for place, bucket in enumerate(buckets) if bucket.cut), None)
    if first is not None and at is not None:
        share = (buckets[first].cut or 0) / buckets[first].documents
        panel.axvline(first + 0.5 - share, color=GREY, linestyle=":", linewidth=1.5)


def _cut_at(buckets: Sequence[LengthBucket]) -> int | None:
    """The one limit that cut all that were cut; None where there is none, or several."""
    limits = {bucket.cut_at for bucket in buckets if bucket.cut}
    return limits.pop() if len(limits) == 1 else None


def _length_words(buckets: Sequence[LengthBucket]) -> str:
    known = all(bucket.cut is not None for bucket in buckets)
    return "tokens of the document" if known else "tokens of the document after the cut"


def _name(bucket: LengthBucket) -> str:
    name = f"{bucket.shortest:,}-{bucket.longest:,}\n{bucket.documents:,} docs"
    return f"{name}\n{bucket.cut:,} cut" if bucket.cut else name


def _legend(figure: "Figure", panels: "Sequence[Axes]", buckets: Sequence[LengthBucket]) -> None:
    """One below all panels: the second has every mark."""
    from matplotlib.patches import Patch

    handles, names = panels[1].get_legend_handles_labels()
    if any(bucket.cut for bucket in buckets):
        at = _cut_at(buckets)
        where = "cut" if at is None else f"cut at {at:,} tokens"
        handles.append(Patch(color=LIGHT))
        names.append(f"{where}: the model saw their beginning alone")
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
