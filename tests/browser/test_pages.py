"""What a newcomer reads off MLflow's pages by clicking alone, from the root page on."""

import re
from typing import Any

import pytest

from components.registry import code_version, open_tracker
from tests.browser.plant import DIVERGED, EXPERIMENT, LOST, Plant
from tests.browser.reader import Reader
from tests.runs import against_the_axis

pytestmark = pytest.mark.slow
OUTCOMES = {DIVERGED: "diverged", LOST: "lost"}


def best_of(report: dict[str, Any]) -> dict[str, Any]:
    return next(trial for trial in report["trials"] if trial["name"] == report["best_trial"])


def run_name(trial: dict[str, Any]) -> str:
    """How the name of a trial's run begins."""
    number = trial["name"].removeprefix("trial-")
    return f"{number} P={trial['point']['adapter.prefix_length']} lr="


def to_the_runs(reader: Reader) -> list[str]:
    """The names of the searches, the latest first."""
    reader.click_role("link", EXPERIMENT)
    rows = reader.rows(at_least=2)
    return [match[0] for row in rows if (match := re.match(r"search \d+ \w+ \d+:\d+", row))]


def to_the_latest_search(reader: Reader) -> None:
    reader.click(to_the_runs(reader)[0])
    reader.sees("Best trial:")


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def test_the_root_page_leads_to_the_searches(reader: Reader, searched: Plant) -> None:
    assert len(to_the_runs(reader)) == 2
    reader.look("1-searches")


def test_a_row_tells_settings_metric_outcome_and_cost(reader: Reader, searched: Plant) -> None:
    to_the_runs(reader)
    reader.click_role("button", "Views")
    reader.click_role("menuitem", "Trials, best first")
    rows = [row for row in reader.rows(at_least=10) if " P=" in row]
    reader.look("2-trials")
    reports = (searched.disturbed, searched.finished)
    for report in sorted(reports, key=lambda each: best_of(each)["best_metrics"][each["metric"]]):
        shown, rows = rows[: len(report["trials"])], rows[len(report["trials"]) :]
        for trial in report["trials"]:
            (row,) = (row for row in shown if row.startswith(run_name(trial)))
            assert f" {trial['outcome']} " in row and f" {trial['tokens']} " in row, row
            assert f" {trial['point']['optimizer.learning_rate']:g} " in row
        best = best_of(report)
        assert shown[0].startswith(run_name(best)) and " - best " in shown[0]
        assert f" {best['best_metrics'][report['metric']]:.4g} " in shown[0]
    outcomes = {trial["name"]: trial["outcome"] for trial in searched.disturbed["trials"]}
    assert OUTCOMES.items() <= outcomes.items()


def test_learning_curves_and_costs_are_drawn_ready_made(reader: Reader, searched: Plant) -> None:
    to_the_runs(reader)
    for view, chart in (("Learning curves", "train/loss"), ("Cost and quality", "best_nll")):
        reader.click_role("button", r"Views|Learning curves")
        reader.click_role("menuitem", view)
        reader.sees("best_nll")
        reader.click_charts()
        reader.sees(re.escape(chart))
        reader.look(f"3-{view.lower().replace(' ', '-')}")


def test_a_search_tells_what_came_out(reader: Reader, searched: Plant) -> None:
    report = searched.disturbed
    to_the_latest_search(reader)
    reader.look("4-search")
    text, best = reader.text(), best_of(report)
    for told in (
        run_name(best),
        f"{report['model_name']} version {report['model_version']}",
        f"{percent(report['metrics']['test/accuracy'])}% (95% interval "
        f"{percent(report['metrics']['test/accuracy_low'])} to "
        f"{percent(report['metrics']['test/accuracy_high'])})",
        f"The champion is still version {report['promotion']['previous']}",
        report["promotion"]["action"],
        f"{sum(trial['tokens'] for trial in report['trials']):,} tokens",
        report["data_fingerprint"][:12],
        code_version()[:7],
    ):
        assert told in text, (told, text)


def test_the_report_opens_in_the_viewer_of_artifacts(reader: Reader, searched: Plant) -> None:
    to_the_latest_search(reader)
    reader.click_role("tab", "Artifacts")
    reader.click("report.html")
    frame = reader.page.frame_locator("iframe")
    frame.get_by_text("Best trial", exact=False).first.wait_for()
    reader.look("5-report")


def test_a_trial_opens_on_its_curves(reader: Reader, searched: Plant) -> None:
    to_the_latest_search(reader)
    best = best_of(searched.disturbed)
    reader.click(reader.sees(re.escape(f"{run_name(best)}") + r".* - best"))
    reader.click_role("tab", "Model metrics")
    reader.sees("train")
    reader.look("6-trial")
    sections = re.findall(r"\b(train|validation|test)\b \(\d+\)", reader.text())
    assert sections[:2] == ["train", "validation"] and "test" not in sections


def test_a_version_s_page_is_its_card(reader: Reader, searched: Plant) -> None:
    report = searched.disturbed
    reader.click_role("link", "Model registry")
    reader.click_role("link", report["model_name"])
    champion = reader.sees(r"Champion: version 1\.")
    assert percent(searched.finished["metrics"]["test/accuracy"]) in champion
    assert "first" in reader.text() and report["promotion"]["action"] in reader.text()
    reader.look("7-model")
    reader.click("Version 2")
    first = reader.sees(r"Test accuracy \d")
    reader.look("8-version")
    assert percent(report["metrics"]["test/accuracy"]) in first
    assert "champion version 1" in first and "majority class 25.0%" in first
    text = reader.text()
    for told in ("Gate: ", "calibration", "backbone", "licence", "mlflow.pyfunc.load_model"):
        assert told in text, (told, text)


def test_every_metric_of_every_run_has_each_step_once_and_in_order(searched: Plant) -> None:
    tracker: Any = open_tracker("mlflow", searched.tracking_uri)
    assert against_the_axis(tracker.client, EXPERIMENT) == []


def test_the_trial_that_was_interrupted_says_so(searched: Plant) -> None:
    first, *_ = searched.disturbed["trials"]
    tracker = open_tracker("mlflow", searched.tracking_uri)
    assert tracker.run_tags(first["run_id"])["resumed"] == "true"
