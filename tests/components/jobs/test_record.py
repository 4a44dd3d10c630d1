"""The record of a training: written and read back equal, older files read too; one rule for when a
training is the same as another.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.errors import ArtifactError
from components.evaluation import LengthBucket, ReliabilityDiagram
from components.jobs.record import Identity, JobRecord, read_record, write_record
from components.jobs.resume import is_same_training, reuse
from components.training.outcomes import FinalEvaluation, Progress

SHA = "0123456789abcdef" * 4
KEY = SHA[:16]
IDENTITY = Identity(SHA, 8, "documents", "code")
METRICS = {"validation/accuracy": 0.5, "gradient_norm": 2.0, "step": 3.0}
DIAGRAM = ReliabilityDiagram((1, 0), (0.5, None), (0.4, None), 0.1)
FINAL = FinalEvaluation(
    folder=Path("/somewhere/adapter"),
    metrics={"test/accuracy": 0.5},
    calibration={"temperature": 1.5},
    reliability=DIAGRAM,
    by_length=(LengthBucket(1, 9, 3, *(0.5 for _ in range(11))),),
    trainable_parameters=10,
    head_parameters=4,
)
OF_NOW = replace(
    FINAL,
    reliability=replace(DIAGRAM, ece_if_calibrated=0.2, uncalibrated=DIAGRAM),
    by_length=(replace(FINAL.by_length[0], cut=1, cut_at=8),),
)
RECORD = JobRecord(
    IDENTITY,
    "completed",
    "all steps done",
    run_id="run-1",
    progress=Progress(3, 100, 2.0, 1, 1, METRICS, (METRICS,)),
    trainable_parameters=10,
    peak_memory_bytes=1 << 20,
    final=FINAL,
    about={"trial": "trial-000"},
)


def trained(experiment: Path, search: str, record: JobRecord | None = RECORD) -> Path:
    folder = experiment / search / "trials" / KEY
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "state.json").write_text(search)
    if record is not None:
        write_record(folder, record, config={})
    return folder


def old_trial_file(folder: Path, **changes: Any) -> None:
    """As commit befcae5 wrote it."""
    values = {
        "run_id": "run-old",
        "outcome": "completed",
        "train_batch_size": 8,
        "data_fingerprint": "documents",
        "code_fingerprint": "code",
    }
    (folder / "trial.json").write_text(json.dumps(values | changes, indent=2))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    without = replace(FINAL, reliability=None, by_length=())
    for record in (
        RECORD,
        replace(RECORD, final=OF_NOW),
        replace(RECORD, final=without),
        replace(RECORD, final=None, peak_memory_bytes=None),
    ):
        write_record(tmp_path, record, config={"seed": 1})
        assert read_record(tmp_path) == record
    assert read_record(tmp_path / "none") is None


def test_a_record_of_before_cuts_and_calibration_were_told_is_read(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD, config={})
    file = tmp_path / "record.json"
    values = json.loads(file.read_text())
    values.pop("sha256", None)
    for name in ("ece_if_calibrated", "uncalibrated"):
        del values["final"]["reliability"][name]
    for name in ("cut", "cut_at"):
        del values["final"]["by_length"][0][name]
    file.write_text(json.dumps(values))
    assert read_record(tmp_path) == RECORD


def test_a_damaged_record_says_what_to_do(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"format": 99, "config": {}}', '{"format": 1}'):
        (tmp_path / "record.json").write_text(text)
        with pytest.raises(ArtifactError, match="Remove its folder to run this training again"):
            read_record(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"config_sha256": "f" * 64},
        {"train_batch_size": 16},
        {"data_fingerprint": "others"},
        {"code_fingerprint": "other"},
    ],
)
def test_any_difference_makes_another_training(change: dict[str, Any]) -> None:
    assert is_same_training(RECORD, IDENTITY)
    assert not is_same_training(RECORD, replace(IDENTITY, **change))


def test_the_latest_identical_trial_is_reused(tmp_path: Path) -> None:
    trained(tmp_path, "20260101")
    trained(tmp_path, "20260102", replace(RECORD, run_id="run-2"))
    trained(tmp_path, "20260103", replace(RECORD, outcome="diverged"))
    trained(tmp_path, "20260104", None)
    folder = tmp_path / "20260105" / "trials" / KEY
    found = reuse(folder, IDENTITY)
    assert found is not None and found.run_id == "run-2"
    assert (folder / "checkpoint" / "state.json").read_text() == "20260102"
    assert reuse(folder, IDENTITY) is None  # it has a checkpoint of its own now


def test_a_trial_of_other_code_or_a_damaged_record_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "20260105" / "trials" / KEY
    trained(tmp_path, "20260101", replace(RECORD, identity=replace(IDENTITY, code_fingerprint="x")))
    (trained(tmp_path, "20260102") / "record.json").write_text("{")
    assert reuse(folder, IDENTITY) is None and not (folder / "checkpoint").exists()


def test_trials_of_searches_before_there_was_one_record_are_reused(tmp_path: Path) -> None:
    old_trial_file(trained(tmp_path, "20260101", None))
    folder = tmp_path / "20260105" / "trials" / KEY
    found = reuse(folder, IDENTITY)
    assert found is not None and found.run_id == "run-old"
    assert (folder / "checkpoint" / "state.json").read_text() == "20260101"


@pytest.mark.parametrize(
    "change", [{"outcome": "failed"}, {"code_fingerprint": "x"}, {"train_batch_size": 4}]
)
def test_old_trials_keep_to_the_same_rule(tmp_path: Path, change: dict[str, Any]) -> None:
    old_trial_file(trained(tmp_path, "20260101", None), **change)
    assert reuse(tmp_path / "20260105" / "trials" / KEY, IDENTITY) is None


def test_cells_of_comparisons_before_there_was_one_record_are_read(tmp_path: Path) -> None:
    values = {
        "cell": {"task": "a", "method": "head", "point": {"p": 1}, "seed": 3},
        "config_sha256": SHA,
        "data_fingerprint": "documents",
        "record": {
            "outcome": "completed",
            "reason": "evaluated on test documents",
            "best_metrics": METRICS,
            "history": [METRICS],
            "steps": 3,
            "tokens": 100,
            "seconds": 2.0,
            "tokens_per_second": 50.0,
            "trainable_parameters": 10,
            "peak_memory_bytes": 7,
            "code_fingerprint": "code",
            "final": {
                "folder": "/somewhere/adapter",
                "metrics": {"test/accuracy": 0.5},
                "calibration": {"temperature": 1.5},
                "reliability": {
                    "count": [1, 0],
                    "accuracy": [0.5, None],
                    "confidence": [0.4, None],
                    "ece": 0.1,
                },
                "by_length": [vars(FINAL.by_length[0])],
                "trainable_parameters": 10,
                "head_parameters": 4,
            },
        },
        "config": {},
    }
    (tmp_path / "cell.json").write_text(json.dumps(values))
    record = read_record(tmp_path)
    assert record is not None
    assert record.final == FINAL and record.about == values["cell"]
    assert record.progress.best_metrics == METRICS and record.progress.step == 3
    assert record.progress.tokens_per_second == 50.0
    assert (record.identity.code_fingerprint, record.peak_memory_bytes) == ("code", 7)
