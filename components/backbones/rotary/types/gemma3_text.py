"""Gemma 3: five layers of six have a sliding window and a rotation of their own."""

from components.backbones.rotary.model_type import Q_PROJ, ModelType, heads_first, norm_per_head

GEMMA3_TEXT = ModelType(
    "gemma3_text",
    masks_by_layer=True,
    defaults={"head_dim": 256, "sliding_window": 4096},
    queries=(("q_norm", heads_first), Q_PROJ),
    query_key_norm=norm_per_head,
    norms=lambda values: 4,
)
