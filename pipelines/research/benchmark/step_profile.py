"""Where the time of a step goes, stock and ours: `python -m
pipelines.research.benchmark.step_profile [FILE]` prints one Markdown table, or writes it.

One thread and processor time, so that neighbours on the machine hardly matter; operators are
grouped by what they do. Forward and backward of one document, without the optimizer.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipelines.research.benchmark.step import side_settings
from pipelines.research.benchmark.step_sides import adapted_model, made_backbone, made_batch

TOKENS = 4096
GROUPS: Mapping[str, tuple[str, ...]] = {
    "linear layers (mm, addmm)": ("aten::mm", "aten::addmm", "aten::linear"),
    "products in attention (bmm, baddbmm)": ("aten::bmm", "aten::baddbmm", "aten::baddbmm_"),
    "exponentials, softmax": (
        "aten::exp",
        "aten::exp_",
        "aten::exp2_",
        "aten::_softmax",
        "aten::_softmax_backward_data",
        "aten::amax",
        "aten::log2_",
    ),
    "copies, fills, gathers": (
        "aten::copy_",
        "aten::fill_",
        "aten::zero_",
        "aten::cat",
        "aten::index",
        "aten::gather",
        "aten::scatter_",
        "aten::_index_put_impl_",
        "aten::constant_pad_nd",
        "aten::clone",
        "aten::index_add_",
        "aten::masked_fill_",
        "aten::where",
        "aten::slice_backward",
        "aten::as_strided_",
    ),
    "sums, differences, products of elements": (
        "aten::add",
        "aten::add_",
        "aten::sub",
        "aten::sub_",
        "aten::mul",
        "aten::mul_",
        "aten::div",
        "aten::div_",
        "aten::sum",
        "aten::maximum",
    ),
    "GELU, LayerNorm": (
        "aten::gelu",
        "aten::gelu_backward",
        "aten::native_layer_norm",
        "aten::native_layer_norm_backward",
    ),
}


def profiled(attention: str, folder: str) -> dict[str, float]:
    """Seconds of processor time by group, of one step after a warm-up."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.set_num_threads(1)
    settings = side_settings("minilm", batch=1, tokens=TOKENS, folder=folder) | {
        "attention": attention
    }
    model = adapted_model(made_backbone(settings, torch.device("cpu")), settings).train()
    batch = made_batch(settings, torch, torch.device("cpu"))
    model(**batch).loss.backward()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        model(**batch).loss.backward()
    seconds = dict.fromkeys([*GROUPS, "the rest"], 0.0)
    for event in recorded.key_averages():
        group = next(
            (name for name, operators in GROUPS.items() if event.key in operators), "the rest"
        )
        seconds[group] += event.self_cpu_time_total / 1e6
    return seconds


def table(stock: Mapping[str, float], ours: Mapping[str, float]) -> str:
    """Markdown, one row per group."""
    lines = ["| where | stock, s | ours, s |", "| --- | --- | --- |"]
    lines += [f"| {name} | {stock[name]:.2f} | {ours[name]:.2f} |" for name in stock]
    lines.append(f"| all | {sum(stock.values()):.2f} | {sum(ours.values()):.2f} |")
    return (
        f"Forward and backward of one document of {TOKENS:,} tokens, one thread:\n\n"
        + "\n".join(lines)
        + "\n"
    )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="prefixprop-bench-") as folder:
        made = table(*(profiled(attention, folder) for attention in ("stock", "auto")))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(made, encoding="utf-8")
    else:
        sys.stdout.write(made)


if __name__ == "__main__":
    main()
