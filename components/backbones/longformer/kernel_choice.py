"""Which kernel computes Longformer's local rows, and in which precision: one pure function for each
question, from facts that a test can make up.

The fact a newcomer gets wrong: attention dropout alone must not send a GPU into a loop over blocks.
FlexAttention has no dropout on attention weights; scaled_dot_product_attention has, so all windows
of all documents go through one call of it (windowed_attention.py).
"""

from dataclasses import dataclass
from typing import Literal

import torch

LocalKernel = Literal["blocks", "windows", "flex"]
"""blocks: a loop in the processor's cache (banded_attention.py). windows: one batched call of
scaled_dot_product_attention (windowed_attention.py). flex: compiled FlexAttention with a block mask
(flex_attention.py).
"""
LOW_PRECISION = (torch.bfloat16, torch.float16)
FLEX_DTYPES = (torch.float32, *LOW_PRECISION)
FLEX_LEAST_HEAD_SIZE = 16
"""Below it FlexAttention's kernels refuse to compile."""


@dataclass(frozen=True)
class LocalAttentionFacts:
    """`dropout`: probability on attention weights, 0 in evaluation; `rows`: with prefix and
    padding; `one_sided_window`: keys seen on each side; `compiler`: whether torch.compile has a GPU
    compiler (Triton) on this machine.
    """

    device_type: str
    dtype: torch.dtype
    dropout: float
    rows: int
    one_sided_window: int
    head_size: int
    compiler: bool


def local_kernel(facts: LocalAttentionFacts) -> LocalKernel:
    """The fastest exact kernel: flex where it applies, windows on every other accelerator, blocks
    on CPUs.
    """
    if facts.device_type == "cpu":
        return "blocks"
    one_window = facts.rows <= facts.one_sided_window + 1  # every row sees every other
    flex = (
        facts.device_type == "cuda"
        and facts.compiler
        and facts.dropout == 0.0
        and facts.dtype in FLEX_DTYPES
        and facts.head_size >= FLEX_LEAST_HEAD_SIZE
        and not one_window
    )
    return "flex" if flex else "windows"


def softmax_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which softmax is computed: float32 for bf16 and fp16, as in the stock
    implementation.
    """
    return torch.float32 if dtype in LOW_PRECISION else dtype


def product_dtype(device_type: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of attention's matrix products in the loop over blocks: the tensors' own, but
    float32 on a CPU, where converting the scores of bf16 products costs more than the products
    save.
    """
    return softmax_dtype(dtype) if device_type == "cpu" else dtype
