"""What the plan says of the device part of a worker's memory, beside what a training takes there.

    python -m pipelines.research.benchmark.memory [--only CASE ...] [--json FILE]

Every setting is a training step of the project's own session and engine in fresh processes, one per
rank, on a backbone with random weights made on the spot. The fact a newcomer gets wrong: resident
memory holds libraries, thread pools and what the C library did not give back; memory_side.py says
how these are kept out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.backbones import backbone_shape
from components.config.experiment import ExperimentConfig
from components.planning import worker_memory
from components.planning.trained_parameters import trainable_parameters
from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.memory_backbones import BACKBONES
from pipelines.research.benchmark.sides import MALLOC

PROMISED = 0.15
"""The plan's promise: relative error of the device part."""
TIMEOUT_SECONDS = 600
# What a tensor takes does not depend on threads, and on a busy machine waiting ones only spin.
ENVIRONMENT = MALLOC | {"OMP_NUM_THREADS": "1"}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """`batch` documents of `tokens` tokens each per rank; `training` and `backbone_settings` are
    values of these sections.
    """

    name: str
    backbone: str
    method: Mapping[str, Any]
    batch: int
    tokens: int
    stage: int = 2
    ranks: int = 1
    training: Mapping[str, Any] = field(default_factory=dict)
    backbone_settings: Mapping[str, Any] = field(default_factory=dict)


PROPAGATION = {"method": "prefix_propagation", "prefix_length": 8}
TUNING = {"method": "prefix_tuning", "prefix_length": 8}
LORA, FULL, HEAD = {"method": "lora"}, {"method": "full_fine_tuning"}, {"method": "head_only"}
BF16, CHECKPOINTED = {"precision": "bf16"}, {"gradient_checkpointing": True}
SETTINGS = (
    Setting("longformer_1x2040", "longformer", PROPAGATION, 1, 2040),
    Setting("longformer_4x504", "longformer", PROPAGATION, 4, 504),
    Setting(
        "longformer_1x3064_checkpointed", "longformer", PROPAGATION, 1, 3064, training=CHECKPOINTED
    ),
    Setting("longformer_1x2040_bf16", "longformer", PROPAGATION, 1, 2040, training=BF16),
    Setting("longformer_2x1016_prefix_tuning", "longformer", TUNING, 2, 1016),
    Setting("longformer_2x1024_lora_zero1", "longformer", LORA, 2, 1024, stage=1),
    Setting("longformer_1x512_full_zero0", "small_longformer", FULL, 1, 512, stage=0),
    Setting(
        "longformer_1x1016_stock",
        "longformer",
        PROPAGATION,
        1,
        1016,
        backbone_settings={"attention": "stock"},
    ),
    Setting("longformer_1x2040_zero2_2_ranks", "longformer", PROPAGATION, 1, 2040, ranks=2),
    Setting("decoder_1x2040", "decoder", PROPAGATION, 1, 2040),
    Setting("decoder_4x504_checkpointed", "decoder", PROPAGATION, 4, 504, training=CHECKPOINTED),
    Setting("decoder_1x2040_bf16", "decoder", PROPAGATION, 1, 2040, training=BF16),
    Setting(
        "decoder_1x4088_bf16_checkpointed",
        "decoder",
        PROPAGATION,
        1,
        4088,
        training={**BF16, **CHECKPOINTED},
    ),
    Setting("decoder_2x1016_prefix_tuning_bf16", "decoder", TUNING, 2, 1016, training=BF16),
    Setting("decoder_2x1024_lora_zero0", "decoder", LORA, 2, 1024, stage=0),
    Setting("decoder_2x1024_head_only", "decoder", HEAD, 2, 1024),
    Setting("decoder_1x512_full_zero2", "small_decoder", FULL, 1, 512),
    Setting("decoder_1x512_full_zero1_2_ranks", "small_decoder", FULL, 1, 512, stage=1, ranks=2),
    Setting("decoder_1x1016_zero3", "large_decoder", PROPAGATION, 1, 1016, stage=3, training=BF16),
    Setting("decoder_1x504_zero3_2_ranks", "large_decoder", PROPAGATION, 1, 504, stage=3, ranks=2),
)


