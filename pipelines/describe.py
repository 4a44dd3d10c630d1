"""Documents, points and backbones in a line or the end of one, for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.backbones import quantization_of, read_backbone_config
from components.errors import BackboneError

if TYPE_CHECKING:
    from components.backbones import BackboneConfig
    from components.config.search import SearchConfig
    from components.data import PreparedData


def describe_data(data: "PreparedData") -> str:
    """The prepared documents in one line."""
    report, train = data.report, data.report.splits["train"]
    sizes = " + ".join(f"{part.documents:,} {name}" for name, part in report.splits.items())
    dropped = f", {sum(report.dropped.values()):,} rows dropped" if report.dropped else ""
    classes = f"{len(data.labels)} classes" if data.labels else "no classes"
    found = "found ready in the cache" if report.cached else f"tokenised in {report.seconds:.1f} s"
    return (
        f"data: {sizes} documents, {classes}, median {train.median_tokens:,} tokens, "
        f"{train.truncated:,} training documents cut at the limit"
        f" ({train.share_of_tokens_cut:.0%} of their tokens){dropped}; {found}"
    )


def describe_quantization(backbone: "BackboneConfig") -> str:
    """The end of a line about a backbone: how its weights are quantised, if they are. Nothing where
    its config.json cannot be read any more: what was trained on it is not lost for that.
    """
    try:
        found = quantization_of(read_backbone_config(backbone))
    except BackboneError:
        return ""
    return "" if found is None else f", quantised ({found.kind})"


def describe_side_by_side(search: "SearchConfig") -> str:
    """The end of a line about slots: how many trials each of them trains at a time, if several."""
    count = search.trials_per_slot
    return "" if count == 1 else f", {count} trials side by side in each"


def describe_point(point: Mapping[str, Any]) -> str:
    """A point of the space in one short line."""
    return ", ".join(
        f"{path.rpartition('.')[2]}={value:.4g}"
        if isinstance(value, float)
        else f"{path.rpartition('.')[2]}={value}"
        for path, value in point.items()
    )
