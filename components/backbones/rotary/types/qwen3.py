"""Qwen3: queries and keys normalised head by head."""

from components.backbones.rotary.model_type import Q_PROJ, ModelType, by_head, norm_per_head

QWEN3 = ModelType(
    "qwen3",
    masks_by_layer=True,
    defaults={"head_dim": 128},
    queries=(("q_norm", by_head), Q_PROJ),
    query_key_norm=norm_per_head,
)
