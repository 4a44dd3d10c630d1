"""A whole search whose trials are trained side by side in one slot, through Ray Tune with ASHA:
what each trial computed, and the champion, are those of the search that trains one at a time.

ASHA asks who is ahead at the moment, so which trials are stopped, and when, may differ.
"""

import copy
import itertools
import json
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.components.tuning.drive import Driver, start_driver
from tests.faults.harness import SLOT, WORKER, kill, local_cluster, seconds_until_replaced
from tests.runs import computed
from tests.toy import make_experiment

pytestmark = pytest.mark.slow
ROUNDING = 1e-4
"""Float32 sums in another order, over up to 300 steps of AdamW."""
SIDE_BY_SIDE, EPOCHS = 3, 50
"""The first trial is at work until Tune's other actors have started, which takes as long as ten
short trials; until then Tune gives each next one to the actor that came free.
"""
RATES = (3e-3, 1e30, 1e-2, 1e-5)
DIVERGES = 1e30


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster that ends with this module."""
    with local_cluster() as address:
        yield address


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from tests.conftest import build_tiny_longformer

    folder = tmp_path_factory.mktemp("toy")
    values = make_experiment(
        folder,
        build_tiny_longformer(initializer_range=0.2),
        **{"head.pooling": "last", "adapter.placement": "one_way"},
    )
    values["optimizer"]["eps"] = 1e-4
    values["training"] |= {
        "epochs": EPOCHS,
        "metric": "validation/nll",
        "mode": "min",
        "text_states": "kept",
    }
    values["search"] = {
        "searcher": "grid",
        "trial_scheduler": "asha",
        "asha": {"reduction_factor": 2},
        "reuse_trials": False,
        "space": {
            "optimizer.learning_rate": {"choice": list(RATES)},
            "adapter.prefix_length": {"choice": [4, 2]},
        },
    }
    values["registry"] = {"kind": "memory"}
    return values


def started(
    folder: Path,
    toy: dict[str, Any],
    name: str,
    *,
    cluster: str,
    uri: str,
    beside: int,
    **also: Any,
) -> Driver:
    values = copy.deepcopy(toy) | {"name": name, **also}
    values["search"]["trials_per_slot"] = beside
    return start_driver(folder, name, address=cluster, tracking_uri=uri, values=values)


@pytest.fixture(scope="module")
def reports(
    cluster: str, toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, dict[str, Any]]:
    """By the number of trials in the slot."""
    folder = tmp_path_factory.mktemp("searches")
    found = {}
    for beside in (1, SIDE_BY_SIDE):
        driver = started(
            folder, toy, f"beside-{beside}", cluster=cluster, uri="memory://", beside=beside
        )
        found[beside] = driver.report() | {"events": driver.events()}
    return found


def best_point(report: dict[str, Any]) -> Any:
    (best,) = (each for each in report["trials"] if each["name"] == report["best_trial"])
    return best["point"]


def by_point(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {json.dumps(trial["point"], sort_keys=True): trial for trial in report["trials"]}


def assert_same_numbers(trial: dict[str, Any], other: dict[str, Any]) -> int:
    """As far as both were trained; how many evaluations that are."""
    shared = min(len(trial["rungs"]), len(other["rungs"]))
    for one, two in zip(trial["rungs"][:shared], other["rungs"][:shared], strict=True):
        assert one == pytest.approx(two, rel=ROUNDING, abs=ROUNDING)
    if trial["step"] == other["step"] and trial["outcome"] == other["outcome"]:
        last, others = computed(trial["metrics"]), computed(other["metrics"])
        assert last == pytest.approx(others, rel=ROUNDING, abs=ROUNDING)
    return shared


def test_every_trial_has_the_numbers_that_it_has_alone(reports: dict[int, Any]) -> None:
    alone, together = by_point(reports[1]), by_point(reports[SIDE_BY_SIDE])
    assert set(alone) == set(together) and len(alone) == 2 * len(RATES)
    for point, trial in together.items():
        diverges = json.loads(point)["optimizer.learning_rate"] == DIVERGES
        shared = assert_same_numbers(trial, alone[point])
        assert diverges or shared >= 1
        outcomes = {trial["outcome"], alone[point]["outcome"]}
        assert outcomes == {"diverged"} if diverges else outcomes <= {"completed", "stopped"}


def test_the_champion_is_the_same(reports: dict[int, Any]) -> None:
    alone, together = reports[1], reports[SIDE_BY_SIDE]
    assert best_point(together) == best_point(alone)
    assert together["metrics"] == pytest.approx(alone["metrics"], rel=1e-4, abs=1e-4)
    assert together["model_version"] == 1


def test_each_trial_has_one_run(reports: dict[int, Any]) -> None:
    runs = [trial["run_id"] for trial in reports[SIDE_BY_SIDE]["trials"]]
    assert len(set(runs)) == len(runs) == 2 * len(RATES)


def test_trials_were_at_work_at_the_same_time(reports: dict[int, Any]) -> None:
    """Between the first and the last evaluation of one there are evaluations of others."""
    names = [event["name"] for event in reports[SIDE_BY_SIDE]["events"]]
    switches = sum(one != other for one, other in itertools.pairwise(names))
    alone = [event["name"] for event in reports[1]["events"]]
    assert switches > sum(one != other for one, other in itertools.pairwise(alone))


def test_an_interrupted_one_goes_on_with_all_its_trials(
    cluster: str, toy: dict[str, Any], reports: dict[int, Any], tmp_path: Path
) -> None:
    where: dict[str, Any] = {"cluster": cluster, "uri": f"sqlite:///{tmp_path}/mlflow.db"}
    kept = {"registry": {"kind": "mlflow"}}
    first = started(tmp_path, toy, "interrupted", beside=SIDE_BY_SIDE, **where, **kept)
    first.wait_for(lambda seen: len({e["name"] for e in seen if e["evaluations"]}) >= 2)
    first.process.send_signal(signal.SIGINT)
    assert first.wait() == 130, first.log()
    again = start_driver(
        tmp_path, "interrupted", address=cluster, tracking_uri=where["uri"], resume=True
    )
    resumed, alone = by_point(again.report()), by_point(reports[1])
    assert set(resumed) == set(alone)
    for point, trial in resumed.items():
        assert_same_numbers(trial, alone[point])


def test_a_slot_that_is_killed_takes_none_of_its_trials_with_it(
    cluster: str, toy: dict[str, Any], reports: dict[int, Any], tmp_path: Path
) -> None:
    """Its worker first, then the slot's actor: each time all the trials in it go on elsewhere."""
    driver = started(tmp_path, toy, "killed", cluster=cluster, uri="memory://", beside=SIDE_BY_SIDE)
    for kind, evaluations in ((WORKER, 2), (SLOT, 12)):
        driver.wait_for(partial(two_at_work, evaluations=evaluations))
        seconds_until_replaced(kind, kill(kind))
    report = driver.report()
    killed, alone = by_point(report), by_point(reports[1])
    assert report["lost_trials"] == [] and set(killed) == set(alone)
    for point, trial in killed.items():
        assert_same_numbers(trial, alone[point])
        assert trial["outcome"] != "running"


def two_at_work(events: list[dict[str, Any]], evaluations: int) -> bool:
    """Whether two trials have told so many evaluations, and neither has ended."""
    told: dict[str, int] = {}
    for event in events:
        told[event["name"]] = event["evaluations"] if event["outcome"] == "running" else 0
    return sum(count >= evaluations for count in told.values()) >= 2
