"""An exported adapter is the registered one, file by file; a pyfunc folder answers without a
registry.
"""

import numpy as np
import pytest

from components.errors import ArtifactError, ConfigError
from components.inference.classifier import load_classifier
from components.inference.package import adapter_package
from components.registry import open_tracker
from pipelines.export import export
from tests.registry_fixtures import LABELS, sample_texts


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_exported_folder_equals_the_registered_adapter(plain_adapter, mlflow_uri, tmp_path):
    tracker = open_tracker("mlflow", mlflow_uri)
    tracker.ensure_experiment("exported", "")
    run = tracker.start_run("exported", run_name="s", config={}, params={}, tags={})
    tracker.register_adapter(
        run,
        adapter_folder=plain_adapter,
        package=adapter_package(plain_adapter),
        model_name="exported",
        metrics={},
        params={},
        description="",
        tags={},
    )
    report = export("models:/exported@champion", output=tmp_path / "here", tracking_uri=mlflow_uri)
    assert contents(tmp_path / "here") == contents(plain_adapter)
    assert report.model == "models:/exported/1"
    assert report.files["adapter_model.safetensors"] == 256


def test_pyfunc_folder_answers_as_the_adapter_does(tiny_adapter, tmp_path):
    import mlflow.pyfunc
    import pandas

    folder, _ = tiny_adapter("decoder")
    export(str(folder), output=tmp_path / "model", tracking_uri=None, form="pyfunc")
    texts = sample_texts(5)
    answers = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(
        pandas.DataFrame({"text": texts})
    )
    found = np.array(
        [[row[label] for label in LABELS] for row in answers["probabilities"]], dtype=np.float32
    )
    np.testing.assert_array_equal(found, load_classifier(folder).probabilities(texts))


def test_existing_files_are_never_overwritten(plain_adapter, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder"):
        export(str(plain_adapter), output=tmp_path / "full", tracking_uri=None)
    assert contents(tmp_path / "full") == {"mine.txt": b"mine"}


def test_folder_that_holds_no_adapter_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="holds no adapter_config"):
        export(str(tmp_path / "empty"), output=tmp_path / "out", tracking_uri=None)
    assert not (tmp_path / "out").exists()
