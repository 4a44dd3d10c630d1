"""The simulator against real searches: makespan as it was measured and as it was simulated.

    python -m pipelines.research.benchmark.simulated FOLDER [--json FILE]

Six searches of eight trials (one and two slots, a grid and random points with ASHA, workers killed
at times drawn by a seed or not), after one that nobody looks at (the first after a while reads its
programs from a cold disk) and two that measure what a slot takes beside training. Nothing is fitted
to a makespan: of a simulated search is taken the rate of its first trial alone, its kills, and the
learning curves of the grid. Beside that stands the search replayed with the pace of each trial and
the start that its own slots had, which tells the simulator's own error from a machine that changed
its pace. FOLDER keeps what was measured; called again with it, only what is missing is run.
"""

import argparse
import json
import os
import random
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config import ExperimentConfig, validate
from components.simulation import Course, Courses, Loss, Simulated, SlotTimes, simulate
from components.tuning.searchers import Point, key_of
from pipelines.research.benchmark.search import experiment_values
from pipelines.research.benchmark.timed_search import (
    Kill,
    TimedSearch,
    TimedTrial,
    Told,
    timed_search,
)

if TYPE_CHECKING:
    from components.data import PreparedData

STEPS_PER_EPOCH, EPOCHS = 64, 4
KILLS, FIRST_KILL, BETWEEN_KILLS = 2, (8.0, 16.0), (8.0, 16.0)
"""Seconds after the first step, and after a slot whose workers were killed came back."""
TRIALS_BESIDE_RESTART = 3
"""That another slot trains while one comes back: processes that start want cores, too."""
METRIC = "validation/nll"
GRID: Mapping[str, Any] = {
    "searcher": "grid",
    "trial_scheduler": "none",
    "reuse_trials": False,
    "space": {
        "optimizer.learning_rate": {"choice": [3e-2, 1e-2, 3e-3, 1e-3]},
        "adapter.prefix_length": {"choice": [4, 8]},
    },
}
RANDOM = {**GRID, "searcher": "random", "num_trials": 8, "trial_scheduler": "asha"}


@dataclass(frozen=True)
class Case:
    """One search. `kills`: the seed that draws them, None: undisturbed."""

    name: str
    search: Mapping[str, Any]
    slots: int
    kills: int | None = None


CURVES = Case("grid_1_slot", GRID, 1)
CASES = (
    CURVES,
    Case("asha_1_slot", RANDOM, 1),
    Case("asha_1_slot_kills", RANDOM, 1, kills=1),
    Case("grid_2_slots", GRID, 2),
    Case("asha_2_slots", RANDOM, 2),
    Case("grid_2_slots_kills", GRID, 2, kills=2),
)


