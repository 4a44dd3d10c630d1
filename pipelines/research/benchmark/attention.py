"""Memory of one attention call of a decoder at 16k rows, against the causal kernel's alone on the
same queries, keys and values.

Each side is a process that takes what the model hands to its attention function in a real forward
pass, mask included, and calls that function forward and backward once per turn. A mask that the
model makes counts, because it is kept for every layer.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.sides import Turns, Values, take_turns

LIMIT = 1.2
"""Memory of our call over the causal kernel's."""
PREFIX_LENGTH = 8
MODEL: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
}
"""Memory of the kernels is in proportion to heads x rows: a narrow model says the same, sooner."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """`lengths`: real tokens of each document, padded on the right up to the first."""

    name: str
    lengths: tuple[int, ...]


CASES = (Case("whole_1x16384", (16384,)), Case("ragged_2x16384", (16384, 10923)))


def run(options: BenchmarkOptions, say: Say) -> list[dict[str, Any]]:
    """Every case; 3 calls of each side (`quick`: 1)."""
    repeats = 1 if options.quick else 3
    return [
        measure_case(case, repeats=repeats, say=say) for case in CASES if options.chosen(case.name)
    ]


def measure_case(case: Case, *, repeats: int, say: Say) -> dict[str, Any]:
    """One case of the report."""
    settings = {"lengths": case.lengths}
    here = "pipelines.research.benchmark.attention:attention_call"
    ours, kernel = take_turns(
        [(here, settings | {"kernel_alone": alone}) for alone in (False, True)], repeats=repeats
    )
    mine, other = (_summary(side.values) for side in (ours, kernel))
    ratio = mine["bytes"] / other["bytes"]
    say(
        f"{case.name}: {mine['bytes'] / 2**20:.0f} MiB against {other['bytes'] / 2**20:.0f} MiB of "
        f"the causal kernel, ratio {ratio:.2f} (at most {LIMIT})"
    )
    return {
        "case": case.name,
        "rows": max(case.lengths) + PREFIX_LENGTH,
        "mib": mine["bytes"] / 2**20,
        "mask_mib": mine["mask_bytes"] / 2**20,
        "mib_of_causal_kernel": other["bytes"] / 2**20,
        "ratio": ratio,
        "limit": LIMIT,
        "seconds": statistics.median(ours.seconds),
        "seconds_of_causal_kernel": statistics.median(kernel.seconds),
        "largest_difference": float(np.abs(ours.values["read"] - kernel.values["read"]).max()),
    }


def _summary(values: Values) -> dict[str, float]:
    mask = float(values["mask_bytes"])
    return {"bytes": float(values["bytes"]) + mask, "mask_bytes": mask}


def attention_call(settings: Mapping[str, Any], turns: Turns) -> Values:
    """A side. `read`: the outputs of the last real row of each document, for comparison."""
    import torch

    from pipelines.research.benchmark.call_memory import call_memory

    lengths = torch.tensor(settings["lengths"])
    call = captured_call(lengths)
    rows = tuple(call.tensors[0].shape[2] for _ in lengths)
    leaves = [tensor.detach().requires_grad_() for tensor in call.tensors]
    attend = causal_kernel if settings["kernel_alone"] else call.attend
    used, read = [], torch.empty(0)
    while turns.wait():
        started = time.perf_counter()
        output, taken = call_memory(lambda: attend(*leaves), leaves)
        turns.done(time.perf_counter() - started)
        used.append(taken)
        read = output[torch.arange(len(rows)), lengths + PREFIX_LENGTH - 1]
    masked = 0 if settings["kernel_alone"] else call.mask_bytes
    return {
        "bytes": np.asarray(statistics.median(used)),
        "mask_bytes": np.asarray(masked),
        "read": read.numpy(),
    }


@dataclass(frozen=True)
class CapturedCall:
    """`tensors`: queries, keys and values as the model hands them over; `attend`: its attention
    function on them, with its own mask.
    """

    tensors: tuple[Any, Any, Any]
    attend: Callable[..., Any]
    mask_bytes: int


def captured_call(lengths: Any) -> CapturedCall:
    """What a small Llama with a prefix hands to its attention function for such documents."""
    import torch
    from transformers import AttentionInterface, LlamaConfig, LlamaModel
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from components.adapters import ClassificationHeadConfig, PrefixPropagationConfig, adapt

    torch.manual_seed(0)
    width = int(lengths.max())
    config = LlamaConfig(**MODEL, max_position_embeddings=width + PREFIX_LENGTH)
    model = adapt(
        LlamaModel(config),
        PrefixPropagationConfig(prefix_length=PREFIX_LENGTH, dropout=0.0),
        ClassificationHeadConfig(num_labels=2, pooling="last"),
    )
    stock = ALL_ATTENTION_FUNCTIONS[config._attn_implementation]
    taken: list[Any] = []

    def take(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        taken[:] = [module, (query, key, value), mask, options]
        return stock(module, query, key, value, mask, **options)

    AttentionInterface.register(config._attn_implementation, take)
    try:
        mask = (torch.arange(width) < lengths[:, None]).long()
        with torch.no_grad():
            model(torch.randint(1, 500, mask.shape) * mask, mask)
    finally:
        AttentionInterface.register(config._attn_implementation, stock)
    module, tensors, given, options = taken
    return CapturedCall(
        tensors=tensors,
        attend=lambda *parts: stock(module, *parts, given, **options)[0],
        mask_bytes=0 if given is None else given.numel() * given.element_size(),
    )


def causal_kernel(query: Any, key: Any, value: Any) -> Any:
    """The kernel alone, by rows as the attention function returns them."""
    import torch

    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    return mixed.transpose(1, 2).contiguous()
