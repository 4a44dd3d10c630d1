"""Which kernel a machine takes, asked with made-up facts: no GPU is needed to know what one would
do.
"""

from dataclasses import replace

import pytest
import torch

from components.backbones.longformer.fast_attention import LOCAL_KERNELS
from components.backbones.longformer.kernel_choice import (
    LocalAttentionFacts,
    LocalKernel,
    local_kernel,
    product_dtype,
    softmax_dtype,
)
from components.backbones.longformer.windowed_attention import windowed_attention

PAPER = LocalAttentionFacts(
    device_type="cuda",
    dtype=torch.bfloat16,
    dropout=0.1,
    rows=4104,
    one_sided_window=256,
    head_size=64,
    compiler=True,
)
"""longformer-base as the paper's experiments train it: attention dropout is on."""


def test_attention_dropout_on_a_gpu_takes_one_batched_call_and_no_loop_over_blocks() -> None:
    assert local_kernel(PAPER) == "windows"
    assert LOCAL_KERNELS[local_kernel(PAPER)] is windowed_attention


CHANGES: dict[str, tuple[dict[str, object], LocalKernel]] = {
    "evaluation": ({"dropout": 0.0}, "flex"),
    "evaluation in float32": ({"dropout": 0.0, "dtype": torch.float32}, "flex"),
    "evaluation in float64": ({"dropout": 0.0, "dtype": torch.float64}, "windows"),
    "evaluation without Triton": ({"dropout": 0.0, "compiler": False}, "windows"),
    "evaluation with tiny heads": ({"dropout": 0.0, "head_size": 8}, "windows"),
    "one window holds the document": ({"dropout": 0.0, "rows": 257}, "windows"),
    "one row more than a window": ({"dropout": 0.0, "rows": 258}, "flex"),
    "half a million rows": ({"dropout": 0.0, "rows": 500_000}, "flex"),
    "another accelerator": ({"dropout": 0.0, "device_type": "xpu"}, "windows"),
    "CPU with dropout": ({"device_type": "cpu"}, "blocks"),
    "CPU without dropout": ({"device_type": "cpu", "dropout": 0.0}, "blocks"),
}


@pytest.mark.parametrize("case", CHANGES, ids=lambda name: name.replace(" ", "-"))
def test_the_kernel_follows_from_the_facts(case: str) -> None:
    changes, expected = CHANGES[case]
    assert local_kernel(replace(PAPER, **changes)) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_multiplies_in_float32_on_a_cpu_alone_and_takes_softmax_there_everywhere(
    dtype: torch.dtype,
) -> None:
    assert softmax_dtype(dtype) == torch.float32
    assert product_dtype("cpu", dtype) == torch.float32
    assert product_dtype("cuda", dtype) == dtype
    assert product_dtype("cpu", torch.float64) == torch.float64
