"""Activations of one micro-batch at the named instants of a training step, in bytes.

The fact a newcomer gets wrong: the worst instant moves. Without checkpointing it is the last
layer's backward, with everything still kept; with it, a recomputed layer beside the boundaries; and
where the head alone is trained, a layer's forward.
"""

from collections.abc import Mapping
from dataclasses import replace

from components.backbones import BackboneFamily, BackboneShape
from components.backbones.activation_offload import LEAST_BYTES
from components.backbones.layer_memory import FLOAT32, LayerMemory, LayerRun


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
        return _text_apart(family, shape, run)
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


def _text_apart(family: BackboneFamily, shape: BackboneShape, run: LayerRun) -> Mapping[str, int]:
    """The text is read layer by layer, and its keys and values stay; then the rows run on them."""
    behind = run.kept.rows
    text = family.layer_memory(shape, replace(run, rows=run.rows - behind))
    rows = family.layer_memory(shape, replace(run, rows=behind))
    states = shape.layers * text.states
    # Of each layer the weights of the rows on the text; of one at a time their gradients too.
    scores = run.sequences * behind * run.rows * shape.heads * FLOAT32
    kept = shape.layers * (rows.kept + scores)
    return {
        "reading the text": text.outside + text.boundary + text.without_gradients + states,
        "backward of the rows": states + kept + max(rows.backward.values()) + scores,
    }


def offloaded_bytes(family: BackboneFamily, shape: BackboneShape, run: LayerRun) -> int:
    """What main memory holds of offloaded activations: the inputs of all layers."""
    return shape.layers * _carried_over(family.layer_memory(shape, run))


def _carried_over(layer: LayerMemory) -> int:
    """Bytes of a layer's input that are carried over; a small one stays."""
    return layer.boundary if layer.boundary >= LEAST_BYTES else 0
