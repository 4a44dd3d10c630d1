"""OLMo 2: norms behind attention and feed-forward; queries and keys normalised as a whole."""

from components.backbones.rotary.model_type import Q_PROJ, ModelType, by_head, norm_over_width

OLMO2 = ModelType(
    "olmo2",
    queries=(("q_norm", by_head), Q_PROJ),
    query_key_norm=norm_over_width,
)
