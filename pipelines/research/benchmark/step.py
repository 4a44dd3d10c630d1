"""One training step: ours against the stock Longformer with the same adapter, and on a small
decoder against PEFT with transformers' Trainer, on documents of one length and of several.

Every side is a process; sides and a plain matrix product take turns, so that all see the same
machine. A step is forward, backward and the optimizer's update. Tokens are real ones: padding up to
the longest document of the batch is work on both sides and counts on neither.
"""

import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.arithmetic import step_flops
from pipelines.research.benchmark.sides import SideResult, largest_difference, take_turns
from pipelines.research.benchmark.step_sides import BASE_LONGFORMER, DECODER

PREFIX_LENGTH = 8
WINDOW = 256
SAME_VALUES = {
    "float32": 1e-4,
    "bfloat16": 1e-1,
}  # absolute, on logits and gradients of size 1: sums in another order
MATRIX_SIZE = {"float32": 2048, "bfloat16": 8192}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """`tokens`: of the longest document; `shorter`: of each further one (empty: all are of one
    length); `peer`: stock (the transformers Longformer), peft_prefix_tuning, peft_lora, or whole (a
    suffix that is trained through text and suffix in one run of the stock decoder); `form`: prefix,
    suffix_anew or suffix_kept (training.text_states); `target`: the ratio of tokens per second that
    is promised.
    """

    name: str
    backbone: str
    batch: int
    tokens: int
    peer: str = "stock"
    form: str = "prefix"
    gpu_only: bool = False
    shorter: tuple[int, ...] = ()
    target: float | None = None

    @property
    def lengths(self) -> tuple[int, ...]:
        """Real tokens of each document."""
        return (self.tokens, *self.shorter) if self.shorter else (self.tokens,) * self.batch


RAGGED = {"backbone": "decoder", "batch": 2, "tokens": 2048, "shorter": (1365,), "target": 1.5}
LONG = {"backbone": "decoder", "batch": 1, "tokens": 4096, "target": 1.2}


CASES = (
    Case("longformer_1x1024", "minilm", 1, 1024),
    Case("longformer_4x1024", "minilm", 4, 1024),
    Case("longformer_1x4096", "minilm", 1, 4096),
    Case("decoder_4x512", "decoder", 4, 512, peer="peft_prefix_tuning"),
    Case("decoder_4x512", "decoder", 4, 512, peer="peft_lora"),
    Case("decoder_ragged_2048", peer="peft_prefix_tuning", **RAGGED),  # type: ignore[arg-type]
    Case("decoder_ragged_2048", peer="peft_lora", **RAGGED),  # type: ignore[arg-type]
    Case("decoder_1x4096", peer="peft_prefix_tuning", **LONG),  # type: ignore[arg-type]
    Case("decoder_1x4096", peer="peft_lora", **LONG),  # type: ignore[arg-type]
    Case("suffix_1x4096", "decoder", 1, 4096, peer="whole", form="suffix_anew", target=1.9),
    Case("suffix_kept_1x4096", "decoder", 1, 4096, peer="whole", form="suffix_kept", target=100),
    Case("longformer_base_1x4096", "base", 1, 4096, gpu_only=True),
    Case("longformer_base_8x4096", "base", 8, 4096, gpu_only=True),
)


def run(options: BenchmarkOptions, say: Say) -> list[dict[str, Any]]:
    """The cases of the report: 7 steps of each side (`quick`: 3)."""
    import torch

    on_gpu = torch.cuda.is_available()
    chosen = [case for case in CASES if options.chosen(case.name) and (on_gpu or not case.gpu_only)]
    return [measure_case(case, repeats=3 if options.quick else 7, say=say) for case in chosen]


