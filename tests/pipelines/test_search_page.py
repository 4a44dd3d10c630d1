"""What a search's run shows, from the trials and the final evaluation."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.data.prepared import DataReport, SplitReport
from components.jobs.summary import TrialSummary
from components.registry import RegisteredAdapter
from components.registry.memory_tracker import MemoryTracker
from components.training.outcomes import FinalEvaluation
from components.tuning.search_folder import SearchFolder
from pipelines import search_page
from pipelines.reports import PromotionReport
from pipelines.running_search import Search, Trials
from pipelines.search_note import MOST_ROWS, search_note, search_title
from pipelines.version_card import headline_of, version_card

METRIC = "validation/accuracy"
CONFIG = validate(
    ExperimentConfig,
    {
        "name": "law",
        "description": "what it is about",
        "backbone": {"name_or_path": "x", "family": "longformer"},
        "data": {"files": {"train": "a.jsonl"}},
        "search": {"space": {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-1]}}},
    },
)
SPLIT = SplitReport(
    documents=9,
    labels={"a": 9},
    repeated=0,
    tokens=90,
    median_tokens=10,
    p95_tokens=12,
    truncated=0,
    share_of_tokens_cut=0.0,
)
REPORT = DataReport(
    splits={"train": SPLIT, "validation": SPLIT, "test": SPLIT},
    dropped={},
    first_dropped=(),
    seconds=1.0,
    cached=False,
)
TEST = {"accuracy": 0.8, "accuracy_low": 0.6, "accuracy_high": 0.9, "majority_accuracy": 0.25}


def trial(number: int, value: float | None, outcome: str) -> TrialSummary:
    metrics = {} if value is None else {METRIC: value, "tokens": 100.0 * number, "seconds": 1.0}
    return TrialSummary(
        name=f"trial-{number:03d}",
        point={"optimizer.learning_rate": 1e-3 * (number + 1)},
        config_sha256="ab" * 32,
        folder="folder",
        run_id="",
        outcome=outcome,
        evaluations=0 if value is None else 1,
        step=10,
        best_evaluation=0 if value is None else 1,
        best_metrics=metrics,
        rungs=() if value is None else ((1, 10, value),),
        history=() if value is None else (metrics,),
        tokens=100 * number,
        seconds=2.0,
    )


def searched(tmp_path: Path) -> tuple[Search, Trials, FinalEvaluation]:
    """A search of four trials in memory, of which the third is the best."""
    tracker = MemoryTracker()
    tracker.ensure_experiment("law", "")
    run_id = tracker.start_run("law", run_name="search", config={}, params={}, tags={})
    told = ((0, 0.5, "stopped"), (1, None, "diverged"), (2, 0.75, "completed"), (3, 0.7, "lost"))
    trials = tuple(
        replace(each, run_id=tracker.start_child(run_id, name=each.name, params={}, tags={}))
        for each in (trial(*each) for each in told)
    )
    data: Any = SimpleNamespace(report=REPORT, fingerprint="cd" * 32, labels=("a", "b"))
    folder = SearchFolder(str(tmp_path), "20261128-103455-ab12", "ab" * 32, run_id)
    running = Search(CONFIG, tracker, folder, run_id, data, (), command="prefixprop search law")
    (tmp_path / "adapter").mkdir()
    final = FinalEvaluation(
        folder=tmp_path / "adapter",
        metrics={f"test/{name}": value for name, value in TEST.items()}
        | {"test/ece": 0.2, "test_calibrated/ece": 0.1},
        calibration={"temperature": 1.5},
        reliability=None,
        by_length=(),
        trainable_parameters=1234,
        head_parameters=34,
        seconds_per_document=0.02,
    )
    return running, Trials(trials, trials[2]), final


REGISTERED = RegisteredAdapter("law", 3, "challenger", "models:/law/3", "m-1")
HELD = PromotionReport("law", 3, 2, "", "", action="held", reason="not better", moved=False)


def run_of(running: Search, run_id: str = "") -> Any:
    assert isinstance(running.tracker, MemoryTracker)
    return running.tracker.runs[run_id or running.run_id]


def test_a_search_shows_what_came_out(tmp_path: Path) -> None:
    running, trials, final = searched(tmp_path)
    search_page.show(running, trials, final, REGISTERED, HELD)
    run = run_of(running)
    assert {"report.html", "pictures/learning_curves.png"} <= set(run.files)
    for told in (
        "**002 lr=3e-3** (best_accuracy 0.75)",
        "**law version 3**, now challenger",
        "80.0% (95% interval 60.0 to 90.0)",
        "**held**: not better",
        "The champion is still version 2",
        "Lost with their workers: 003 lr=4e-3",
        "600 tokens in 4 trials",
        "`prefixprop search law`",
        "learning_rate: 0.0001 to 0.1 (log)",
        "cdcdcdcdcdcd",
    ):
        assert told in run.description, (told, run.description)
    assert run.metrics["tokens"] == [(0, 600.0)] and run.metrics["seconds"] == [(0, 8.0)]
    names = [run_of(running, each.run_id).name for each in trials.summaries]
    assert names[2] == "002 lr=3e-3 - best" and "best" not in "".join(names[:2])
    colours = [run_of(running, each.run_id).tags["mlflow.runColor"] for each in trials.summaries]
    assert colours[2] != colours[0]


def test_the_leaderboard_is_best_first_and_what_gave_no_adapter_comes_last(tmp_path: Path) -> None:
    running, trials, _ = searched(tmp_path)
    text = search_note(CONFIG, running.data, trials.summaries, first_lines=[], command="")
    rows = [line.split("&emsp;")[1].strip(" |") for line in text.splitlines() if " lr=" in line]
    assert rows == ["002 lr=3e-3", "000 lr=1e-3", "003 lr=4e-3", "001 lr=2e-3"]
    many = [trial(number, 0.5, "completed") for number in range(MOST_ROWS + 3)]
    text = search_note(CONFIG, running.data, many, first_lines=[], command="")
    assert "... and 3 more" in text and len(text) < 5000


def test_the_best_is_told_before_it_is_evaluated(tmp_path: Path) -> None:
    running, trials, _ = searched(tmp_path)
    search_page.note_best(running, trials)
    run = run_of(running)
    assert run.tags["best_trial"] == "trial-002" and run.metrics["best_accuracy"] == [(0, 0.75)]
    assert "Not registered yet" in run.description


def test_pictures_that_cannot_be_drawn_do_not_cost_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(page: Any) -> Any:
        raise ValueError("no such colour")

    monkeypatch.setitem(search_page.PICTURES, "learning_curves.png", broken)
    running, trials, final = searched(tmp_path)
    with pytest.warns(UserWarning, match="no such colour"):
        search_page.show(running, trials, final, REGISTERED, HELD)
    run = run_of(running)
    assert "could not be drawn: ValueError: no such colour" in run.description
    assert "report.html" not in run.files and run.metrics["tokens"] == [(0, 600.0)]


def test_a_version_s_card_says_what_has_to_be_known(tmp_path: Path) -> None:
    running, trials, final = searched(tmp_path)
    first = headline_of(running, trials.best, final)
    assert first.startswith(
        "Test accuracy 80.0% (95% interval 60.0 to 90.0), majority class 25.0%, calibrated (ECE "
        "0.100), "
    )
    card = version_card(running, trials.best, final)
    for told in (
        "2 classes (`a`, `b`)",
        "9 train, 9 validation, 9 test",
        "temperature 1.5, fitted on validation documents; ECE on test documents 0.200 before, "
        "0.100 after",
        "1,234 trained (34 of them the head's)",
        "20 ms a test document",
        "licence not stated beside its weights",
        "documents are cut at 1,024 tokens",
        'mlflow.pyfunc.load_model("models:/law@champion")',
        "accuracy_low",
    ):
        assert told in card, (told, card)


def test_a_search_is_called_by_its_time() -> None:
    assert search_title("20261128-103455-ab12") == "search 28 Nov 10:34"
    assert search_title("odd") == "search odd"


def test_a_page_is_json_able(tmp_path: Path) -> None:
    from dataclasses import asdict

    running, trials, final = searched(tmp_path)
    page = search_page.search_page(running, trials, final, REGISTERED, HELD)
    assert json.loads(json.dumps(asdict(page)))["registered"] == "law version 3"
