"""A search of 24 trials (6 learning rates x 4 prefix lengths, the paper's grid) three ways: trial
slots, one TorchTrainer per trial, and one slot that reads each document once.

The sides run in processes of their own, one after the other, on the same prepared backbone, data,
steps, evaluations and trial scheduler, and every trial's losses must agree. Read once is another
form of the method (adapter.placement one_way, all trials side by side), with losses of its own.
Times run from the start of a side's process to its end, imports and cluster included. Our sides
keep every trial in MLflow (a sqlite file); the peer tracks nothing. A peer's trial costs half a
minute, so the peer may run a part of the grid: its trials per hour are then those of a whole grid
at the measured pace.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from components.config.search import SearchConfig
from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.process_tree import TreeSampler
from pipelines.research.benchmark.search_settings import (
    SideSettings,
    TrialTimes,
    read_records,
    write_settings,
)
from pipelines.research.benchmark.workload import BackboneName, backbone_values, write_documents

MAX_TOKENS = 256
SAME_LOSS = 1e-4  # float32 sums in another order
ENVIRONMENT = {
    "RAY_worker_niceness": "0"
    # Ray's workers give way to every other process of the machine (15): a busy neighbour would be
    # measured
}
PREPARE = """
import json, sys
from pathlib import Path
from components.backbones import load_backbone
from components.backbones.settings import BackboneConfig
from components.registry import open_tracker
cache = Path(sys.argv[2])
cache.mkdir(parents=True, exist_ok=True)
load_backbone(BackboneConfig.model_validate(json.loads(sys.argv[1])), cache_path=cache)
open_tracker("mlflow", f"sqlite:///{cache}/mlflow.db").check()
"""
Say = Callable[[str], None]


@dataclass(frozen=True)
class SideResult:
    """One side of one case. `wall_seconds`: its process from start to end; `pace_seconds`: between
    two trials that ended one after the other, all slots together.
    """

    trials: tuple[TrialTimes, ...]
    wall_seconds: float
    concurrent: int
    peak_memory_bytes: int
    peak_processes: int
    cpu_seconds: float

    @property
    def pace_seconds(self) -> float:
        """Median over windows of `concurrent` trials, so that trials which end together do not
        count as instant.
        """
        ends = sorted(trial.ended for trial in self.trials)
        step = min(self.concurrent, len(ends) - 1)
        return statistics.median(
            (later - earlier) / step for earlier, later in zip(ends, ends[step:], strict=False)
        )

    @property
    def beyond_training_seconds(self) -> list[float]:
        """Per trial but the first of each slot: from the end of the trial before it to its own end,
        less its own steps and evaluations.
        """
        later = sorted(self.trials, key=lambda trial: trial.started)[self.concurrent :]
        before = [
            max(
                (other.ended for other in self.trials if other.ended <= trial.started),
                default=trial.started,
            )
            for trial in later
        ]
        return [
            trial.ended - ended_before - trial.training_seconds
            for trial, ended_before in zip(later, before, strict=True)
        ]

    def seconds_for(self, trials: int) -> float:
        """Wall time of a search of that many trials: measured where all of them ran, else the
        measured time plus the missing trials at the measured pace.
        """
        return self.wall_seconds + max(0, trials - len(self.trials)) * self.pace_seconds

    def values(self, trials: int) -> dict[str, Any]:
        beyond = self.beyond_training_seconds or [0.0]
        training = [trial.training_seconds for trial in self.trials]
        return {
            "trials_run": len(self.trials),
            "concurrent": self.concurrent,
            "wall_seconds": self.wall_seconds,
            "seconds_for_the_grid": self.seconds_for(trials),
            "trials_per_hour": 3600.0 * trials / self.seconds_for(trials),
            "pace_seconds": self.pace_seconds,
            "first_trial_ended_after_seconds": min(trial.ended for trial in self.trials)
            - (max(trial.ended for trial in self.trials) - self.wall_seconds),
            "training_seconds": {
                "median": statistics.median(training),
                "min": min(training),
                "max": max(training),
            },
            "beyond_training_seconds": {
                "median": statistics.median(beyond),
                "min": min(beyond),
                "max": max(beyond),
            },
            "peak_memory_bytes": self.peak_memory_bytes,
            "peak_processes": self.peak_processes,
            "cpu_seconds": self.cpu_seconds,
        }


def grid() -> tuple[dict[str, Any], ...]:
    """The points of the default search space, every combination once."""
    space = SearchConfig().space
    # Every domain of the default space is a choice.
    values = [getattr(domain, "choice") for domain in space.values()]  # noqa: B009
    return tuple(dict(zip(space, point, strict=True)) for point in product(*values))


def spread_over(points: Sequence[Mapping[str, Any]], count: int) -> tuple[Mapping[str, Any], ...]:
    """`count` of the points, evenly spaced."""
    count = min(count, len(points))
    return tuple(points[index * len(points) // count] for index in range(count))


def experiment_values(backbone: BackboneName, folder: Path, *, steps: int) -> dict[str, Any]:
    """A search whose trials are a few steps long: two evaluations, 16 validation documents, one
    worker per trial.
    """
    documents = folder / "documents"
    documents.mkdir()
    micro_batch_size = 4
    for split, count, seed in (
        ("train", micro_batch_size * steps, 1),
        ("validation", 16, 2),
        ("test", 8, 3),
    ):
        write_documents(documents / f"{split}.jsonl", count, seed=seed, words=(120, 240))
    return {
        "name": f"benchmark-{backbone}",
        "backbone": backbone_values(backbone, folder, max_tokens=MAX_TOKENS),
        "adapter": {"dropout": 0.0},
        "head": {"pooling": "mean", "dropout": 0.0},
        "data": {
            "files": {
                split: str(documents / f"{split}.jsonl")
                for split in ("train", "validation", "test")
            },
            "max_tokens": MAX_TOKENS,
        },
        "training": {"epochs": 1, "micro_batch_size": micro_batch_size, "evaluations_per_epoch": 2},
        "zero": {"stage": 0},
        "search": {"searcher": "grid", "trial_scheduler": "none"},
        "cluster": {"storage_path": str(folder / "storage"), "cache_path": str(folder / "cache")},
    }


def run_side(settings: SideSettings) -> SideResult:
    """Run one side to its end. Raises RuntimeError with the end of its log where it failed."""
    folder = Path(settings.folder)
    folder.mkdir(parents=True)
    write_settings(settings)
    started = time.monotonic()
    with (folder / "log").open("w", encoding="utf-8") as log:
        side = subprocess.Popen(
            [sys.executable, "-m", "pipelines.research.benchmark.search_side", str(folder)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | ENVIRONMENT,
        )
        try:
            with TreeSampler(side.pid) as tree:
                code = side.wait()
        except BaseException:
            side.terminate()
            side.wait()
            raise
    seconds = time.monotonic() - started
    if code != 0:
        raise RuntimeError(
            f"the side '{settings.side}' ended with "
            f"{code}:\n{(folder / 'log').read_text(encoding='utf-8')[-3000:]}"
        )
    return SideResult(
        tuple(read_records(folder)),
        seconds,
        settings.concurrent,
        tree.peak_bytes,
        tree.peak_processes,
        tree.cpu_seconds,
    )


def largest_difference(ours: Sequence[TrialTimes], theirs: Sequence[TrialTimes]) -> float:
    """Largest difference of a last training or validation loss between trials of the same point.
    Raises AssertionError where a trial is missing or made another number of steps.
    """
    by_point = {tuple(sorted(trial.point.items())): trial for trial in ours}
    worst = 0.0
    for trial in theirs:
        own = by_point[tuple(sorted(trial.point.items()))]
        assert own.step == trial.step, f"{dict(trial.point)}: {own.step} steps against {trial.step}"
        worst = max(
            worst,
            abs(own.train_loss - trial.train_loss),
            abs(own.validation_nll - trial.validation_nll),
        )
    return worst


@dataclass(frozen=True)
class Case:
    """One comparison. A trial has one worker of one core on every side; `slots` and
    `peer_concurrent` are what was best for each on two cores.

    One core each, because two torch threads of one worker wait for each other by spinning: on a
    machine with neighbours a step then takes ten times as long.
    """

    name: str
    backbone: BackboneName
    steps: int
    slots: int
    peer_concurrent: int
    peer_loop: Literal["deepspeed", "plain"]


CASES = (
    Case("tiny", "tiny", 4, slots=1, peer_concurrent=2, peer_loop="deepspeed"),
    Case("tiny_plain_peer", "tiny", 4, slots=1, peer_concurrent=2, peer_loop="plain"),
    Case("minilm", "minilm", 4, slots=2, peer_concurrent=2, peer_loop="deepspeed"),
    Case("minilm_plain_peer", "minilm", 4, slots=2, peer_concurrent=2, peer_loop="plain"),
)


def run(options: BenchmarkOptions, say: Say) -> list[dict[str, Any]]:
    """The cases of the report. The peer runs 6 trials of the grid (`quick`: 4, `full`: all of
    it).
    """
    peer_trials = len(grid()) if options.full else 4 if options.quick else 6
    return [
        measure_case(case, peer_trials=peer_trials, say=say)
        for case in CASES
        if options.chosen(case.name)
    ]


def _peer(
    case: Case, folder: Path, experiment: Mapping[str, Any], points: tuple[Mapping[str, Any], ...]
) -> SideSettings:
    return SideSettings(
        "trainers",
        str(folder),
        _on_slots(experiment, case.peer_concurrent),
        points,
        case.peer_concurrent,
        case.peer_loop,
    )


def measure_case(case: Case, *, peer_trials: int, say: Say) -> dict[str, Any]:
    """One case of the report: our whole grid, then the peer's part of it."""
    points = grid()
    with tempfile.TemporaryDirectory(prefix="prefixprop-bench-") as name:
        folder = Path(name)
        experiment = experiment_values(case.backbone, folder, steps=case.steps)
        prepare_side(experiment)
        say(f"{case.name}: {len(points)} trials on {case.slots} slot(s)")
        mine = _on_slots(experiment, case.slots)
        ours = run_side(SideSettings("slots", str(folder / "ours"), mine, points, case.slots))
        say(
            f"{case.name}: {ours.wall_seconds:.0f} s; now {peer_trials} trial(s) of the peer, "
            f"{case.peer_concurrent} at a time ({case.peer_loop} loop)"
        )
        chosen = spread_over(points, peer_trials)
        theirs = run_side(_peer(case, folder / "theirs", experiment, chosen))
        say(f"{case.name}: now {len(points)} trials side by side, each document read once")
        together = read_once(experiment, beside=len(points))
        once = run_side(SideSettings("slots", str(folder / "once"), together, points, len(points)))
    difference = largest_difference(ours.trials, theirs.trials)
    if difference > SAME_LOSS:
        raise RuntimeError(
            f"{case.name}: the two sides did not compute the same: losses differ by "
            f"{difference:.2g}"
        )
    mine, other, third = (side.values(len(points)) for side in (ours, theirs, once))
    ratio = mine["trials_per_hour"] / other["trials_per_hour"]
    say(
        f"{case.name}: {mine['trials_per_hour']:.0f} against {other['trials_per_hour']:.0f} trials "
        f"per hour, ratio {ratio:.1f}; "
        f"a further trial costs {mine['beyond_training_seconds']['median']:.2f} s against "
        f"{other['beyond_training_seconds']['median']:.1f} s beyond its training; "
        f"{third['trials_per_hour']:.0f} trials per hour where each document is read once"
    )
    return {
        "case": case.name,
        "peer": (
            f"one TorchTrainer per trial, {case.peer_loop} loop, {case.peer_concurrent} at a time"
        ),
        "work": (
            f"{len(points)} trials of {case.steps} steps of 4 documents of at most {MAX_TOKENS} "
            "tokens, 2 evaluations on 16 documents"
        ),
        "ours": mine,
        "theirs": other,
        "read_once": third,
        "ratio": ratio,
        "ratio_read_once": third["trials_per_hour"] / other["trials_per_hour"],
        "largest_difference": difference,
    }


def read_once(experiment: Mapping[str, Any], *, beside: int) -> dict[str, Any]:
    """The experiment by one-way prefixes on kept states, `beside` trials side by side in one
    slot.
    """
    return {
        **experiment,
        "adapter": {**experiment["adapter"], "placement": "one_way"},
        "head": {**experiment["head"], "pooling": "last"},
        "training": {**experiment["training"], "text_states": "kept"},
        "search": {
            **experiment["search"],
            "concurrent_slots": 1,
            "trials_per_slot": beside,
        },
    }


def _on_slots(experiment: Mapping[str, Any], concurrent: int) -> dict[str, Any]:
    """The experiment with that many trials at a time, each on one core."""
    return {**experiment, "search": {**experiment["search"], "concurrent_slots": concurrent}}


def prepare_side(experiment: Mapping[str, Any]) -> None:
    """Lengthen the backbone into the cache and make the tables of the MLflow database before either
    side runs.
    """
    subprocess.run(
        [
            sys.executable,
            "-c",
            PREPARE,
            json.dumps(experiment["backbone"]),
            experiment["cluster"]["cache_path"],
        ],
        check=True,
    )
