"""Whether the device computes what float32 on the CPU computes: the local kernels of Longformer,
and whole adapted models in bf16 and float32, forward and gradients.

The fact a newcomer gets wrong: bf16 cannot be compared number by number. Errors are norms of
differences over norms, and a float32 run on the device beside it tells rounding from mistakes.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pipelines.research.benchmark.gpu import models
from pipelines.research.benchmark.gpu.sizes import Sizes

AGREES = {"bfloat16": 5e-2, "float32": 1e-3}
"""Largest relative error that is rounding: 2 layers or one kernel."""
DTYPES = (torch.bfloat16, torch.float32)
Parts = Mapping[str, Tensor]


def kernels(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """`flex` and `windows` on the device against `blocks` on the CPU in float32."""
    from components.backbones.longformer.banded_attention import banded_attention
    from components.backbones.longformer.flex_attention import flex_local_attention
    from components.backbones.longformer.windowed_attention import windowed_attention

    expected = _local(banded_attention, sizes, torch.device("cpu"), torch.float32)
    found: dict[str, Any] = {}
    for name, kernel in (("flex", flex_local_attention), ("windows", windowed_attention)):
        for dtype in DTYPES:
            # On a CPU FlexAttention has no backward pass.
            whole = device.type != "cpu" or name != "flex"
            parts = _local(kernel, sizes, device, dtype, gradients=whole)
            found[f"{name}, {_name(dtype)}"] = _judged(parts, expected, dtype)
    return found


def _local(
    kernel: Callable[..., Tensor],
    sizes: Sizes,
    device: torch.device,
    dtype: torch.dtype,
    *,
    gradients: bool = True,
) -> Parts:
    from components.backbones.longformer.attention_plan import AttentionPlan
    from components.backbones.longformer.kernel_choice import softmax_dtype

    values, batch, rows = sizes.longformer, 2, sizes.parity_tokens
    mask_BS = torch.zeros(batch, rows)
    mask_BS[:, : sizes.prefix_length + 1] = 1.0
    mask_BS[1, -rows // 3 :] = -1.0
    plan = AttentionPlan(
        mask_BS.to(device),
        one_sided_window=values["attention_window"] // 2,
        block_size=128,
        dtype=softmax_dtype(dtype),
    )
    generator, width = torch.Generator().manual_seed(2), values["hidden_size"]
    shapes = [(batch, rows, width)] * 3 + [(batch * (sizes.prefix_length + 1), width)]
    given = [
        torch.randn(shape, generator=generator).to(device, dtype).requires_grad_(gradients)
        for shape in shapes
    ]
    heads = values["num_attention_heads"]
    output = kernel(*given, plan=plan, num_heads=heads, dropout=0.0)
    if not gradients:
        return {"output": output}
    weights = torch.sin(torch.arange(output.numel(), device=device)).view_as(output)
    grads = torch.autograd.grad((output.float() * weights).sum(), given[:3])
    named = dict(zip(("query gradient", "key gradient", "value gradient"), grads, strict=True))
    return {"output": output, **named}


def whole_models(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Logits and the prefix's gradient of a Longformer and a decoder of full width and few layers,
    one document shorter than the other.
    """
    found: dict[str, Any] = {}
    few = {"num_hidden_layers": sizes.parity_layers}
    calm = few | {"attention_probs_dropout_prob": 0.0}
    cases: tuple[tuple[str, Any, Any, Any], ...] = (
        ("longformer", models.longformer, sizes.longformer | calm, "prefix"),
        ("decoder", models.decoder, sizes.decoder | few, "last"),
    )
    for name, make, values, pooling in cases:
        reference = make(values, torch.device("cpu"), torch.float32)
        expected = _answers(reference, values, sizes, pooling)
        for dtype in DTYPES:
            twin = copy.deepcopy(reference).to(device, dtype)
            parts = _answers(twin, values, sizes, pooling)
            found[f"{name}, {_name(dtype)}"] = _judged(parts, expected, dtype)
    return found


def _answers(backbone: Any, values: Mapping[str, Any], sizes: Sizes, pooling: str) -> Parts:
    model = models.adapted(backbone, prefix_length=sizes.prefix_length, pooling=pooling)
    device = next(backbone.parameters()).device
    tokens = sizes.parity_tokens
    batch = models.documents(2, tokens, values["vocab_size"], device, shortest=2 * tokens // 3)
    # Of one class: gradients of two would cancel in rows that have hardly seen the documents.
    batch["labels"] = torch.ones_like(batch["labels"])
    output = model(**batch)
    output.loss.backward()
    return {"logits": output.logits, "prefix gradient": model.adapter.prefix.grad}


def _judged(found: Parts, expected: Parts, dtype: torch.dtype) -> dict[str, Any]:
    errors = {
        name: float(
            (tensor.detach().cpu().double() - expected[name].detach().double()).norm()
            / expected[name].detach().double().norm()
        )
        for name, tensor in found.items()
    }
    limit = AGREES[_name(dtype)]
    # A nan is no agreement.
    return {**errors, "limit": limit, "agrees": all(error < limit for error in errors.values())}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
