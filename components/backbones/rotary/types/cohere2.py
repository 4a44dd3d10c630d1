"""Command R7B and A: attention and feed-forward side by side behind one norm; local layers rotate,
the others do not."""

from components.backbones.rotary.model_type import ModelType

COHERE2 = ModelType(
    "cohere2",
    masks_by_layer=True,
    defaults={"sliding_window": 4096},
    norms=lambda values: 1,
    is_parallel=lambda values: True,
)
