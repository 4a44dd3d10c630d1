"""One training whose node is drained under way: two ranks leave with a checkpoint, one goes on, two
again once there is room; and its numbers are those of a process of its own that nothing happened
to. test_preemption.py does it in a search.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from components.config import ExperimentConfig, validate
from components.jobs.events import Evaluated, Event, Left
from components.jobs.job import Job, SlotSettings
from components.jobs.run_jobs import run_one
from tests.faults import harness
from tests.faults.nodes import BUSY, Nodes, nodes_of_a_cluster
from tests.faults.test_preemption import UP_TO_ROUNDING, paused, ranks

pytestmark = pytest.mark.slow


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with nodes_of_a_cluster() as found:
        yield found


class Notices:
    """Takes the node away after the second evaluation, and gives another after the first one that
    was made without it.
    """

    def __init__(self, nodes: Nodes, going: str, storage: Path) -> None:
        self.nodes, self.going, self.storage = nodes, going, storage
        self.evaluations, self.sizes = 0, list[int]()
        self.left: list[Left] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Left):
            self.left.append(event)
        if not isinstance(event, Evaluated) or event.report.evaluation <= self.evaluations:
            return
        self.evaluations, there = event.report.evaluation, ranks()
        if self.evaluations == 2:
            self.sizes.append(len(there))
            with paused(there):
                self.nodes.drain(self.going)
                self.told("about to be taken away")
        elif len(self.sizes) == len(self.left) == 1:
            self.sizes.append(len(there))
            self.nodes.remove(self.going)
            with paused(there):
                self.nodes.add()
                self.told("there is room for 2 workers again")
        elif len(self.sizes) == len(self.left) == 2:
            self.sizes.append(len(there))

    def told(self, reason: str) -> None:
        """Return when the slot has told its workers to leave for this reason."""

        def found() -> bool:
            files = self.storage.glob("logs/slot-*.jsonl")
            lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
            return any(reason in line.get("reason", "") for line in lines)

        harness.until(found, f"the slot did not say: {reason}", seconds=BUSY)


def test_with_fewer_ranks_and_more_again_the_numbers_stay(nodes: Nodes, tmp_path: Path) -> None:
    from components.jobs.same_versions import versions
    from components.jobs.slots import RaySlots, close_slots, start_slots
    from components.tasks import prepare
    from components.training.session import open_session
    from components.training.trial import run_trial
    from components.training.world import join_world

    values, going = harness.toy_search(tmp_path), nodes.add()
    values["training"] |= {"epochs": 30, "micro_batch_size": 2}
    values["optimizer"]["learning_rate"] = 1e-3
    values["cluster"] |= {"num_workers": 2, "min_workers": 1, "placement_timeout_seconds": 900}
    values["cluster"]["progress_timeout_seconds"] = 900  # ranks are paused, and hang not
    config = validate(ExperimentConfig, values)
    train, cache = config.train_config(), Path(config.cluster.cache_path)
    session = open_session(train, join_world(), cache_path=cache)
    data = prepare(train.data, session.tokenizer, tokenizer_id="toy", cache_path=cache)
    alone = run_trial(session, data, train, checkpoint_folder=tmp_path / "alone", ranks=2)
    storage = tmp_path / "storage"
    settings = SlotSettings(train, config.cluster, cache, storage, "", versions(), experiment="toy")
    slots = start_slots(settings, 1)
    notices = Notices(nodes, going, storage)
    workers = RaySlots(slots, timeout_seconds=BUSY)
    job = Job("toy", train, data.folder, storage / "job")
    result = run_one(workers, job, on_event=notices)
    assert result.outcome == "completed" and result.trained is not None, result.reason
    assert notices.sizes == [2, 1, 2]
    assert len(notices.left) == 2 and notices.left[0].step < notices.left[1].step
    found, expected = (
        [each["train/loss"] for each in trained.progress.history]
        for trained in (result.trained, alone)
    )
    assert found == pytest.approx(expected, abs=UP_TO_ROUNDING)
    assert not (job.folder / "flight_record.json").exists(), "nothing failed"
    assert endpoint()["ray_prefixprop_steps_total"] >= len(found)
    close_slots(slots)


def endpoint() -> dict[str, float]:
    """What Ray's metrics endpoint of the head has, by name."""
    import ray

    head = next(node for node in ray.nodes() if "node:__internal_head__" in node["Resources"])
    place = f"http://{head['NodeManagerAddress']}:{head['MetricsExportPort']}/metrics"
    with urlopen(place, timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    values = [line for line in lines if "{" in line and not line.startswith("#")]
    return {line.partition("{")[0]: float(line.split()[-1]) for line in values}
