"""What is started when: cron's times, what was missed, retries, pauses, and schedulers that are
killed or are several. The clock is the test's own, the cluster is a table of jobs.
"""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from components.errors import ClusterError, ConfigError
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.due import due, start_of, upcoming
from pipelines.scheduling.scheduler import JobStatus, pause, resume, run, step, trigger
from pipelines.scheduling.schedules import ScheduleConfig, load_schedules
from pipelines.scheduling.state import States

HOUR = 3600.0


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


START = at("2026-11-23T00:00")


def schedule(**changes: Any) -> ScheduleConfig:
    values = {"name": "hourly", "command": ("retrain", "spec.yaml"), "cron": "0 * * * *"}
    return ScheduleConfig(**(values | changes))


class Cluster:
    """Jobs by id; each id is taken once."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobStatus] = {}
        self.away = False

    def start(self, command: Sequence[str], *, submission_id: str) -> None:
        if self.away:
            raise ClusterError("The cluster does not answer.")
        self.jobs.setdefault(submission_id, "running")

    def status(self, submission_id: str) -> JobStatus:
        return self.jobs.get(submission_id, "unknown")


@pytest.fixture
def states(shared_database: str | None, tmp_path: Path) -> States:
    return States(shared_engine(shared_database, tmp_path))


def steps(
    config: ScheduleConfig, states: States, cluster: Cluster, *, hours: Sequence[float]
) -> list[str]:
    """What is said, looking at these hours after START; jobs end well at once."""
    said: list[str] = []
    for hour in hours:
        step(config, states, cluster, now=START + hour * HOUR, say=said.append)
        for name, status in cluster.jobs.items():
            if status == "running":
                cluster.jobs[name] = "succeeded"
    return said


def test_each_time_starts_one_job(states: States) -> None:
    cluster = Cluster()
    steps(schedule(), states, cluster, hours=[0, 0.5, 1.0, 1.01, 1.5, 2.0, 2.02, 3.0])
    assert list(cluster.jobs) == [f"hourly-{int(START + hour * HOUR)}-1" for hour in (1, 2, 3)]


def test_a_new_schedule_makes_up_for_nothing(states: States) -> None:
    cluster = Cluster()
    steps(schedule(), states, cluster, hours=[5.5])
    assert not cluster.jobs


@pytest.mark.parametrize(("missed", "started"), [("once", [7]), ("skip", [])])
def test_of_the_times_that_were_missed_the_latest_is_made_up_for_or_none(
    states: States, missed: str, started: list[int]
) -> None:
    cluster = Cluster()
    said = steps(schedule(missed=missed), states, cluster, hours=[0, 7.5, 7.6])
    assert list(cluster.jobs) == [f"hourly-{int(START + hour * HOUR)}-1" for hour in started]
    assert ("hourly: started late" in said) == bool(started)


def test_while_a_job_runs_the_next_one_waits_and_then_the_latest_follows(states: States) -> None:
    cluster, say = Cluster(), lambda _: None
    for hour in (0.0, 1.0, 2.0, 3.0):
        step(schedule(), states, cluster, now=START + hour * HOUR, say=say)
    (first,) = cluster.jobs
    cluster.jobs[first] = "succeeded"
    step(schedule(), states, cluster, now=START + 3.01 * HOUR, say=say)
    assert list(cluster.jobs)[1:] == [f"hourly-{int(START + 3 * HOUR)}-1"]


def test_a_failed_job_is_started_again_later_and_later_and_then_no_more(states: States) -> None:
    config = schedule(cron="0 1 23 11 *", retries=2, retry_seconds=600)
    cluster, ended = Cluster(), []
    for minute in range(0, 240, 5):
        before = len(cluster.jobs)
        step(config, states, cluster, now=START + minute * 60, say=lambda _: None)
        if len(cluster.jobs) > before:
            ended.append(minute * 60)
        cluster.jobs = dict.fromkeys(cluster.jobs, "failed")
    base = f"hourly-{int(START + HOUR)}"
    assert list(cluster.jobs) == [f"{base}-1", f"{base}-2", f"{base}-3"]
    first, second = (later - earlier for earlier, later in itertools.pairwise(ended))
    assert first >= 600 and second >= 1200


def test_a_gate_that_refuses_is_no_failure(states: States) -> None:
    cluster, notes = Cluster(), []
    for hour in (0.0, 1.0, 1.5):
        step(
            schedule(),
            states,
            cluster,
            now=START + hour * HOUR,
            say=lambda _: None,
            notify=lambda _, job, status: notes.append(status),
        )
        cluster.jobs = dict.fromkeys(cluster.jobs, "refused")
    assert notes == ["refused"] and len(cluster.jobs) == 1


def test_a_scheduler_that_is_killed_after_submitting_submits_nothing_twice(
    states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster()
    steps(schedule(), states, cluster, hours=[0])
    with monkeypatch.context() as patched:
        patched.setattr(States, "change", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            steps(schedule(), states, cluster, hours=[1])
    steps(schedule(), states, cluster, hours=[1.01, 1.02])
    assert len(cluster.jobs) == 1


def test_many_schedulers_at_once_start_one_job(
    states: States, shared_database: str | None, tmp_path: Path
) -> None:
    cluster = Cluster()
    steps(schedule(), states, cluster, hours=[0])

    def look(_: int) -> None:
        own = States(shared_engine(shared_database, tmp_path))
        step(schedule(), own, cluster, now=START + HOUR, say=lambda _: None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(8)))
    assert len(cluster.jobs) == 1


def test_pausing_starts_nothing_and_resuming_makes_up_for_nothing(states: States) -> None:
    cluster = Cluster()
    steps(schedule(), states, cluster, hours=[0])
    pause(states, "hourly", now=START)
    steps(schedule(), states, cluster, hours=[1, 2])
    assert not cluster.jobs
    resume(states, "hourly", now=START + 2.5 * HOUR)
    steps(schedule(), states, cluster, hours=[2.6, 3.0])
    assert list(cluster.jobs) == [f"hourly-{int(START + 3 * HOUR)}-1"]


def test_a_trigger_starts_now_and_not_beside_a_running_job(states: States) -> None:
    cluster = Cluster()
    first = trigger(schedule(), states, cluster, now=START)
    assert trigger(schedule(), states, cluster, now=START + 60) == first
    assert list(cluster.jobs) == [first]


def test_a_cluster_that_is_away_is_said_once_and_nothing_is_forgotten(states: States) -> None:
    cluster, said, hours = Cluster(), [], iter([0.0, 1.0, 1.01, 1.02, 1.03])
    steps(schedule(), states, cluster, hours=[0])
    cluster.away = True

    def sleep(_: float) -> None:
        cluster.away = len(said) == 0

    run(
        [schedule()],
        states,
        cluster,
        say=said.append,
        now=lambda: START + next(hours) * HOUR,
        sleep=sleep,
        rounds=4,
    )
    assert said == ["hourly: The cluster does not answer. Trying again.", "hourly: started"]


def test_summer_time_leaves_no_night_out_and_counts_none_twice() -> None:
    config = schedule(cron="30 2 * * *", timezone="Europe/Berlin")
    days = [
        datetime.fromtimestamp(time, ZoneInfo("Europe/Berlin")).date()
        for start in ("2026-03-27T12:00", "2026-10-23T12:00")
        for time in itertools.islice(config.times(at(start, "Europe/Berlin")), 4)
    ]
    assert len(days) == len(set(days)) == 8


def test_jitter_is_the_same_for_everybody_and_within_its_bound() -> None:
    config = schedule(jitter_seconds=900)
    offsets = {start_of(config, START + hour * HOUR) - START - hour * HOUR for hour in range(50)}
    assert len(offsets) > 10 and min(offsets) >= 0 and max(offsets) <= 900
    found = upcoming(config, now=START)
    assert due(config, since=START - HOUR, now=found.start) == found


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "ever comes true"),
        ({"timezone": "Europe/Nowhere"}, "no time zone"),
        ({"command": ["up"]}, "starts with one of"),
        ({"retries": 99}, "retries"),
    ],
)
def test_a_wrong_schedule_is_named(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    import yaml

    values = {"name": "x", "command": ["retrain", "s.yaml"], "cron": "0 3 * * 1"} | changes
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"schedules": [values]}))
    with pytest.raises(ConfigError, match=line):
        load_schedules(tmp_path / "s.yaml")


def test_a_name_stands_once(tmp_path: Path) -> None:
    one = "{name: a, command: [retrain, s.yaml], cron: '0 3 * * *'}"
    (tmp_path / "s.yaml").write_text(f"schedules: [{one}, {one}]")
    with pytest.raises(ConfigError, match="'a' twice"):
        load_schedules(tmp_path / "s.yaml")
