"""What follows the attention in a layer: its linear modules and how many parameters it has.

D hidden size, W width inside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class FeedForward:
    """Of one layer."""

    linear: Mapping[str, tuple[int, int]]
    """(in, out) of its linear modules; a mixture of experts keeps its weights in other ones."""
    parameters: int
    width: int
    """Numbers that a row has inside: with experts those of all that are asked for it."""
    is_gated: bool = True
    """Whether two projections go in, one of which opens the other."""
    inward: tuple[str, ...] = ()
    """Of `linear` those that take the input, the gate last; none where there are experts."""
    outward: str = ""
    """Of `linear` the one behind them."""
    is_fused: bool = False
    """Whether one module projects for both, the gate first."""


def gated(values: Mapping[str, Any], layer: int) -> FeedForward:
    """down(act(gate(x)) * up(x)); biases as `mlp_bias` says."""
    hidden, width = values["hidden_size"], values["intermediate_size"]
    biases = (2 * width + hidden) * bool(values.get("mlp_bias", False))
    return FeedForward(
        linear={
            "gate_proj": (hidden, width),
            "up_proj": (hidden, width),
            "down_proj": (width, hidden),
        },
        parameters=3 * hidden * width + biases,
        width=width,
        inward=("up_proj", "gate_proj"),
        outward="down_proj",
    )


def fused(values: Mapping[str, Any], layer: int) -> FeedForward:
    """As `gated`, gate and up in one module."""
    hidden, width = values["hidden_size"], values["intermediate_size"]
    return FeedForward(
        linear={"gate_up_proj": (hidden, 2 * width), "down_proj": (width, hidden)},
        parameters=3 * hidden * width,
        width=width,
        inward=("gate_up_proj",),
        outward="down_proj",
        is_fused=True,
    )


def plain(
    inward: str, outward: str, *, biased: Callable[[Mapping[str, Any]], bool]
) -> Callable[[Mapping[str, Any], int], FeedForward]:
    """outward(act(inward(x)))."""

    def of(values: Mapping[str, Any], layer: int) -> FeedForward:
        hidden, width = values["hidden_size"], values["intermediate_size"]
        return FeedForward(
            linear={inward: (hidden, width), outward: (width, hidden)},
            parameters=2 * hidden * width + (hidden + width) * biased(values),
            width=width,
            is_gated=False,
            inward=(inward,),
            outward=outward,
        )

    return of


def experts(
    values: Mapping[str, Any], *, count: int, width: int, biased: bool = False
) -> FeedForward:
    """A router and `count` gated feed-forwards, of which each row asks num_experts_per_tok."""
    hidden = values["hidden_size"]
    each = 3 * hidden * width + (2 * width + hidden) * biased
    return FeedForward(
        linear={},
        parameters=count * each + count * (hidden + biased),
        width=width * values["num_experts_per_tok"],
    )


def with_shared(routed: FeedForward, shared: FeedForward) -> FeedForward:
    """Experts beside a feed-forward that every row passes."""
    return replace(
        routed,
        linear=shared.linear,
        parameters=routed.parameters + shared.parameters,
        width=routed.width + shared.width,
    )
