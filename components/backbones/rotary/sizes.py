"""The sizes of a rotary transformer, from the values of its config.json alone."""

from collections.abc import Iterable, Sequence

from components.backbones.rotary.feed_forward import FeedForward
from components.backbones.rotary.model_type import ModelType, Values
from components.backbones.rotary.positions import usable_positions
from components.backbones.shape import BackboneShape, LinearChain

LOCAL = ("sliding_attention", "chunked_attention")
"""Kinds of layers whose rows see a stretch of the text only."""
COMPOSITE, COMPOSITE_COPIES = ("gelu_new", "gelu_fast"), 4
"""Activations that are written out in Python, and what autograd keeps of one: x, x / 2, the tanh
and 1 + the tanh.
"""
SQUARED, SQUARED_GRADIENTS = ("relu2",), 4
"""Activations with a square, and what is alive in the backward pass of one: the gradient that
comes, x to the power of one, twice that, and their product.
"""


def shape(kind: ModelType, given: Values) -> BackboneShape:
    """Sizes of a model of this type; `parameters` is exact for the base model."""
    values = kind.complete(given)
    hidden, layers = values["hidden_size"], values["num_hidden_layers"]
    heads, biases = kind.heads(values), kind.biases(values)
    projections = kind.projections(hidden, heads)
    inside = [kind.feed_forward(values, layer) for layer in range(layers)]
    attention = (
        _weights(projections.values())
        + biases.query_key_value * (heads.query_width + 2 * heads.key_value_width)
        + biases.output * hidden
        + kind.query_key_norm(heads)
        + kind.norms(values) * hidden
    )
    return BackboneShape(
        layers=layers,
        hidden=hidden,
        feed_forward=max(each.width for each in inside),
        query_width=heads.query_width,
        key_value_width=heads.key_value_width,
        heads=heads.query,
        positions=usable_positions(values),
        attention_window=None,
        parameters=values["vocab_size"] * hidden
        + layers * attention
        + sum(each.parameters for each in inside)
        + kind.further(values)
        + kind.outer_norms(values) * hidden,
        trained_with_prefix=0,
        linear_widths=dict(projections) | _of_every_layer(inside),
        lora_targets=kind.lora_targets,
        linear_parameters=layers * _weights(projections.values())
        + sum(_weights(each.linear.values()) for each in inside),
        embeddings=values["vocab_size"] * hidden,
        gated=inside[0].is_gated,
        normed_heads=kind.query_key_norm(heads) > 0
        if kind.normalises_heads is None
        else kind.normalises_heads,
        norms_per_layer=kind.norms(values) if kind.norm_modules is None else kind.norm_modules,
        layer_norms=kind.layer_norms,
        activation_copies=COMPOSITE_COPIES if values.get("hidden_act") in COMPOSITE else 1,
        activation_gradients=SQUARED_GRADIENTS if values.get("hidden_act") in SQUARED else 2,
        inside_feed_forward=tuple(_of_every_layer(inside)),
        chain=_chain(kind, values, inside),
        rotated=_rotated(values),
        is_causal=kind.is_causal,
        masked=bool(set(LOCAL) & set(layer_kinds(kind, values))),
        soft_cap=values.get("attn_logit_softcapping") is not None,
        sinks=kind.has_sinks,
        experts=bool(values.get("num_local_experts") or values.get("num_experts")),
        attention_dropout=values.get("attention_dropout") or 0.0,
    )


def _weights(widths: Iterable[tuple[int, int]]) -> int:
    return sum(inputs * outputs for inputs, outputs in widths)


def _rotated(values: Values) -> float:
    """Share of a head that is rotated; older checkpoints name it beside the rotation."""
    rotation = values.get("rope_parameters") or {}
    for name in ("partial_rotary_factor", "rotary_pct"):
        found = rotation.get(name, values.get(name))
        if isinstance(found, int | float):
            return float(found)
    return 1.0


def _chain(kind: ModelType, values: Values, inside: Sequence[FeedForward]) -> LinearChain | None:
    """Where every layer has the same: its feed-forward part is called mlp."""
    first = inside[0]
    same = all(each.linear == first.linear and each.inward == first.inward for each in inside)
    if not (same and first.inward) or kind.is_parallel(values):
        return None
    return LinearChain(
        attention=f"{kind.attention}.{kind.output}",
        inward=tuple(f"mlp.{name}" for name in first.inward),
        outward=f"mlp.{first.outward.rpartition('.')[2]}",
        is_fused=first.is_fused,
    )


def _of_every_layer(inside: Sequence[FeedForward]) -> dict[str, tuple[int, int]]:
    """Linear modules that all layers have, of the same widths."""
    return {
        name: widths
        for name, widths in inside[0].linear.items()
        if all(each.linear.get(name) == widths for each in inside)
    }


def layer_kinds(kind: ModelType, values: Values) -> tuple[str, ...]:
    """config.layer_types, or what its older forms say: of every layer the kind of its attention."""
    count = values["num_hidden_layers"]
    if kinds := values.get("layer_types"):
        return tuple(kinds)
    slides = kind.slides and values.get("sliding_window") and values.get("use_sliding_window", True)
    return ("sliding_attention" if slides else "full_attention",) * count