def measure_case(case: Case, *, repeats: int, say: Say) -> dict[str, Any]:
    """One case of the report."""
    import torch

    precision = "bfloat16" if torch.cuda.is_available() else "float32"
    with tempfile.TemporaryDirectory(prefix="prefixprop-bench-") as folder:
        settings = side_settings(case.backbone, batch=case.batch, tokens=case.tokens, folder=folder)
        settings |= {"lengths": case.lengths, "form": case.form}
        sides = [
            ("pipelines.research.benchmark.step_sides:adapted", settings),
            _peer(case, settings),
            (
                "pipelines.research.benchmark.step_sides:matrix_product",
                {"size": MATRIX_SIZE[precision]},
            ),
        ]
        ours, theirs, product = take_turns(sides, repeats=repeats)
    difference = (
        compared(ours, theirs, tolerance=SAME_VALUES[precision], name=case.name)
        if case.peer in ("stock", "whole")
        else None
    )
    product_flops = 2.0 * MATRIX_SIZE[precision] ** 3
    rate = product_flops / statistics.median(product.seconds)
    tokens = sum(case.lengths)
    mine, other = ours.summary(tokens), theirs.summary(tokens)
    result = {
        "case": case.name,
        "peer": case.peer,
        "precision": precision,
        "ours": mine,
        "theirs": other,
        "ratio": mine["tokens_per_second"] / other["tokens_per_second"],
        "target": case.target,
        "cpu_ratio": other["cpu_seconds"] / mine["cpu_seconds"],
        **_shares(case, mine, other, product, rate=rate, product_flops=product_flops),
        "matrix_rate_gflops": rate / 1e9,
        "threads": torch.get_num_threads(),
        "largest_difference": difference,
    }
    target = "" if case.target is None else f" (target {case.target})"
    share = result["share_of_matrix_rate"]
    of_machine = "" if share is None else f", {100 * share:.0f}% of the matrix rate"
    say(
        f"{case.name} against {case.peer}: {mine['seconds']:.3f} s against {other['seconds']:.3f} "
        f"s, ratio {result['ratio']:.2f}{target}, in processor time {result['cpu_ratio']:.2f}"
        f"{of_machine} ({rate / 1e9:.0f} GFLOP/s)"
    )
    return result


def _shares(
    case: Case,
    mine: Mapping[str, Any],
    other: Mapping[str, Any],
    product: SideResult,
    *,
    rate: float,
    product_flops: float,
) -> dict[str, float | None]:
    """Shares of the machine's matrix rate; None for a suffix, which does not compute what a step
    with a prefix needs.
    """
    of_prefix = case.form == "prefix"
    flops = _flops(case)
    cpu_rate = product_flops / statistics.median(product.cpu_seconds)
    return {
        "share_of_matrix_rate": flops / mine["seconds"] / rate if of_prefix else None,
        "share_of_matrix_rate_theirs": flops / other["seconds"] / rate if of_prefix else None,
        "share_of_matrix_rate_in_cpu_time": flops / mine["cpu_seconds"] / cpu_rate
        if of_prefix
        else None,
    }


def side_settings(backbone: str, *, batch: int, tokens: int, folder: str) -> dict[str, Any]:
    """What both sides of a case are given."""
    return {
        "backbone": backbone,
        "family": "decoder" if backbone == "decoder" else "longformer",
        "batch": batch,
        "tokens": tokens,
        "prefix_length": PREFIX_LENGTH,
        "window": WINDOW,
        "attention": "auto",
        "form": "prefix",
        "folder": folder,
    }


def compared(ours: SideResult, theirs: SideResult, *, tolerance: float, name: str) -> float:
    """Largest difference of logits and gradients after the first step. Raises RuntimeError above
    the tolerance.
    """
    difference = largest_difference(ours.values, theirs.values)
    if difference > tolerance:
        raise RuntimeError(
            f"{name}: the two sides did not compute the same: values differ by {difference:.2g}"
        )
    return difference


def _peer(case: Case, settings: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if case.peer == "stock":
        return "pipelines.research.benchmark.step_sides:adapted", {**settings, "attention": "stock"}
    if case.peer == "whole":
        return "pipelines.research.benchmark.step_sides:whole_suffix", settings
    return "pipelines.research.benchmark.step_sides:peft_trainer", {
        **settings,
        "peft": case.peer.removeprefix("peft_"),
    }


def _flops(case: Case) -> float:
    """Operations that one step needs at least, by the backbone's shape."""
    config = {"minilm": MINILM, "decoder": DECODER, "base": BASE_LONGFORMER}[case.backbone]
    return sum(
        step_flops(config, batch=1, tokens=tokens, prefix_length=PREFIX_LENGTH)
        for tokens in case.lengths
    )


MINILM: dict[str, Any] = {
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "attention_window": [WINDOW] * 6,
}
"""Shape of the lengthened all-MiniLM-L6-v2."""
