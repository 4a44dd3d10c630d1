"""The table of model types with rotary positions. A new one is one file here and one line below;
tests/components/backbones/rotary runs over the table.
"""

from components.backbones.rotary.model_type import ModelType
from components.backbones.rotary.types.cohere2 import COHERE2
from components.backbones.rotary.types.eurobert import EUROBERT
from components.backbones.rotary.types.exaone4 import EXAONE4
from components.backbones.rotary.types.gemma import GEMMA
from components.backbones.rotary.types.gemma2 import GEMMA2
from components.backbones.rotary.types.gemma3_text import GEMMA3_TEXT
from components.backbones.rotary.types.glm4 import GLM4
from components.backbones.rotary.types.gpt_neox import GPT_NEOX
from components.backbones.rotary.types.gpt_oss import GPT_OSS
from components.backbones.rotary.types.granite import GRANITE
from components.backbones.rotary.types.llama import LLAMA
from components.backbones.rotary.types.llama4_text import LLAMA4_TEXT
from components.backbones.rotary.types.ministral3 import MINISTRAL3
from components.backbones.rotary.types.mistral import MISTRAL
from components.backbones.rotary.types.mixtral import MIXTRAL
from components.backbones.rotary.types.modernbert import MODERNBERT
from components.backbones.rotary.types.nanochat import NANOCHAT
from components.backbones.rotary.types.olmo2 import OLMO2
from components.backbones.rotary.types.olmo3 import OLMO3
from components.backbones.rotary.types.phi import PHI
from components.backbones.rotary.types.phi3 import PHI3
from components.backbones.rotary.types.qwen2 import QWEN2
from components.backbones.rotary.types.qwen3 import QWEN3
from components.backbones.rotary.types.qwen3_moe import QWEN3_MOE
from components.backbones.rotary.types.seed_oss import SEED_OSS
from components.backbones.rotary.types.smollm3 import SMOLLM3
from components.backbones.rotary.types.starcoder2 import STARCODER2

TYPES = (
    LLAMA,
    QWEN2,
    QWEN3,
    QWEN3_MOE,
    MISTRAL,
    MINISTRAL3,
    MIXTRAL,
    GEMMA,
    GEMMA2,
    GEMMA3_TEXT,
    GPT_OSS,
    GPT_NEOX,
    PHI,
    PHI3,
    OLMO2,
    OLMO3,
    GRANITE,
    SMOLLM3,
    GLM4,
    SEED_OSS,
    STARCODER2,
    NANOCHAT,
    COHERE2,
    EXAONE4,
    LLAMA4_TEXT,
    MODERNBERT,
    EUROBERT,
)

MODEL_TYPES: dict[str, ModelType] = {kind.name: kind for kind in TYPES}
"""`config.model_type` -> all that is known of it."""
