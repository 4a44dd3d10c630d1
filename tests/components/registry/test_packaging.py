"""A saved model says what it needs and how to use it, and nothing of the machine that saved it."""

import json
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import pandas
import pytest
import yaml
from mlflow.models import Model

from components.inference.package import adapter_package
from components.inference.serving import ServingConfig
from components.registry.packaging import save_pyfunc
from components.settings import resolved
from components.tasks import TASKS

HEADS = {
    "classification": {"num_labels": 3, "labels": ["a", "b", "c"]},
    "label_words": {
        "task": "label_words",
        "num_labels": 2,
        "labels": ["a", "b"],
        "label_words": ["a", "b"],
        "token_ids": [4, 5],
    },
    "language_modelling": {"task": "language_modelling"},
    "multiple_choice": {"task": "multiple_choice"},
}


@pytest.fixture
def saved(plain_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Saves a model of a task below a scratch folder of its own."""
    scratch = tmp_path / "scratch-of-this-machine"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def save(task: str = "classification", **settings: Any) -> Path:
        path = plain_adapter / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"head": HEADS[task]}))
        folder = tmp_path / "model"
        save_pyfunc(folder, plain_adapter, adapter_package(plain_adapter), **settings)
        return folder

    return save


def test_no_file_of_it_names_a_folder_of_the_machine_that_saved_it(
    saved: Any, tmp_path: Path
) -> None:
    folder = saved()
    here = (str(tmp_path), str(Path(__file__).resolve().parents[3]), str(Path.home()))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 60
    for path in files:
        content = path.read_bytes().decode("utf-8", errors="ignore")
        assert not [name for name in here if name in content], path
    absolute = [line for line in (folder / "MLmodel").read_text().split() if line[:1] == "/"]
    assert absolute == []


def test_a_location_on_this_machines_disk_is_none_of_its_business(saved: Any) -> None:
    local = saved(artifact_location="/somewhere/mlartifacts/1/models/m-1/artifacts")
    assert yaml.safe_load((local / "MLmodel").read_text()).get("artifact_path") is None


def test_a_location_that_others_reach_is_kept(saved: Any) -> None:
    folder = saved(artifact_location="mlflow-artifacts:/1/models/m-1/artifacts", model_id="m-1")
    found = Model.load(str(folder))
    assert found.artifact_path == "mlflow-artifacts:/1/models/m-1/artifacts"
    assert found.model_id == "m-1"


@pytest.mark.parametrize("task", HEADS)
def test_its_example_is_what_its_signature_and_its_task_take(task: str, saved: Any) -> None:
    folder = saved(task)
    about = Model.load(str(folder))
    frame = about.load_input_example(str(folder))
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == list(TASKS[task].signature.inputs)
    asked = TASKS[task].asked(frame.to_dict("records"))
    assert len(asked) == 1
    serving = json.loads((folder / "serving_input_example.json").read_text())
    assert json.loads(about.get_serving_input(str(folder))) == serving
    assert serving["dataframe_split"]["columns"] == list(frame.columns)
    enforced = mlflow.pyfunc._enforce_schema(frame, about.get_input_schema())
    assert TASKS[task].asked(enforced.to_dict("records")) == asked


def test_it_says_which_settings_it_takes_and_what_they_are(saved: Any) -> None:
    flavor = yaml.safe_load((saved() / "MLmodel").read_text())["flavors"]["python_function"]
    assert flavor["config"] == resolved(ServingConfig())


def test_its_size_is_that_of_its_files(saved: Any) -> None:
    folder = saved()
    sizes = {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    told = Model.load(str(folder)).model_size_bytes
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "MLmodel"]
    assert told == sum(path.stat().st_size for path in files) > 100 * sizes["input_example.json"]
