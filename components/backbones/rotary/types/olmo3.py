"""OLMo 3: OLMo 2 with sliding windows in three layers of four."""

from components.backbones.rotary.model_type import Q_PROJ, ModelType, by_head, norm_over_width

OLMO3 = ModelType(
    "olmo3",
    masks_by_layer=True,
    defaults={"sliding_window": 4096},
    queries=(("q_norm", by_head), Q_PROJ),
    query_key_norm=norm_over_width,
)
