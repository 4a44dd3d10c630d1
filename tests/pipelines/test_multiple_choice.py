"""Questions through the whole path: trained on the command line, evaluated, answered from the
adapter's folder and from the registered model.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import yaml

from components.data.documents import Row
from components.errors import DataError
from components.inference import choose
from components.inference.classifier import load_classifier
from components.inference.package import adapter_package
from components.registry.packaging import save_pyfunc
from components.tasks.questions import questions_of
from pipelines.evaluate import evaluate
from pipelines.predict import predict
from tests.conftest import build_tiny_longformer
from tests.toy import make_question_experiment, make_questions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """(adapter folder, report of the training, the experiment's values)."""
    folder = tmp_path_factory.mktemp("questions")
    values = make_question_experiment(
        folder, build_tiny_longformer(initializer_range=0.2), **{"training.epochs": 1}
    )
    (folder / "toy.yaml").write_text(yaml.safe_dump(values))
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "train",
        str(folder / "toy.yaml"),
        "--output",
        str(folder / "out"),
        "--json",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out" / "adapter", json.loads(done.stdout), values


@pytest.mark.slow
def test_training_reports_metrics_of_candidates_and_a_temperature(trained: Any) -> None:
    adapter, report, _ = trained
    metrics = report["metrics"]
    for name in (
        "accuracy",
        "accuracy_low",
        "nll",
        "brier",
        "ece",
        "adaptive_ece",
        "chance_accuracy",
        "mean_candidates",
    ):
        assert np.isfinite(metrics[f"test/{name}"]), name
    assert "test/macro_f1" not in metrics and 0.2 <= metrics["test/chance_accuracy"] <= 0.5
    assert 0.05 <= json.loads((adapter / "calibration.json").read_text())["temperature"] <= 20
    assert "multiple choice" in (adapter / "README.md").read_text()


@pytest.mark.slow
def test_evaluation_of_the_folder_gives_the_training_run_s_test_metrics(
    trained: Any, tmp_path: Path
) -> None:
    adapter, report, values = trained
    overrides = [
        f"data.qangaroo.{split}={path}" for split, path in values["data"]["qangaroo"].items()
    ]
    found = evaluate(
        str(adapter),
        tracking_uri=None,
        overrides=overrides,
        output=tmp_path / "out",
        cache_path=tmp_path / "cache",
    )
    assert (found.documents, found.labels, found.confusion) == (6, (), ())
    for name, value in found.uncalibrated.items():
        assert value == pytest.approx(report["metrics"][f"test/{name}"], abs=1e-5), name
    assert found.metrics["ece"] == pytest.approx(report["metrics"]["test_calibrated/ece"], abs=1e-5)
    assert (tmp_path / "out" / "reliability.png").is_file()


@pytest.mark.slow
def test_predictions_name_a_candidate_and_equal_the_live_model_and_the_pyfunc(
    trained: Any, tmp_path: Path
) -> None:
    import mlflow.pyfunc

    adapter, _, _ = trained
    records = [
        {key: value for key, value in record.items() if key != "answer"}
        for record in make_questions(tmp_path / "q.json", 9, seed=8)
    ]
    (tmp_path / "q.json").write_text(json.dumps(records))
    report = predict(
        str(adapter), input=tmp_path / "q.json", output=tmp_path / "out.jsonl", tracking_uri=None
    )
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert report.documents == 9 == sum(report.labels.values()) and [
        answer["id"] for answer in answers
    ] == [r["id"] for r in records]
    classifier = load_classifier(adapter)
    questions, _ = questions_of(
        [Row("q", number, record) for number, record in enumerate(records, start=1)], answered=False
    )
    live = choose(
        classifier.model,
        classifier.tokenizer,
        questions,
        max_tokens=48,
        temperature=classifier.temperature,
    )
    save_pyfunc(tmp_path / "model", adapter, adapter_package(adapter))
    frame = pandas.DataFrame(records)[["query", "candidates", "supports"]]
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(frame)
    for answer, row, record, other in zip(
        answers, live, records, loaded.to_dict("records"), strict=True
    ):
        assert list(answer["probabilities"]) == record["candidates"]
        np.testing.assert_array_equal(
            np.array(list(answer["probabilities"].values()), dtype=np.float32), row
        )
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0, abs=1e-6)
        assert answer["label"] == record["candidates"][int(row.argmax())]
        assert (other["label"], other["probabilities"]) == (
            answer["label"],
            answer["probabilities"],
        )
    one = choose(
        classifier.model,
        classifier.tokenizer,
        questions,
        max_tokens=48,
        temperature=classifier.temperature,
        batch_size=1,
    )
    for row, single in zip(live, one, strict=True):
        np.testing.assert_allclose(row, single, atol=1e-5)


@pytest.mark.slow
def test_an_input_of_the_other_task_is_refused(
    trained: Any, tmp_path: Path, tiny_adapter: Any
) -> None:
    adapter, _, values = trained
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": "fine"}))
    with pytest.raises(DataError, match=r"the adapter takes questions .* not 'in.jsonl'"):
        predict(
            str(adapter),
            input=tmp_path / "in.jsonl",
            output=tmp_path / "out.jsonl",
            tracking_uri=None,
        )
    folder, _ = tiny_adapter("longformer")
    make_questions(tmp_path / "q.json", 3, seed=1)
    with pytest.raises(DataError, match=r"the adapter takes documents .* not 'q.json'"):
        predict(
            str(folder), input=tmp_path / "q.json", output=tmp_path / "out.jsonl", tracking_uri=None
        )
    overrides = [
        f"data.qangaroo.{split}={path}" for split, path in values["data"]["qangaroo"].items()
    ]
    with pytest.raises(DataError, match="the adapter was trained for classification"):
        evaluate(str(folder), tracking_uri=None, overrides=overrides, cache_path=tmp_path / "cache")
