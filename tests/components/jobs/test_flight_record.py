"""What is kept of a training that ended badly."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from components.checksums import Damaged
from components.jobs.flight_record import (
    FLIGHT_FILE,
    KEPT_STEPS,
    NO_STACKS,
    FlightRecord,
    read_flight_record,
)
from components.jobs.job import Job
from components.jobs.words import Word
from components.training.recent_steps import Step
from tests.components.jobs.test_run_jobs import CONFIG


def job(folder: Path) -> Job:
    return Job("a", CONFIG, Path("data"), folder)


def word(
    of: Job, numbers: Sequence[int], *, rank: int = 0, pid: int = 7, loss: float = 1.0
) -> Word:
    steps = tuple(Step(number, float(number), 0.5, 10, 1e-3, loss) for number in numbers)
    return Word(
        rank,
        pid,
        "node",
        5,
        made=len(steps),
        steps={str(of.checkpoint): steps},
        memory_bytes=2**20,
    )


def test_it_has_the_last_steps_of_every_rank_settings_stacks_and_memory(tmp_path: Path) -> None:
    flight, failed = FlightRecord(), job(tmp_path)
    for start in range(0, KEPT_STEPS + 50, 50):
        flight.hear(word(failed, range(start, start + 50)))
    flight.hear(word(failed, [1], rank=1))
    flight.stacks[0] = "it raised here"
    flight.write(failed, reason="ValueError: x", cause="training")
    kept = read_flight_record(tmp_path)
    assert (kept["job"], kept["reason"], kept["cause"]) == ("a", "ValueError: x", "training")
    first, second = kept["ranks"]["0"], kept["ranks"]["1"]
    numbers = [step["number"] for step in first["steps"]]
    assert numbers == list(range(50, KEPT_STEPS + 50))
    assert (first["stacks"], second["stacks"]) == ("it raised here", NO_STACKS)
    assert first["memory_bytes"] == 2**20 and first["micro_batches"] == 5
    assert kept["config"]["training"]["micro_batch_size"] == CONFIG.training.micro_batch_size


def test_steps_of_an_earlier_training_or_process_are_not_taken_for_this_one_s(
    tmp_path: Path,
) -> None:
    flight, before, failed = FlightRecord(), job(tmp_path / "before"), job(tmp_path / "failed")
    flight.hear(word(before, [1, 2, 3]))
    assert flight.content(failed, reason="", cause="")["ranks"]["0"]["steps"] == []
    flight.hear(word(failed, [1]))
    flight.hear(word(failed, [1, 2], pid=8))
    steps = flight.content(failed, reason="", cause="")["ranks"]["0"]["steps"]
    assert [step["number"] for step in steps] == [1, 2]


def test_of_several_trainings_at_a_time_each_has_its_own_steps(tmp_path: Path) -> None:
    flight, failed, other = FlightRecord(), job(tmp_path / "failed"), job(tmp_path / "other")
    for number in (1, 2):
        both = word(failed, [number])
        flight.hear(replace(both, steps={**both.steps, **word(other, [10 * number]).steps}))
    assert [step.number for step in flight.steps(0, failed)] == [1, 2]
    assert [step.number for step in flight.steps(0, other)] == [10, 20]


def test_a_loss_that_is_no_number_stays_readable(tmp_path: Path) -> None:
    flight, failed = FlightRecord(), job(tmp_path)
    flight.hear(word(failed, [1], loss=float("nan")))
    content = flight.content(failed, reason="", cause="")
    assert (
        json.loads(json.dumps(content, allow_nan=False))["ranks"]["0"]["steps"][0]["loss"] == "nan"
    )


def test_it_holds_no_secret(tmp_path: Path) -> None:
    flight, failed = FlightRecord(), job(tmp_path)
    flight.hear(word(failed, [1]))
    flight.stacks[0] = "in open('https://ann:s3cr3t-0f-ann@host')"
    flight.write(failed, reason="no https://ann:s3cr3t-0f-ann@host", cause="training")
    assert "s3cr3t" not in (tmp_path / FLIGHT_FILE).read_text()


def test_a_damaged_one_is_not_read(tmp_path: Path) -> None:
    flight, failed = FlightRecord(), job(tmp_path)
    flight.write(failed, reason="one", cause="training")
    file = tmp_path / FLIGHT_FILE
    file.write_text(file.read_text().replace("one", "two"))
    with pytest.raises(Damaged):
        read_flight_record(tmp_path)
