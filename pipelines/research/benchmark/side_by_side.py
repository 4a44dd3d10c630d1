"""Whole trainings of one-way prefixes one after the other, against the same trainings side by side
on one backbone: processor time.

Each way is a process with one thread; documents' states are kept on disk and read before either.
Counted is everything that a slot does for a trial but the loading of the backbone: engine, steps,
evaluations, checkpoints. Refused where the two do not compute the same.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.workload import BackboneName, backbone_values, write_documents

SAME = 1e-5
"""Most by which a trial's losses may differ."""
STEPS, MICRO_BATCH, MAX_TOKENS = 12, 2, 900
SIDES = ("kept", "anew")
"""training.text_states."""
BACKBONES: dict[str, BackboneName] = {"tiny": "tiny", "minilm": "minilm"}


def run(options: BenchmarkOptions, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A case for each backbone and way of reading a text; 6 trials each (`quick`: 2)."""
    count = 2 if options.quick else 6
    return [
        measured(f"{name}_{states}", name, states, count, say)
        for name in BACKBONES
        for states in SIDES
        if options.chosen(f"{name}_{states}")
    ]


def measured(
    case: str, name: str, states: str, count: int, say: Callable[[str], None]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="prefixprop-bench-") as folder:
        values = _experiment(BACKBONES[name], Path(folder), states)
        _side(values, Path(folder) / "before", 1, 1)  # lengthens, tokenises, reads the states
        alone, together = (
            _side(values, Path(folder) / str(beside), count, beside) for beside in (1, count)
        )
    difference = max(
        abs(one - other) for one, other in zip(alone["losses"], together["losses"], strict=True)
    )
    if difference > SAME:
        raise RuntimeError(f"{case}: the losses differ by {difference:.2g}")
    documents = count * STEPS * MICRO_BATCH
    rates = [documents / each["processor_seconds"] for each in (alone, together)]
    say(
        f"{case}: {count} trials, {rates[1]:.1f} against {rates[0]:.1f} trained documents per "
        f"processor second, ratio {rates[1] / rates[0]:.2f}; in steps alone "
        f"{together['step_seconds']:.2f} against {alone['step_seconds']:.2f} s"
    )
    return {
        "case": case,
        "peer": "the same trainings one after the other",
        "work": f"{count} trials of {STEPS} steps of {MICRO_BATCH} documents, two evaluations",
        "ours": {"documents_per_processor_second": rates[1], **_times(together)},
        "theirs": {"documents_per_processor_second": rates[0], **_times(alone)},
        "ratio": rates[1] / rates[0],
        "largest_difference": difference,
    }


def _times(side: dict[str, Any]) -> dict[str, float]:
    return {name: side[name] for name in ("processor_seconds", "step_seconds")}


def _experiment(backbone: BackboneName, folder: Path, states: str) -> dict[str, Any]:
    splits = {"train": STEPS * MICRO_BATCH, "validation": 6, "test": 3}
    for seed, (split, count) in enumerate(splits.items()):
        write_documents(folder / f"{split}.jsonl", count, seed=seed, words=(500, 800))
    return {
        "name": "side-by-side",
        "backbone": backbone_values(backbone, folder, max_tokens=MAX_TOKENS),
        "adapter": {"placement": "one_way", "dropout": 0.0},
        "head": {"pooling": "last", "dropout": 0.0},
        "data": {
            "files": {split: str(folder / f"{split}.jsonl") for split in splits},
            "max_tokens": MAX_TOKENS,
        },
        "training": {
            "epochs": 1,
            "micro_batch_size": MICRO_BATCH,
            "evaluations_per_epoch": 2,
            "text_states": states,
        },
        "zero": {"stage": 0},
        "cluster": {"storage_path": str(folder / "storage"), "cache_path": str(folder / "cache")},
    }


def _side(values: dict[str, Any], folder: Path, count: int, beside: int) -> dict[str, Any]:
    """Train `count` trials, `beside` at a time, in a process of its own."""
    given = json.dumps([values, str(folder), count, beside])
    code = "from pipelines.research.benchmark.side_by_side import side; side()"
    ended = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{folder.name} at a time failed:\n{ended.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return found


def side() -> None:
    """In the process: what is to be done comes in, what it took goes out."""
    values, folder, count, beside = json.load(sys.stdin)
    import torch

    from components.backbones import tokenizer_id
    from components.config import ExperimentConfig, validate
    from components.tasks import prepare
    from components.training import side_by_side
    from components.training.session import open_session
    from components.training.world import join_world

    torch.set_num_threads(1)
    configs = []
    for number in range(count):
        adapter = {**values["adapter"], "prefix_length": (8, 4, 16)[number % 3]}
        rate = {"learning_rate": (1e-3, 3e-3)[number % 2]}
        made = validate(ExperimentConfig, {**values, "adapter": adapter, "optimizer": rate})
        configs.append(made.train_config())
    cache = Path(values["cluster"]["cache_path"])
    session = open_session(configs[0], join_world(), cache_path=cache)
    identity = tokenizer_id(configs[0].backbone)
    data = prepare(configs[0].data, session.tokenizer, tokenizer_id=identity, cache_path=cache)
    in_steps, answered = [0.0], side_by_side.answered

    def timed(asked: Any) -> Any:
        before = time.process_time()
        answers = answered(asked)
        in_steps[0] += time.process_time() - before
        return answers

    side_by_side.answered = timed
    started = time.process_time()
    losses = _losses(session, data, configs, Path(folder), beside)
    seconds = time.process_time() - started
    told = {"processor_seconds": seconds, "step_seconds": in_steps[0], "losses": losses}
    sys.stdout.write(json.dumps(told) + "\n")


def _losses(
    session: Any, data: Any, configs: Sequence[Any], folder: Path, beside: int
) -> list[float]:
    """Of all trainings, `beside` of them at a time."""
    from components.training.side_by_side import SideBySide
    from components.training.trial import trial_steps

    at_work, waiting, over = SideBySide[Any](), list(enumerate(configs)), dict[str, Any]()
    while waiting or at_work:
        while waiting and len(at_work) < beside:
            number, config = waiting.pop(0)
            steps = trial_steps(
                session,
                data,
                config,
                checkpoint_folder=folder / str(number),
                report=lambda report: None,
                wanted=lambda: "steps",
                resume=False,
                ranks=None,
            )
            at_work.add(str(number), steps)
        over |= at_work.round()
    results = [over[str(number)] for number in range(len(configs))]
    return [metrics["train/loss"] for each in results for metrics in each.progress.history]
