"""Which of transformers' attention implementations a decoder takes: one pure function of facts that
a test can make up.

The fact a newcomer gets wrong: with a mask in hand scaled_dot_product_attention reads an S x S
tensor, so a window saves no work by it; FlexAttention skips whole blocks, and knows softcap and
sinks too, but has no dropout on attention weights, and on a CPU no backward pass.
"""

from dataclasses import dataclass
from typing import Literal

Implementation = Literal["sdpa", "flex_attention", "eager"]
"""As `attn_implementation` of transformers spells them."""
FLEX_DTYPES = ("float32", "bfloat16", "float16")
FLEX_LEAST_HEAD_SIZE = 16


@dataclass(frozen=True)
class DecoderAttentionFacts:
    """`local_layers`: any layer with a window or chunks; `sinks`: a learnt number in the softmax's
    sum (gpt_oss); `softcap`: scores squashed by tanh (gemma2); `dropout`: probability on attention
    weights in training; `compiler`: whether torch.compile can make GPU kernels on this machine.
    """

    device_type: str
    dtype: str
    head_size: int
    local_layers: bool = False
    sinks: bool = False
    softcap: bool = False
    dropout: float = 0.0
    compiler: bool = True


@dataclass(frozen=True)
class AttentionChoice:
    """`reason`: a clause that says why, for reports and errors; `quadratic`: whether some layer
    keeps or reads a tensor of S x S.
    """

    implementation: Implementation
    reason: str
    quadratic: bool


def decoder_attention(facts: DecoderAttentionFacts) -> AttentionChoice:
    """The exact implementation that costs least: the causal kernel of sdpa where every layer is
    full, flex_attention for windows, sinks and softcap on a GPU, and what remains elsewhere.
    """
    scores_changed = facts.sinks or facts.softcap
    if not scores_changed and not facts.local_layers:
        return AttentionChoice("sdpa", "every layer is full and causal", quadratic=False)
    wanted = [
        name
        for name, present in (
            ("windows", facts.local_layers),
            ("sinks", facts.sinks),
            ("softcap", facts.softcap),
        )
        if present
    ]
    obstacle = flex_obstacle(facts)
    if obstacle is None:
        return AttentionChoice(
            "flex_attention", f"it computes {' and '.join(wanted)} block by block", quadratic=False
        )
    if scores_changed:
        return AttentionChoice("eager", f"sdpa lacks {wanted[-1]}, and {obstacle}", quadratic=True)
    return AttentionChoice("sdpa", f"windows by a mask, because {obstacle}", quadratic=True)


def flex_obstacle(facts: DecoderAttentionFacts) -> str | None:
    """Why FlexAttention cannot train this, as a clause; None where it can."""
    if facts.device_type != "cuda":
        return f"FlexAttention has no backward pass on '{facts.device_type}'"
    if not facts.compiler:
        return "FlexAttention needs Triton, which is not installed"
    if facts.dropout > 0:
        return f"FlexAttention has no dropout on attention weights (it is {facts.dropout})"
    if facts.dtype not in FLEX_DTYPES:
        return f"FlexAttention does not compute in {facts.dtype}"
    if facts.head_size < FLEX_LEAST_HEAD_SIZE:
        return (
            f"FlexAttention needs heads of {FLEX_LEAST_HEAD_SIZE} numbers (they have "
            f"{facts.head_size})"
        )
    return None
