"""The runs of a large search in MLflow's own pages, in Debian's browser."""

import time
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.jobs.events import Evaluated, Trained
from components.jobs.run_names import trial_name
from components.jobs.run_writer import RunWriter
from components.jobs.trial import make_trial
from components.registry import Tracker, open_tracker
from components.training.outcomes import Progress, Report
from pipelines.run_params import point_params
from pipelines.search_views import best_first, views_of
from tests.browser.reader import Reader, browser, chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no chromium: apt-get install chromium"),
]
TRIALS = 200
LAW = "large"
CONFIG = validate(
    ExperimentConfig,
    {
        "name": LAW,
        "backbone": {"name_or_path": "x", "family": "longformer"},
        "data": {"files": {"train": "a.jsonl"}},
        "search": {
            "num_trials": TRIALS,
            "space": {
                "adapter.prefix_length": {"choice": [4, 8]},
                "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-1]},
            },
        },
    },
)


@pytest.fixture(scope="module")
def tracker(mlflow_server: str) -> Tracker:
    """A store with one search of two hundred trials; the later, the better."""
    found = open_tracker("mlflow", mlflow_server)
    found.ensure_experiment(LAW, "two hundred trials")
    found.save_views(LAW, views_of(CONFIG))
    run_id = found.start_run(LAW, run_name="search", config={}, params={}, tags={"kind": "search"})
    writer = RunWriter(found, run_id)
    for number in range(TRIALS):
        _written(writer, number)
    return found


def _written(writer: RunWriter, number: int) -> None:
    point = {
        "adapter.prefix_length": (4, 8)[number % 2],
        "optimizer.learning_rate": 1e-4 * 1.03**number,
    }
    trial = make_trial(CONFIG, point, folder=Path("folder"))
    name, value = f"trial-{number:03d}", number / TRIALS
    writer.start(
        name,
        trial,
        name=name,
        title=trial_name(name, point),
        params=point_params(point),
        tags={"search_id": "s1"},
    )
    metrics = {CONFIG.training.metric: value, "train/loss": 1.0, "tokens": 100.0}
    report = Report(1, 10, metrics, is_best=True, done=True, trainable_parameters=5)
    progress = Progress(step=10, tokens=100, seconds=1.0)
    told = Trained(name, "completed", "all steps done", progress, 5, None)
    writer.take(name, [Evaluated(name, report), told])
    writer.end(name, "completed", "all steps done")


@pytest.fixture
def reader(tracker: Any, tmp_path: Path) -> Any:
    with browser() as page:
        found = Reader(page, tmp_path)
        found.open(f"{tracker.tracking_uri}/")  # its scripts are in the cache from now on
        found.sees("Experiments")
        yield found


def test_two_hundred_trials_open_with_the_best_first(tracker: Tracker, reader: Reader) -> None:
    started = time.monotonic()
    reader.open(tracker.view_url(LAW, best_first(CONFIG)))
    reader.page.get_by_text("199 P=8", exact=False).first.wait_for()
    print(f"{TRIALS} trials: rows after {time.monotonic() - started:.2f} s")
    rows = reader.rows(at_least=20)
    trials = [row for row in rows if " P=" in row]
    assert trials[0].startswith("199 P=8 "), rows[:3]
    assert " 0.995 " in trials[0] and " completed " in trials[0]


def test_every_view_stands_in_the_menu(tracker: Tracker, reader: Reader) -> None:
    reader.open(tracker.experiment_url(LAW))
    reader.click_role("button", "Views")
    for view in views_of(CONFIG):
        reader.page.get_by_role("menuitem", name=view.name).wait_for()