@dataclass(frozen=True)
class Place:
    """Where searches run, and where what was measured is kept."""

    folder: Path
    values: Mapping[str, Any]
    data: "PreparedData"

    def config(self, search: Mapping[str, Any], slots: int) -> ExperimentConfig:
        values = {**self.values, "search": {**search, "concurrent_slots": slots}}
        return validate(ExperimentConfig, values)

    def measured(
        self, name: str, config: ExperimentConfig, kills: tuple[Kill, ...] = ()
    ) -> TimedSearch:
        """A search that ran before, or runs now."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            found = timed_search(config, self.data, self.folder / "searches" / name, kills)
            file.write_text(json.dumps(asdict(found)), encoding="utf-8")
        return read_timed(json.loads(file.read_text(encoding="utf-8")))


def read_timed(values: Mapping[str, Any]) -> TimedSearch:
    """What asdict made of it."""
    trials = tuple(
        TimedTrial(**{**trial, "told": [Told(**told) for told in trial["told"]]})
        for trial in values["trials"]
    )
    load = values["load"]
    return TimedSearch(values["seconds"], trials, tuple(values["killed"]), (load[0], load[1]))


def calibrated(place: Place, slots: int) -> SlotTimes:
    """What slots take beside training: of some trials one loses its workers, while the other slots
    have enough to do.
    """
    count = 2 if slots == 1 else TRIALS_BESIDE_RESTART + 3
    config = place.config(_grid(count), slots)
    kill = Kill(slot=0, after=(f"trial-{slots:03d}", 4))
    return slot_times(place.measured(f"calibration_{slots}", config, (kill,)), slots)


def _grid(count: int) -> Mapping[str, Any]:
    """A search of so many trials."""
    rates = [3e-2 / (number + 1) for number in range(count)]
    space = {"optimizer.learning_rate": rates, "adapter.prefix_length": [4]}
    return {**GRID, "space": {path: {"choice": values} for path, values in space.items()}}


def start_of(found: TimedSearch, slots: int) -> float:
    """Seconds until slots make their first step, in the mean over them."""
    trials = sorted(found.trials, key=lambda trial: trial.started)
    return sum(trial.started for trial in trials[:slots]) / slots


def slot_times(found: TimedSearch, slots: int) -> SlotTimes:
    """From a search whose workers were killed once."""
    trials = sorted(found.trials, key=lambda trial: trial.started)
    ends = sorted(trial.ended for trial in trials)
    further = [later.started - end for later, end in zip(trials[slots:], ends, strict=False)]
    (killed,) = found.killed
    return SlotTimes(
        start=start_of(found, slots),
        further_trial=sum(further) / len(further),
        restart=max(_stall(trial, killed) for trial in trials),
    )


def _stall(trial: TimedTrial, killed: float) -> float:
    """From the kill to the step at which the trial went on; 0 where it was not hit."""
    for before, after in zip(trial.told, trial.told[1:], strict=False):
        if before.at <= killed < after.at:
            went_on = after.at - (after.seconds - before.seconds)
            return max(0.0, went_on - killed)
    return 0.0


def drawn_kills(seed: int, *, slots: int, times: SlotTimes) -> tuple[Kill, ...]:
    """When whose workers are killed."""
    draw, kills = random.Random(seed), list[Kill]()
    seconds = draw.uniform(*FIRST_KILL)
    for _ in range(KILLS):
        kills.append(Kill(draw.randrange(slots), seconds))
        seconds += times.restart + draw.uniform(*BETWEEN_KILLS)
    return tuple(kills)


def at_rate_of_first(found: TimedSearch, curves: Mapping[str, TimedTrial]) -> Courses:
    """Courses of which nothing is known but the rate of the first trial, and the curves."""
    first = found.trials[0].told[-1]
    rate = first.seconds / first.step

    def course(point: Point) -> Course:
        told = curves[key_of(point)].told
        steps = tuple(each.step for each in told)
        counts = [step - before for before, step in zip((0, *steps), steps, strict=False)]
        values = tuple(each.value for each in told)
        return Course(steps, tuple(rate * count for count in counts), values)

    return course


def as_timed(found: TimedSearch, curves: Mapping[str, TimedTrial]) -> Courses:
    """Courses as each trial really went, which leaves out how steady the machine was."""
    of_first = at_rate_of_first(found, curves)
    timed = {key_of(trial.point): trial for trial in found.trials}

    def course(point: Point) -> Course:
        assumed, told = of_first(point), timed[key_of(point)].told
        ends = [each.seconds for each in told]
        own = [end - before for before, end in zip((0.0, *ends), ends, strict=False)]
        return replace(assumed, seconds=(*own, *assumed.seconds[len(own) :]))

    return course


def simulated(
    case: Case,
    config: ExperimentConfig,
    courses: Courses,
    *,
    times: SlotTimes,
    kills: tuple[Kill, ...],
) -> Simulated:
    """The search of a case."""
    return simulate(
        config,
        slots=case.slots,
        courses=courses,
        times=times,
        max_evaluations=EPOCHS * config.training.evaluations_per_epoch,
        losses=[Loss(times.start + kill.seconds, (kill.slot,)) for kill in kills],
    )


def compared(place: Place, case: Case) -> dict[str, Any]:
    """Measure a case and simulate it."""
    times = calibrated(place, case.slots)
    config = place.config(case.search, case.slots)
    kills = () if case.kills is None else drawn_kills(case.kills, slots=case.slots, times=times)
    grid = place.measured(CURVES.name, place.config(CURVES.search, CURVES.slots))
    curves = {key_of(trial.point): trial for trial in grid.trials}
    found = place.measured(case.name, config, kills)
    as_started = replace(times, start=start_of(found, case.slots))
    told, replayed = (
        simulated(case, config, courses(found, curves), times=taken, kills=kills)
        for courses, taken in ((at_rate_of_first, times), (as_timed, as_started))
    )
    ends = {trial.name: len(trial.told) for trial in found.trials}
    same = sum(ends[trial.name] == trial.evaluations for trial in told.trials)
    return {
        "case": case.name,
        "slots": case.slots,
        "killed": len(found.killed),
        "measured_seconds": found.seconds,
        "simulated_seconds": told.makespan_seconds,
        "difference": told.makespan_seconds / found.seconds - 1.0,
        "replayed_seconds": replayed.makespan_seconds,
        "replayed_difference": replayed.makespan_seconds / found.seconds - 1.0,
        "trials": len(told.trials),
        "trials_ended_alike": same,
        "utilisation": told.utilisation,
        "load_before": found.load[0],
        "load_after": found.load[1],
        "slot_times": asdict(times),
        "own_start": as_started.start,
    }


def opened(folder: Path) -> Place:
    """The experiment and its data, made now where they are not there; needs no cluster."""
    from components.backbones import load_tokenizer, tokenizer_id
    from components.tasks import prepare

    settings = folder / "experiment.json"
    if not settings.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = experiment_values("tiny", folder.resolve(), steps=STEPS_PER_EPOCH)
        made["training"] |= {"epochs": EPOCHS, "metric": METRIC}
        settings.write_text(json.dumps(made), encoding="utf-8")
    values = json.loads(settings.read_text(encoding="utf-8"))
    config = validate(ExperimentConfig, values)
    data = prepare(
        config.data,
        load_tokenizer(config.backbone),
        tokenizer_id=tokenizer_id(config.backbone),
        cache_path=Path(config.cluster.cache_path),
    )
    return Place(folder.resolve(), values, data)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.research.benchmark.simulated")
    parser.add_argument("folder", type=Path, help="what was measured is kept here")
    parser.add_argument("--json", type=Path, help="write the report here")
    given = parser.parse_args()
    from components.jobs.cluster import joined_cluster
    from pipelines import code_folders
    from pipelines.research.benchmark.hardware import (
        hardware,
        load_average,
        matrix_rate_gflops,
        versions,
    )
    from pipelines.research.benchmark.search import ENVIRONMENT

    os.environ.update(ENVIRONMENT)
    place, before, rate = opened(given.folder), load_average(), matrix_rate_gflops()
    cases = []
    with joined_cluster(None, code=code_folders()):
        place.measured("warm_up", place.config(_grid(1), 1))
        for case in CASES:
            cases.append(compared(place, case))
            told = cases[-1]
            line = (
                f"{case.name}: measured {told['measured_seconds']:.1f} s, simulated "
                f"{told['simulated_seconds']:.1f} s ({told['difference']:+.1%}; with its own start "
                f"and pace {told['replayed_difference']:+.1%}), "
                f"{told['trials_ended_alike']} of {told['trials']} trials ended alike"
            )
            print(line, file=sys.stderr, flush=True)  # noqa: T201
    report = {
        "benchmark": "simulated",
        "hardware": hardware(),
        "versions": versions(),
        "matrix_rate_gflops": rate,
        "load_average": {"before": before, "after": load_average()},
        "cases": cases,
    }
    text = json.dumps(report, indent=2) + "\n"
    if given.json:
        given.json.write_text(text, encoding="utf-8")
    else:
        print(text)  # noqa: T201


if __name__ == "__main__":
    main()