def run(options: BenchmarkOptions, say: Say) -> list[dict[str, Any]]:
    """The cases of the report; `quick`: those of one rank."""
    chosen = [
        setting
        for setting in SETTINGS
        if options.chosen(setting.name) and not (options.quick and setting.ranks > 1)
    ]
    return [measure_setting(setting, say) for setting in chosen]


def measure_setting(setting: Setting, say: Say) -> dict[str, Any]:
    """One case of the report."""
    with tempfile.TemporaryDirectory(prefix="prefixprop-memory-") as folder:
        values = experiment_values(setting, Path(folder) / "backbone")
        measured = _measure(setting, values, Path(folder))
    on_gpu = measured["device"] == "cuda"
    estimate = estimated(values, BACKBONES[setting.backbone], ranks=setting.ranks, gpu=on_gpu)
    device = estimate["device"] + (0 if on_gpu else estimate["host"])
    difference = device / measured["bytes"] - 1.0
    say(
        f"{setting.name}: estimate {device / 2**20:,.0f} MiB, measured "
        f"{measured['bytes'] / 2**20:,.0f} MiB, {difference:+.1%} ({estimate['worst_instant']})"
    )
    return {
        "case": setting.name,
        "estimate_bytes": device,
        "measured_bytes": measured["bytes"],
        "difference": difference,
        "within": abs(difference) <= PROMISED,
        "estimate": estimate,
        "measured": measured,
    }


def experiment_values(setting: Setting, folder: Path) -> dict[str, Any]:
    """The experiment of a setting."""
    family = "longformer" if "longformer" in setting.backbone else "decoder"
    return {
        "name": "benchmark-memory",
        "backbone": {
            "source": "local",
            "name_or_path": str(folder),
            "family": family,
            **setting.backbone_settings,
        },
        "adapter": dict(setting.method),
        "head": {"pooling": "prefix" if family == "longformer" else "last"},
        "data": {"files": {"train": "unused"}, "max_tokens": setting.tokens},
        "training": {"micro_batch_size": setting.batch, **setting.training},
        "zero": {"stage": setting.stage},
    }


def estimated(
    values: Mapping[str, Any], sizes: Mapping[str, Any], *, ranks: int, gpu: bool
) -> dict[str, Any]:
    """The plan's numbers for a setting, in bytes."""
    config = ExperimentConfig.model_validate(values).train_config()
    shape = backbone_shape(sizes)
    trainable = trainable_parameters(shape, config.adapter, num_labels=2)
    memory = worker_memory(config, shape, trainable=trainable, num_workers=ranks, gpu=gpu)
    return {
        "weights": memory.weights,
        "trained": memory.trained,
        "activations": memory.activations,
        "worst_instant": memory.worst_instant,
        "device": memory.device,
        "host": memory.host,
    }


def _measure(setting: Setting, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The rank that needed most."""
    asked = {"experiment": values, "backbone": setting.backbone, "ranks": setting.ranks}
    (folder / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    ranks = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pipelines.research.benchmark.memory_side",
                str(folder),
                str(rank),
            ],
            env=os.environ | ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=(folder / f"rank-{rank}.log").open("w"),
        )
        for rank in range(setting.ranks)
    ]
    try:
        for rank, process in enumerate(ranks):
            if process.wait(TIMEOUT_SECONDS):
                log = (folder / f"rank-{rank}.log").read_text(encoding="utf-8")
                raise RuntimeError(f"{setting.name}, rank {rank}: {log[-2000:]}")
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    found = [
        json.loads((folder / f"measured-{rank}.json").read_text(encoding="utf-8"))
        for rank in range(setting.ranks)
    ]
    return max(found, key=lambda each: int(each["bytes"]))


def main() -> None:
    from pipelines.research.benchmark import measure

    parser = argparse.ArgumentParser(prog="python -m pipelines.research.benchmark.memory")
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--json", type=Path, help="write the report here")
    given = parser.parse_args()
    report = measure(
        "memory",
        BenchmarkOptions(only=tuple(given.only)),
        lambda line: print(line, flush=True),  # noqa: T201
    )
    within = sum(case["within"] for case in report["cases"])
    print(f"{within} of {len(report['cases'])} settings within {PROMISED:.0%}")  # noqa: T201
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
