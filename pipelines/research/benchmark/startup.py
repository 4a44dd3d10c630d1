"""How long until something happens: help, plan and dry run of the command line, and the first
training step, cold and warm.

Every command runs in a process of its own, as a user would type it. Cold: a new process to the end
of its first optimizer step. Warm: the same in a process that holds the backbone already, which is
what every trial of a slot but the first costs.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.search import MAX_TOKENS, experiment_values
from pipelines.research.benchmark.workload import BackboneName

TARGET_SECONDS = {"help": 0.7, "plan": 3.0, "search_dry_run": 3.0}
Say = Callable[[str], None]

FIRST_STEP = """
import json, sys, time
started = time.perf_counter()
from pathlib import Path
from components.config import ExperimentConfig, validate
config = validate(ExperimentConfig, json.loads(sys.argv[1])).train_config()
import torch
torch.set_num_threads(int(sys.argv[2]))
from components.backbones import tokenizer_id
from components.tasks import prepare
from components.training.session import open_session
from components.training.trial import run_trial
from components.training.world import join_world
imported = time.perf_counter()
cache = Path(sys.argv[3])
session = open_session(config, join_world(), cache_path=cache)
identity = tokenizer_id(config.backbone)
data = prepare(config.data, session.tokenizer, tokenizer_id=identity, cache_path=cache)
loaded = time.perf_counter()

def first_step(name):
    before = time.perf_counter()
    run_trial(session, data, config, checkpoint_folder=cache / name, wanted=lambda: "stop")
    return time.perf_counter() - before

cold = first_step("cold")
ended = time.perf_counter()
warm = [first_step(f"warm-{index}") for index in range(3)]
times = {"imports": imported - started, "backbone_and_data": loaded - imported}
print(json.dumps(times | {"first_trial_step": cold, "in_process": ended - started, "warm": warm}))
"""


def run(options: BenchmarkOptions, say: Say) -> list[dict[str, Any]]:
    """The commands of TARGET_SECONDS, 5 times each (`quick`: 2), and the first step on the tiny and
    the pretrained backbone.
    """
    repeats = 2 if options.quick else 5
    commands = {
        "help": ["--help"],
        "plan": ["plan", "demo"],
        "search_dry_run": ["search", "demo", "--dry-run"],
    }
    cases = [
        measure_command(name, arguments, repeats=repeats)
        for name, arguments in commands.items()
        if options.chosen(name)
    ]
    cases += [
        measure_first_step(f"first_step_{name}", name, repeats=min(repeats, 3))
        for name in _backbones()
        if options.chosen(f"first_step_{name}")
    ]
    for case in cases:
        say(
            f"{case['case']}: {case['ours']['median']:.2f} s"
            + (
                f" (target {case['target_seconds']} s)"
                if "target_seconds" in case
                else f", warm {case['warm']['median']:.2f} s"
            )
        )
    return cases


def _backbones() -> tuple[BackboneName, ...]:
    return ("tiny", "minilm")


def measure_command(name: str, arguments: Sequence[str], *, repeats: int) -> dict[str, Any]:
    """Wall and processor time of a command of the command line. The peer is an empty interpreter:
    what no Python program can undercut.
    """
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    _timed(command)  # byte code and page cache
    ours, empty = [], []
    for _ in range(repeats):
        ours.append(_timed(command))
        empty.append(_timed([sys.executable, "-c", "pass"]))
    mine, other = _spread([wall for wall, _ in ours]), _spread([wall for wall, _ in empty])
    return {
        "case": name,
        "peer": "an empty interpreter",
        "ours": mine | {"cpu_seconds": statistics.median(cpu for _, cpu in ours)},
        "theirs": other | {"cpu_seconds": statistics.median(cpu for _, cpu in empty)},
        "ratio": mine["median"] / other["median"],
        "target_seconds": TARGET_SECONDS[name],
        "target_met": mine["median"] <= TARGET_SECONDS[name],
    }


def measure_first_step(name: str, backbone: BackboneName, *, repeats: int) -> dict[str, Any]:
    """From a new process to the end of its first optimizer step, and the same again inside that
    process.
    """
    runs = []
    with tempfile.TemporaryDirectory(prefix="prefixprop-bench-") as folder:
        experiment = experiment_values(backbone, Path(folder), steps=2)
        cores = len(os.sched_getaffinity(0))
        for repeat in range(repeats + 1):
            cache = Path(folder) / "cache"
            started = time.perf_counter()
            ended = subprocess.run(
                [sys.executable, "-c", FIRST_STEP, json.dumps(experiment), str(cores), str(cache)],
                capture_output=True,
                text=True,
                check=False,
            )
            if ended.returncode:
                raise RuntimeError(f"{name} failed:\n{ended.stderr[-3000:]}")
            values = json.loads(ended.stdout.strip().splitlines()[-1])
            if repeat:
                runs.append(values | {"total": time.perf_counter() - started - sum(values["warm"])})
    parts = {
        part: statistics.median(run[part] for run in runs)
        for part in ("imports", "backbone_and_data", "first_trial_step")
    }
    return {
        "case": name,
        "peer": "the same step in a process that holds the backbone",
        "work": (
            f"one step of 4 documents of at most {MAX_TOKENS} tokens, data and lengthened backbone "
            "in the cache"
        ),
        "ours": _spread([run["total"] for run in runs]) | parts,
        "warm": _spread([seconds for run in runs for seconds in run["warm"]]),
        "ratio": statistics.median(run["total"] for run in runs)
        / statistics.median(seconds for run in runs for seconds in run["warm"]),
    }


def _timed(command: Sequence[str]) -> tuple[float, float]:
    """Wall and processor seconds of a process."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - started, os.times()
    return (
        wall,
        after.children_user + after.children_system - before.children_user - before.children_system,
    )


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}
