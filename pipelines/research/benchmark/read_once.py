"""The paper's grid (6 learning rates x 4 prefix lengths) on real documents of up to 1,024 tokens,
10 epochs, by one-way prefixes that read each document once: against one two-way trial of it, and
against one TorchTrainer per trial.

    python -m pipelines.research.benchmark read_once --data DATA --json F

`--data` is a folder with `hyperpartisan`. Each side is a process of its own and gets one core: our
grid is one slot with all 24 trials side by side, started with an empty cache, so that its one pass
over the documents counts. Of the others a part is run: the two-way trial for 1 and for 2 epochs,
4 of the peer's trials for 1 epoch each, and the missing epochs are added at the measured time of
one (`--full`: all epochs). Quality is not compared here.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.search import (
    SideResult,
    grid,
    prepare_side,
    read_once,
    run_side,
    spread_over,
)
from pipelines.research.benchmark.search_settings import SideSettings
from pipelines.research.benchmark.workload import backbone_values

CORPUS = "hyperpartisan"
MAX_TOKENS, EPOCHS, PEER_TRIALS = 1_024, 10, 4
TWO_WAY_EPOCHS, PEER_EPOCHS = (1, 2), 1
Say = Callable[[str], None]


def run(options: BenchmarkOptions, say: Say) -> list[dict[str, Any]]:
    """The one case of the report. Raises ValueError without real documents."""
    if options.data is None or not (options.data / CORPUS / "train.jsonl").is_file():
        raise ValueError(f"read_once needs real documents: --data FOLDER with {CORPUS} in it")
    with tempfile.TemporaryDirectory(prefix="prefixprop-bench-") as folder:
        experiment = experiment_values(options.data / CORPUS, Path(folder))
        prepare_side(experiment)
        return [measured(experiment, Path(folder), full=options.full, say=say)]


def measured(
    experiment: Mapping[str, Any], folder: Path, *, full: bool, say: Say
) -> dict[str, Any]:
    points = grid()
    together = read_once(experiment, beside=len(points))
    once = run_side(SideSettings("slots", str(folder / "once"), together, points, len(points)))
    say(f"{len(points)} trials, each document read once: {_times(once)}")

    one, ran = points[len(points) // 2], {}
    for epochs in (EPOCHS,) if full else TWO_WAY_EPOCHS:
        alone, place = with_epochs(with_one_point(experiment, one), epochs), f"two_way_{epochs}"
        ran[epochs] = run_side(SideSettings("slots", str(folder / place), alone, (one,), 1))
        say(f"one two-way trial of {epochs} epoch(s): {_times(ran[epochs])}")

    peer_epochs, chosen = EPOCHS if full else PEER_EPOCHS, spread_over(points, PEER_TRIALS)
    shorter = with_epochs(experiment, peer_epochs)
    peer = run_side(SideSettings("trainers", str(folder / "peer"), shorter, chosen, 1))
    say(f"{len(chosen)} of the peer's trials of {peer_epochs} epoch(s): {_times(peer)}")
    return case_of(once, ran, lengthened(peer, peer_epochs))


def case_of(
    once: SideResult, two_way: Mapping[int, SideResult], peer: SideResult
) -> dict[str, Any]:
    """The report. `two_way`: one trial by its epochs, of EPOCHS or of two numbers below; `peer`: of
    EPOCHS.
    """
    trials = len(once.trials)
    mine, other = once.values(trials), peer.values(trials)
    wall = {epochs: side.wall_seconds for epochs, side in two_way.items()}
    processor = {epochs: side.cpu_seconds for epochs, side in two_way.items()}
    one = {"wall_seconds": of_all_epochs(wall), "cpu_seconds": of_all_epochs(processor)}
    return {
        "case": f"{CORPUS}_{MAX_TOKENS}",
        "peer": "one TorchTrainer per trial, deepspeed loop, 1 at a time",
        "work": f"{trials} trials of {EPOCHS} epochs, an evaluation after each; one core",
        "ours": mine,
        "theirs": other,
        "two_way_trial": one | {"epochs_run": sorted(two_way)},
        "ratio": mine["trials_per_hour"] / other["trials_per_hour"],
        "share_of_one_two_way_trial": once.wall_seconds / one["wall_seconds"],
        "share_in_processor_time": once.cpu_seconds / one["cpu_seconds"],
    }


def of_all_epochs(measured: Mapping[int, float]) -> float:
    """What EPOCHS epochs take: measured, or on the line through two smaller numbers of epochs, so
    that what a start takes counts once.
    """
    if EPOCHS in measured:
        return measured[EPOCHS]
    (few, small), (more, large) = sorted(measured.items())
    return small + (EPOCHS - few) * (large - small) / (more - few)


def lengthened(side: SideResult, epochs: int) -> SideResult:
    """The peer's trials of `epochs`, one after the other, as if each had trained for EPOCHS: its
    steps and evaluations take as much longer. Processor time stays that of what ran.
    """
    later, trials = 0.0, []
    for trial in sorted(side.trials, key=lambda trial: trial.started):
        longer = trial.training_seconds * (EPOCHS / epochs - 1)
        training = trial.training_seconds + longer
        started, later = trial.started + later, later + longer
        trials.append(
            replace(trial, started=started, ended=trial.ended + later, training_seconds=training)
        )
    return replace(side, trials=tuple(trials), wall_seconds=side.wall_seconds + later)


def with_epochs(experiment: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    return {**experiment, "training": {**experiment["training"], "epochs": epochs}}


def with_one_point(experiment: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment whose grid is this point."""
    space = {path: {"choice": [value]} for path, value in point.items()}
    return {**experiment, "search": {**experiment["search"], "space": space}}


def experiment_values(documents: Path, folder: Path) -> dict[str, Any]:
    return {
        "name": "benchmark-read-once",
        "backbone": backbone_values("minilm", folder, max_tokens=MAX_TOKENS),
        "adapter": {"dropout": 0.0},
        "head": {"pooling": "mean", "dropout": 0.0},
        "data": {
            "files": {
                split: str(documents / f"{split}.jsonl")
                for split in ("train", "validation", "test")
            },
            "max_tokens": MAX_TOKENS,
        },
        "training": {
            "epochs": EPOCHS,
            "micro_batch_size": 4,
            "gradient_accumulation_steps": 8,
            "evaluations_per_epoch": 1,
        },
        "zero": {"stage": 0},
        "search": {"searcher": "grid", "trial_scheduler": "none", "concurrent_slots": 1},
        "cluster": {"storage_path": str(folder / "storage"), "cache_path": str(folder / "cache")},
    }


def _times(side: SideResult) -> str:
    return f"{side.wall_seconds:.0f} s, {side.cpu_seconds:.0f} s of processor time"
