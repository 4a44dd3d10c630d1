"""The plan's activations of every rotary model type against the tensors that are really alive:
prefix-propagation on a CPU.
"""

from typing import Any

import pytest

from components.adapters import PrefixPropagationConfig
from components.backbones import backbone_shape, family_of
from components.backbones.layer_memory import LayerRun
from components.backbones.rotary.types import MODEL_TYPES
from components.planning.activations import activation_instants
from tests.components.backbones.rotary.tiny import tiny_model
from tests.components.planning.test_activations import BATCH, PROMISED, TOKENS, measured_peak

SIZES: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "intermediate_size_mlp": 512,
    "moe_intermediate_size": 256,
    "num_attention_heads": 12,
    "num_key_value_heads": 3,
    "head_dim": 16,
    "max_position_embeddings": 600,
    "sliding_window": 64,
    "attention_chunk_size": 64,
    "local_attention": 64,
}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", sorted(MODEL_TYPES))
def test_every_model_type_is_estimated_within_the_promise(
    name: str, precision: str, checkpointing: bool
) -> None:
    backbone = tiny_model(name, **SIZES)
    family = family_of(backbone)
    family.accelerate(backbone)
    if precision == "bf16":
        backbone.bfloat16()
    if checkpointing:
        backbone.gradient_checkpointing_enable({"use_reentrant": False})
    shape, adapter = backbone_shape(backbone.config.to_dict()), PrefixPropagationConfig()
    pooling = "prefix" if family.rows_see_all_text else "last"
    kept = adapter.kept(shape)
    run = LayerRun(
        sequences=BATCH,
        rows=TOKENS + kept.rows,
        number_bytes=2 if precision == "bf16" else 4,
        kept=kept,
        reads_one_row=True,
        reads_global_row=pooling == "prefix",
    )
    estimate = max(activation_instants(family, shape, run, checkpointing=checkpointing).values())
    measured = measured_peak(backbone, adapter, pooling)
    assert abs(estimate / measured - 1) < PROMISED, (estimate, measured)
