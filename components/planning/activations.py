"""Activations of one micro-batch at the named instants of a training step, in bytes.

The fact a newcomer gets wrong: the worst instant moves. Without checkpointing it is the last
layer's backward, with everything still kept; with it, a recomputed layer beside the boundaries; and
where the head alone is trained, a layer's forward.
"""

from collections.abc import Mapping

from components.backbones import BackboneFamily, BackboneShape
from components.backbones.activation_offload import LEAST_BYTES
from components.backbones.layer_memory import LayerMemory, LayerRun


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
    if not checkpointing:
        layers = layer.outside + (shape.layers - 1) * layer.kept + layer.last
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


def offloaded_bytes(family: BackboneFamily, shape: BackboneShape, run: LayerRun) -> int:
    """What main memory holds of offloaded activations: the inputs of all layers."""
    return shape.layers * _carried_over(family.layer_memory(shape, run))


def _carried_over(layer: LayerMemory) -> int:
    """Bytes of a layer's input that are carried over; a small one stays."""
    return layer.boundary if layer.boundary >= LEAST_BYTES else 0
