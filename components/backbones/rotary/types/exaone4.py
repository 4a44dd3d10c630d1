"""EXAONE 4: norms behind attention and feed-forward; beside its local layers some do not rotate."""

from components.backbones.rotary.model_type import (
    Q_PROJ,
    ModelType,
    heads_first,
    norm_per_head,
    without_biases,
)

EXAONE4 = ModelType(
    "exaone4",
    masks_by_layer=True,
    queries=(("q_norm", heads_first), Q_PROJ),
    biases=without_biases,
    query_key_norm=norm_per_head,
)
