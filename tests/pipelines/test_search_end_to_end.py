"""From a YAML file to a registered adapter that predicts, on a random decoder with MLflow in a
sqlite file; every command is a process of its own.

Not covered here: the MLflow server and `ray job submit` (`make demo` runs both).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import build_tiny_decoder
from tests.ray_cluster import environment_on
from tests.toy import make_experiment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = environment_on((folder / "ray_address").read_text(), folder)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def searched(
    tmp_path_factory: pytest.TempPathFactory, ray_address: str
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("end_to_end")
    (folder / "ray_address").write_text(ray_address)
    changes = {
        "head.pooling": "last",
        "name": "toy-decoder",
        "cluster.num_workers": 2,
        "zero.stage": 2,
        "search": {
            "searcher": "grid",
            "asha": {"reduction_factor": 2},
            "space": {
                "adapter.prefix_length": {"choice": [4, 2]},
                "optimizer.learning_rate": {"choice": [0.01, 0.001]},
            },
        },
    }
    values = make_experiment(folder, build_tiny_decoder(pad_token_id=1), **changes)
    (folder / "toy.yaml").write_text(yaml.safe_dump(values))
    ended = run(folder, "-m", "pipelines.cli", "search", "toy.yaml", "--json")
    assert ended.returncode == 0, ended.stderr[-4000:]
    return folder, json.loads(ended.stdout)


def test_search_registers_the_best_adapter_as_champion(
    searched: tuple[Path, dict[str, Any]],
) -> None:
    _, report = searched
    outcomes = [trial["outcome"] for trial in report["trials"]]
    assert (
        len(outcomes) == 4 and "completed" in outcomes and set(outcomes) <= {"completed", "stopped"}
    )
    assert (report["model_name"], report["model_version"], report["model_alias"]) == (
        "toy-decoder",
        1,
        "champion",
    )
    best = max(
        (trial for trial in report["trials"] if trial["best_metrics"]),
        key=lambda trial: trial["best_metrics"]["validation/accuracy"],
    )
    assert (
        report["metrics"]["validation_all/accuracy"] == best["best_metrics"]["validation/accuracy"]
    )


def test_prediction_in_fresh_processes_equals_the_plain_artifact(
    searched: tuple[Path, dict[str, Any]],
) -> None:
    folder, report = searched
    code = """
import json, sys
from pathlib import Path
import mlflow, numpy as np, pandas as pd
from components.adapters import load_adapter
from components.inference import classify
from components.backbones import load_backbone, load_tokenizer
from components.config import BackboneConfig, validate
rows = [json.loads(line) for line in open("test.jsonl")]
texts = [row["text"] for row in rows]
champion = mlflow.pyfunc.load_model("models:/toy-decoder@champion")
answers = champion.predict(pd.DataFrame({"text": texts}))
predicted = [json.loads(line) for line in open("out.jsonl")]
folder = Path(sys.argv[1])
config = json.loads((folder / "adapter_config.json").read_text())
source = validate(BackboneConfig, config["backbone"]["load"])
model = load_adapter(load_backbone(source, cache_path=Path("cache")), folder)
temperature = json.loads((folder / "calibration.json").read_text())["temperature"]
limit = config["training"]["max_tokens"]
live = classify(
    model, load_tokenizer(source), texts, max_tokens=limit, temperature=temperature
)
labels = config["head"]["labels"]
assert [row["id"] for row in predicted] == [row["id"] for row in rows]
columns = answers["probabilities"], answers["label"]
for row, answer, answer_label, expected in zip(predicted, *columns, live):
    given = answer if isinstance(answer, dict) else json.loads(answer)
    assert row["label"] == answer_label == labels[int(expected.argmax())]
    assert row["probabilities"] == given
    np.testing.assert_array_equal(np.float32([given[label] for label in labels]), expected)
print("equal", len(rows))
"""
    predicted = run(
        folder,
        "-m",
        "pipelines.cli",
        "predict",
        "--model",
        "models:/toy-decoder@champion",
        "--input",
        "test.jsonl",
        "--output",
        "out.jsonl",
    )
    assert predicted.returncode == 0, predicted.stderr[-3000:]
    checked = run(folder, "-c", code, report["adapter_folder"])
    assert checked.stdout.strip().endswith("equal 9"), checked.stderr[-3000:]


def test_search_result_equals_training_under_torchrun_on_zero_3(
    searched: tuple[Path, dict[str, Any]],
) -> None:
    folder, report = searched
    best = next(trial for trial in report["trials"] if trial["name"] == report["best_trial"])
    point = [part for path, value in best["point"].items() for part in ("--set", f"{path}={value}")]
    options = ["--set", "zero.stage=3", *point, "--output", "trained", "--json"]
    ended = run(
        folder,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "-m",
        "pipelines.cli",
        "train",
        "toy.yaml",
        *options,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    trained = json.loads(ended.stdout)
    assert (trained["world_size"], trained["zero_stage"]) == (2, 3)
    # Another ZeRO stage sums gradients in another order.
    assert trained["metrics"]["test/nll"] == pytest.approx(report["metrics"]["test/nll"], abs=2e-5)


def test_wrong_input_ends_with_code_2_and_one_line(searched: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = searched
    for option, expected in {
        "adapter.prefix_lenght=4": "Did you mean 'adapter.prefix_length'?",
        "search.space.optimizer.learning_rate={log_uniform: [0, 1]}": "search.space.optimizer",
        "data.max_tokens=139": "140",
        "data.files.train=none.jsonl": "none.jsonl",
        "data.columns.text=body": "body",
    }.items():
        ended = run(folder, "-m", "pipelines.cli", "search", "toy.yaml", "--set", option)
        assert ended.returncode == 2, (option, ended.stderr[-2000:])
        error = ended.stderr.strip().splitlines()[-1]
        assert expected in error and "Traceback" not in ended.stderr, (option, ended.stderr[-2000:])
