"""A backbone family, a method and a task are each one file and one line in a table: toys of all
three are planned, trained, saved, loaded, evaluated and asked (components/README.md tells the
story), and every entry of the tables answers its Protocol.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.adapters.methods import METHODS
from components.adapters.modules.adapter_method import AdapterMethod
from components.backbones import BACKBONES, BackboneFamily, backbone_shape, family_of
from components.config import DataConfig, ExperimentConfig, validate
from components.errors import BackboneError, ConfigError
from components.settings import config_paths
from components.tasks import TASKS, HeadConfig, Task
from components.tasks.heads.head import Head
from tests.conftest import build_tiny_decoder, build_tiny_longformer
from tests.seams.toy_family import BERT
from tests.seams.toy_method import ShiftConfig
from tests.seams.toy_task import REGRESSION
from tests.toy import LABELS, make_tokenizer

ROOT = Path(__file__).resolve().parents[2]
D, CLASSES = 32, 3


CASES = (
    "bert/prefix_propagation/classification",
    "longformer/shift/classification",
    "longformer/prefix_propagation/regression",
    "bert/shift/regression",
)


@pytest.fixture(scope="module")
def taken_through(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came out of each case, all in one process of their own."""
    folder = str(tmp_path_factory.mktemp("seams"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.seams.take_through", folder, *CASES],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_toy_is_planned_trained_saved_loaded_and_asked(
    taken_through: dict[str, Any], case: str
) -> None:
    found, (family, method, task) = taken_through[case], case.split("/")
    # Classes are not known before the documents are read: the plan counts for two.
    unknown = (D + 1) * (CLASSES - 2) if task == "classification" else 0
    assert found["trained"] == found["planned"] + unknown
    assert found["losses"][-1] < found["losses"][0]
    stored = found["stored"]
    assert (stored["method"], stored["head"]["task"]) == (method, task)
    assert stored["backbone"]["family"] == family
    measure = "mse" if task == "regression" else "nll"
    assert found["measured"][measure] == pytest.approx(
        found["metrics"][f"test/{measure}"], abs=1e-5
    )
    assert len(found["answers"]) == 9
    asked = {"value"} if task == "regression" else {"label", "probabilities"}
    assert all(set(answer) == {"id"} | asked for answer in found["answers"])


BASE: dict[str, Any] = {
    "name": "toy",
    "backbone": {"name_or_path": "a/b", "family": "longformer"},
    "data": {"files": {"train": "x.jsonl"}},
}


def test_a_listed_toy_is_known_to_the_configuration_and_an_unlisted_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toys = {
        "backbone": {"name_or_path": "a/b", "family": "bert"},
        "adapter": {"method": "shift", "scale": 2.0},
        "data": {"files": {"train": "x.jsonl"}, "task": "regression"},
        "training": {"metric": "validation/mse"},
    }
    for section, message in (
        ("backbone", 'backbone.family "bert" is unknown'),
        ("adapter", 'adapter.method "shift" is unknown'),
        ("data", "data.task 'regression' is unknown"),
        ("training", "metric 'validation/mse' is not measured"),
    ):
        with pytest.raises(ConfigError, match=message):
            validate(ExperimentConfig, BASE | {section: toys[section]})
    monkeypatch.setitem(BACKBONES, "bert", BERT)
    monkeypatch.setitem(METHODS, "shift", ShiftConfig)
    monkeypatch.setitem(TASKS, "regression", REGRESSION)
    config = validate(ExperimentConfig, BASE | toys)
    assert isinstance(config.adapter, ShiftConfig) and config.adapter.scale == 2.0
    assert config.training.mode == "min"
    assert "adapter.scale" in config_paths(ExperimentConfig)
    with pytest.raises(ConfigError, match=r"adapter\.scael'. Did you mean 'adapter\.scale'"):
        validate(ExperimentConfig, BASE | {"adapter": {"method": "shift", "scael": 1.0}})
    with pytest.raises(ConfigError, match=r"adapter\.prefix_length is no setting of 'shift'"):
        validate(ExperimentConfig, BASE | {"adapter": {"method": "shift", "prefix_length": 1}})
    with pytest.raises(
        ConfigError, match=r"validation/accuracy is not measured for data\.task reg"
    ):
        validate(ExperimentConfig, BASE | {"data": toys["data"]})


def test_a_model_type_that_no_family_reads_gets_no_other_family_s_formula() -> None:
    with pytest.raises(BackboneError, match="No backbone family reads 'gptj' models"):
        backbone_shape({"model_type": "gptj", "hidden_size": 8})


@pytest.mark.parametrize("name", BACKBONES)
def test_every_family_answers_the_protocol(name: str) -> None:
    assert isinstance(BACKBONES[name], BackboneFamily)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_and_its_head_answer_their_protocols(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    assert isinstance(task, Task)
    backbone, tokenizer = build_tiny_longformer(), make_tokenizer(tmp_path)
    if task.incompatibility(family_of(backbone), "last"):
        backbone = build_tiny_decoder(tie_word_embeddings=True)
    data = validate(DataConfig, {"files": {"train": "x.jsonl"}, "task": name})
    settings = task.head_config(HeadConfig(), LABELS, data=data, tokenizer=tokenizer)
    assert isinstance(task.build_head(settings, backbone, 0.0), Head)


def test_every_metric_has_one_direction() -> None:
    for task in TASKS.values():
        for other in TASKS.values():
            shared = task.metrics.keys() & other.metrics.keys()
            assert all(task.metrics[name] == other.metrics[name] for name in shared)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_answers_the_protocol(name: str) -> None:
    method = METHODS[name]()  # type: ignore[call-arg]
    assert isinstance(method.build(build_tiny_longformer(), 0.0), AdapterMethod)
