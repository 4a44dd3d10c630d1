"""`prefixprop export --form peft` and `--form transformers`: what is written was seen to answer
alike, in a process without this project; what does not leaves nothing behind.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from components.errors import ConfigError, WorkFailed
from components.inference.package import adapter_package
from components.registry import open_tracker
from pipelines.export import export
from tests.components.inference.exported.stock_backbones import SPREAD, classifier_on, saved
from tests.conftest import build_tiny_longformer


@pytest.fixture
def registered(tiny_adapter: Any, mlflow_uri: str) -> str:
    """The address of a registered decoder's adapter."""
    folder, _ = tiny_adapter("decoder")
    tracker = open_tracker("mlflow", mlflow_uri)
    tracker.ensure_experiment("peft", "")
    run = tracker.start_run("peft", run_name="s", config={}, params={}, tags={})
    made = tracker.register_adapter(
        run,
        adapter_folder=folder,
        package=adapter_package(folder),
        model_name="to-peft",
        metrics={},
        params={},
        description="",
        tags={},
    )
    return made.model_uri


@pytest.mark.slow
def test_the_difference_stands_in_report_folder_and_registry(
    registered: str, mlflow_uri: str, tmp_path: Path
) -> None:
    report = export(registered, output=tmp_path / "peft", tracking_uri=mlflow_uri, form="peft")
    assert report.largest_difference is not None
    assert report.tolerance is not None
    assert 0 <= report.largest_difference <= report.tolerance
    assert {"adapter_config.json", "adapter_model.safetensors"} < set(report.files)
    found = json.loads((tmp_path / "peft" / "verification.json").read_text())
    assert found["largest_difference"] == report.largest_difference
    assert report.tolerance == max(1e-6, 2 * found["own_difference"])
    assert not [name for name in report.files if "pycache" in name]
    assert set(found["versions"]) == {"torch", "transformers", "peft"}
    version = open_tracker("mlflow", mlflow_uri).resolve(registered)
    told = version.tags["peft_largest_difference"]
    assert told == f"{report.largest_difference:.3g} (tolerance {report.tolerance:g})"
    assert f"Exported for peft: logits within {report.tolerance:g}" in version.description


@pytest.mark.slow
def test_a_folder_that_differs_by_more_leaves_nothing_behind(
    tiny_adapter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that are off by a thousandth: more than rounding."""
    from components.inference.exported import peft_folder

    folder, _ = tiny_adapter("decoder")
    whole = peft_folder.as_peft
    monkeypatch.setattr(peft_folder, "as_peft", lambda prefix: whole(prefix) * 1.001)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(WorkFailed, match="logits differ from the adapter's by"):
        export(str(folder), output=tmp_path / "peft", tracking_uri=None, form="peft")
    assert sorted(tmp_path.iterdir()) == before
    report = export(
        str(folder), output=tmp_path / "peft", tracking_uri=None, form="peft", tolerance=10.0
    )
    assert report.largest_difference is not None and report.largest_difference > 1e-6


@pytest.mark.slow
def test_a_loader_that_imports_this_project_is_refused(
    tiny_adapter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.inference.exported import peft_folder

    folder, _ = tiny_adapter("decoder")
    whole = peft_folder.write_beside

    def with_import(classifier: Any, folder: Path, *, loader: Path) -> None:
        whole(classifier, folder, loader=loader)
        root = Path(__file__).resolve().parents[2]
        line = f"import sys; sys.path.insert(0, {str(root)!r}); import components.errors\n"
        (folder / "classifier.py").write_text(loader.read_text() + line)

    monkeypatch.setattr(peft_folder, "write_beside", with_import)
    with pytest.raises(WorkFailed, match="imports components of this project"):
        export(str(folder), output=tmp_path / "peft", tracking_uri=None, form="peft")
    assert not (tmp_path / "peft").exists()


@pytest.mark.slow
def test_an_encoder_answers_alike_by_transformers_alone(tmp_path: Path) -> None:
    folder = saved(classifier_on(tmp_path, build_tiny_longformer(initializer_range=SPREAD)))
    report = export(str(folder), output=tmp_path / "plain", tracking_uri=None, form="transformers")
    assert report.largest_difference is not None and report.largest_difference <= 1e-6
    found = json.loads((tmp_path / "plain" / "verification.json").read_text())
    assert set(found["versions"]) == {"torch", "transformers"}


def test_an_encoder_is_refused_and_nothing_is_written(tiny_adapter: Any, tmp_path: Path) -> None:
    folder, _ = tiny_adapter("longformer")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="family longformer: a prefix sees the text"):
        export(str(folder), output=tmp_path / "peft", tracking_uri=None, form="peft")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("given", [{"tolerance": 1e-3}, {"backbone": "somewhere"}])
def test_what_only_a_compared_form_takes_is_refused_elsewhere(
    given: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="Remove them, or give --form peft or transformers"):
        export("anything", output=tmp_path / "out", tracking_uri=None, **given)


@pytest.mark.parametrize("tolerance", [float("nan"), float("inf"), -1.0])
def test_a_tolerance_is_a_distance(tolerance: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no distance of logits"):
        export(
            "anything",
            output=tmp_path / "out",
            tracking_uri=None,
            form="peft",
            tolerance=tolerance,
        )
