"""An adapter of a quantised backbone from training to answers: its backbone is quantised wherever
it is loaded, and everything that is written says so.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from components.config import ExperimentConfig, validate
from components.inference.classifier import load_classifier
from components.inference.package import adapter_package
from components.planning import make_plan, search_wanted
from pipelines.evaluate import evaluate
from pipelines.predict import predict
from pipelines.train import train
from tests.components.backbones.quantised_checkpoints import SIZES, needs
from tests.conftest import build_tiny_longformer
from tests.toy import make_experiment


@pytest.mark.slow
def test_an_adapter_answers_on_the_quantised_backbone_that_it_was_trained_on(
    tmp_path: Path,
) -> None:
    from components.backbones import inspect_backbone

    needs("bitsandbytes")
    values = make_experiment(
        tmp_path,
        build_tiny_longformer(**SIZES, initializer_range=0.2),
        **{"backbone.quantization": "nf4", "training.max_steps": 3},
    )
    config = validate(ExperimentConfig, values)
    plan = make_plan(search_wanted(config), inspect_backbone(config.backbone))
    assert plan.quantization == "nf4"
    said: list[str] = []
    report = train(config, output=tmp_path / "out", say=said.append)
    assert any(line.endswith(", quantised (nf4)") for line in said)
    folder = Path(report.adapter_folder)
    backbone = json.loads((folder / "adapter_config.json").read_text())["backbone"]
    assert backbone["quantization"] == backbone["load"]["quantization"] == "nf4"
    assert {"accelerate", "bitsandbytes"} <= set(adapter_package(folder).requirements)

    cache = Path(values["cluster"]["cache_path"])
    assert load_classifier(folder, cache_path=cache).model.backbone.is_loaded_in_4bit
    with np.load(tmp_path / "out" / "predictions.npz") as kept:
        expected = kept["test_logits"].argmax(1)
    answers = tmp_path / "answers.jsonl"
    test = Path(values["data"]["files"]["test"])
    predict(str(folder), input=test, output=answers, tracking_uri=None, cache_path=cache)
    labels = sorted(["alpha", "beta", "gamma"])
    told = [json.loads(line)["label"] for line in answers.read_text().splitlines()]
    assert told == [labels[row] for row in expected]
    data = [f"data.files.{split}={file}" for split, file in values["data"]["files"].items()]
    again = evaluate(str(folder), tracking_uri=None, overrides=data, cache_path=cache)
    assert again.metrics["accuracy"] == pytest.approx(report.metrics["test/accuracy"])
