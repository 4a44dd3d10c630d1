"""What comes next in a comparison, and what a restart knows. No training here: results are written
by hand.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.config import validate
from components.config.comparison import ComparisonConfig
from components.errors import ArtifactError
from components.evaluation import ReliabilityDiagram
from components.jobs.record import JobRecord
from components.training.outcomes import FinalEvaluation, Progress
from pipelines.comparison.cells import Cell
from pipelines.comparison.schedule import Schedule

POINTS = [{"optimizer.learning_rate": 0.01}, {"optimizer.learning_rate": 0.001}]
VALUES: dict[str, Any] = {
    "name": "toy",
    "base": {
        "backbone": {"name_or_path": "x", "family": "longformer"},
        "data": {"files": {"train": "a.jsonl"}},
    },
    "tasks": {"a": {}, "b": {"data": {"max_tokens": 512}}},
    "methods": {
        "propagation": {"adapter": {"method": "prefix_propagation"}, "points": POINTS},
        "head": {"adapter": {"method": "head_only"}, "points": POINTS},
    },
    "search": {"points": 2, "seed": 1},
    "seeds": [1, 2],
}
FINAL = FinalEvaluation(
    folder=Path("adapter"),
    metrics={"test/accuracy": 0.5},
    calibration={},
    reliability=ReliabilityDiagram((1,), (0.5,), (0.5,), 0.0),
    by_length=(),
    trainable_parameters=4,
    head_parameters=3,
)


def schedule(root: Path, fingerprint: str = "f", **changes: Any) -> Schedule:
    config = validate(ComparisonConfig, VALUES | changes)
    data = {
        task: SimpleNamespace(fingerprint=f"{fingerprint}-{task}", folder=Path("data") / task)
        for task in config.tasks
    }
    return Schedule(config, data, root)


def done(cell: Cell, accuracy: float = 0.5, outcome: str = "completed") -> JobRecord:
    final = FINAL if cell.final and outcome == "completed" else None
    metrics = {"validation/accuracy": accuracy, "validation/nll": accuracy}
    return JobRecord(
        cell.identity,
        outcome,
        "told by hand",
        progress=Progress(best_metrics=metrics, history=(metrics,)),
        final=final,
    )


def work_off(
    found: Schedule,
    *,
    accuracy: dict[float, float] | None = None,
    outcomes: dict[float, str] | None = None,
) -> list[Cell]:
    """Do all cells in order, one at a time; accuracies and outcomes by learning rate."""
    order = []
    while (cell := found.next_cell()) is not None:
        rate = cell.trial.point["optimizer.learning_rate"]
        found.ended(
            cell,
            done(cell, (accuracy or {}).get(rate, 0.5), (outcomes or {}).get(rate, "completed")),
        )
        order.append(cell)
    return order


def test_seeds_come_after_their_own_search_and_at_its_best_point(tmp_path: Path) -> None:
    order = work_off(schedule(tmp_path), accuracy={0.01: 0.6, 0.001: 0.7})
    first = [
        (cell.task, cell.method, cell.trial.point["optimizer.learning_rate"], cell.seed, cell.final)
        for cell in order[:4]
    ]
    assert first == [
        ("a", "propagation", 0.01, 1, False),
        ("a", "propagation", 0.001, 1, False),
        ("a", "propagation", 0.001, 1, True),
        ("a", "propagation", 0.001, 2, True),
    ]
    assert len(order) == 2 * 2 * (2 + 2)


def test_a_metric_to_be_minimised_chooses_the_smallest(tmp_path: Path) -> None:
    training = {"training": {"metric": "validation/nll"}}
    found = schedule(tmp_path, base=VALUES["base"] | training)
    work_off(found, accuracy={0.01: 0.6, 0.001: 0.7})
    assert found.chosen("a", "head") == {"optimizer.learning_rate": 0.01}


def test_no_cell_is_given_out_twice_at_once(tmp_path: Path) -> None:
    found = schedule(tmp_path)
    given = []
    while (cell := found.next_cell()) is not None:
        given.append(cell.key)
    assert len(given) == len(set(given)) == 8  # all searches; no seed is known to be wanted yet


def test_a_search_training_is_the_final_one_where_settings_are_equal_and_not_where_they_differ(
    tmp_path: Path,
) -> None:
    same = schedule(tmp_path)
    work_off(same)
    keys = {cell.key for cell in same.search_cells("a", "head")}
    assert [cell.key in keys for cell in same.final_cells("a", "head")] == [True, False]
    other = schedule(
        tmp_path, search={"points": 2, "seed": 1, "settings": {"training": {"epochs": 1}}}
    )
    work_off(other)
    keys = {cell.key for cell in other.search_cells("a", "head")}
    assert not any(cell.key in keys for cell in other.final_cells("a", "head"))


def test_a_restart_knows_what_was_done(tmp_path: Path) -> None:
    found = schedule(tmp_path)
    for _ in range(3):
        cell = found.next_cell()
        assert cell is not None
        found.ended(cell, done(cell))
    again = schedule(tmp_path)
    assert again.records == found.records
    assert len(work_off(again)) == 16 - 3
    assert work_off(schedule(tmp_path)) == []
    assert schedule(tmp_path).counts() == (16, 16)


@pytest.mark.parametrize(
    "change", [{"fingerprint": "other"}, {"base": VALUES["base"] | {"head": {"pooling": "mean"}}}]
)
def test_other_documents_or_settings_are_other_cells(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    work_off(schedule(tmp_path))
    assert len(work_off(schedule(tmp_path, **change))) == 16


def test_a_change_of_one_task_touches_its_cells_alone(tmp_path: Path) -> None:
    work_off(schedule(tmp_path))
    order = work_off(schedule(tmp_path, tasks={"a": {}, "b": {"data": {"max_tokens": 256}}}))
    assert {cell.task for cell in order} == {"b"} and len(order) == 8


def test_a_point_that_diverged_is_not_chosen_and_not_tried_again(tmp_path: Path) -> None:
    found = schedule(tmp_path)
    work_off(found, outcomes={0.01: "diverged"})
    assert found.chosen("a", "head") == {"optimizer.learning_rate": 0.001}
    assert work_off(schedule(tmp_path)) == []


def test_a_method_whose_points_all_diverged_has_no_seeds_and_stops_no_other(tmp_path: Path) -> None:
    found = schedule(tmp_path)
    order = work_off(found, outcomes={0.01: "diverged", 0.001: "diverged"})
    assert found.chosen("a", "head") is None and len(order) == 8
    assert found.counts() == (8, 8)


def test_nothing_is_chosen_while_a_point_is_lost(tmp_path: Path) -> None:
    """It might have been the best one; the next run tries it again and chooses then."""
    found = schedule(tmp_path)
    order = work_off(found, outcomes={0.01: "lost"})
    assert not any(cell.final for cell in order)
    assert found.chosen("a", "head") is None
    assert "points were lost" in found.problems("a", "head")[0]
    again = schedule(tmp_path)
    points = [cell.trial.point for cell in work_off(again) if not cell.final]
    assert points == [POINTS[0]] * 4 and again.chosen("a", "head") is not None


def test_damaged_answers_are_made_anew(tmp_path: Path) -> None:
    work_off(schedule(tmp_path))
    cell = schedule(tmp_path).final_cells("a", "head")[0]
    (cell.trial.folder / "predictions.npz").write_bytes(b"PK no archive")
    (again,) = work_off(schedule(tmp_path))
    assert again.key == cell.key and not again.job(schedule(tmp_path).records[cell.key]).train


def test_a_failed_cell_is_left_alone_in_this_run_and_tried_again_by_the_next(
    tmp_path: Path,
) -> None:
    found = schedule(tmp_path)
    work_off(found, outcomes={0.01: "failed"})
    assert found.next_cell() is None
    order = work_off(schedule(tmp_path))
    assert {cell.trial.point["optimizer.learning_rate"] for cell in order if not cell.final} == {
        0.01
    }


def test_a_point_whose_test_evaluation_failed_stays_the_chosen_one(tmp_path: Path) -> None:
    """The search's training is the first seed's: what becomes of its evaluation must not move the
    choice, which is made on validation documents.
    """
    found = schedule(tmp_path)
    work_off(found, accuracy={0.01: 0.7, 0.001: 0.6})
    best = found.search_cells("a", "head")[0]
    found.ended(best, replace(done(best, 0.7), outcome="failed"))
    assert found.chosen("a", "head") == {"optimizer.learning_rate": 0.01}


def test_a_search_that_lost_a_point_is_told_beside_its_results(tmp_path: Path) -> None:
    """The choice was then of fewer points than the other methods had."""
    found = schedule(tmp_path)
    work_off(found)
    assert found.problems("a", "head") == []
    lost = found.search_cells("a", "head")[1]
    found.ended(lost, JobRecord(lost.identity, "failed", "the worker died"))
    assert found.problems("a", "head") == [
        "search point optimizer.learning_rate = 0.001: failed, the worker died"
    ]


def test_another_number_of_workers_makes_other_cells(tmp_path: Path) -> None:
    """The same micro-batch on two workers is a step of twice as many documents."""
    one, two = schedule(tmp_path), schedule(tmp_path, cluster={"num_workers": 2})
    work_off(one)
    assert two.next_cell() is not None and not two.records


def test_a_training_without_its_test_evaluation_is_not_done(tmp_path: Path) -> None:
    found = schedule(tmp_path)
    work_off(found)
    cell = found.final_cells("a", "head")[0]
    assert not cell.is_covered_by(replace(found.records[cell.key], final=None))


def test_a_damaged_record_says_what_to_do(tmp_path: Path) -> None:
    found = schedule(tmp_path)
    cell = found.next_cell()
    assert cell is not None
    found.ended(cell, done(cell))
    (cell.trial.folder / "record.json").write_text("{")
    with pytest.raises(ArtifactError, match="Remove its folder to run this training again"):
        schedule(tmp_path)
