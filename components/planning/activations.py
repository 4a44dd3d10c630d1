"""Activations of one micro-batch at the named instants of a training step, in bytes.

The fact a newcomer gets wrong: the worst instant moves. Without checkpointing it is the last
layer's backward, with everything still kept; with it, a recomputed layer beside the boundaries; and
where the head alone is trained, a layer's forward.
"""

from collections.abc import Mapping
from dataclasses import replace

from components.backbones import BackboneFamily, BackboneShape
from components.backbones.activation_offload import LEAST_BYTES
from components.backbones.layer_memory import FLOAT32, LARGEST_PIECE, LayerMemory, LayerRun


def activation_instants(
    family: BackboneFamily,
    shape: BackboneShape,
    run: LayerRun,
    *,
    checkpointing: bool,
    offloaded: bool = False,
) -> Mapping[str, int]:
    """Name of the instant -> bytes. `offloaded`: inputs of recomputed layers are in main memory
    (`offloaded_bytes`).
    """
    layer = family.layer_memory(shape, run)
    if not run.kept.in_layers:
        return {"forward": layer.outside + layer.boundary + layer.without_gradients}
    if run.kept.text_apart:
        return _text_apart(family, shape, run, checkpointing=checkpointing)
    if not checkpointing:
        first = layer.kept if layer.constant_text is None else layer.constant_text
        between = [first, *[layer.kept] * (shape.layers - 2)][: shape.layers - 1]
        layers = layer.outside + sum(between) + layer.last
        everything = layers + layer.after
        return {
            "forward": layers + layer.forward,
            **{name: everything + number for name, number in layer.backward.items()},
        }
    # The embedded text stays beside the first layer's input.
    boundaries = layer.outside + (shape.layers + 1) * layer.boundary
    if offloaded:
        boundaries -= (shape.layers - 1) * _carried_over(layer)
    recomputed = boundaries + layer.after + layer.kept - layer.input
    return {
        "forward": boundaries + layer.without_gradients,
        **{f"{name}, recomputed": recomputed + number for name, number in layer.backward.items()},
    }


def _text_apart(
    family: BackboneFamily, shape: BackboneShape, run: LayerRun, *, checkpointing: bool
) -> Mapping[str, int]:
    """The text is read layer by layer, and its keys and values stay; then the rows run on them.
    Where layers are checkpointed, some families let them go at once. Adapters side by side have
    their texts read one after the other.
    """
    behind, count = run.kept.rows, run.side_by_side
    text = family.layer_memory(shape, replace(run, rows=run.rows - behind))
    rows = family.layer_memory(shape, replace(run, rows=behind, sequences=count * run.sequences))
    reading = text.outside + text.boundary + text.without_gradients
    # Of each layer the weights of the rows on the text; of one at a time their gradients too.
    queries = count * run.sequences * behind * shape.heads
    scores = queries * run.rows * FLOAT32
    must_stay = run.text_stays or run.hooked or shape.soft_cap or shape.sinks
    if checkpointing and family.reads_in_passing and not must_stay:
        sums = queries * shape.head_size * (shape.head_size + 1) * FLOAT32
        kept = shape.layers * (rows.kept + sums)
        # Of one adapter after the other.
        met = queries // count
        piece = min(LARGEST_PIECE, met * shape.head_size * run.rows) * run.number_bytes
        query = run.sequences * run.rows * shape.query_width * run.number_bytes
        others = (count - 1) * (text.outside + text.boundary)
        at_rows = others + text.outside + 2 * text.boundary + query + text.states
        return {
            "reading the text": others + reading + kept,
            "rows meet the text": at_rows + scores // count + piece + kept,
            "backward of the rows": kept + max(rows.backward.values()),
        }
    states = count * shape.layers * text.states
    kept = shape.layers * (rows.kept + scores)
    return {
        "reading the text": reading + states,
        "backward of the rows": states + kept + max(rows.backward.values()) + scores,
    }


def offloaded_bytes(family: BackboneFamily, shape: BackboneShape, run: LayerRun) -> int:
    """What main memory holds of offloaded activations: the inputs of all layers."""
    return shape.layers * _carried_over(family.layer_memory(shape, run))


def _carried_over(layer: LayerMemory) -> int:
    """Bytes of a layer's input that are carried over; a small one stays."""
    return layer.boundary if layer.boundary >= LEAST_BYTES else 0
