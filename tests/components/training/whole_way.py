"""A toy experiment, trained, evaluated and asked, by the workflows that a person calls."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.config import ExperimentConfig, validate
from components.settings import set_path


@dataclass(frozen=True)
class WholeWay:
    """`planned`: trained parameters; `stored`: adapter_config.json; `answers`: of `predict` to the
    test documents.
    """

    planned: int
    report: Any
    stored: dict[str, Any]
    measured: Any
    answers: list[dict[str, Any]]


def gone(values: dict[str, Any], folder: Path, *, overrides: Sequence[str] = ()) -> WholeWay:
    """Six epochs of one point. `overrides`: what `evaluate` is told beside the files."""
    from components.backbones import read_backbone_config
    from components.planning import make_plan, search_wanted
    from pipelines.evaluate import evaluate
    from pipelines.predict import predict
    from pipelines.train import train

    set_path(values, "training.epochs", 6)
    set_path(values, "search.space", {"optimizer.learning_rate": {"choice": [1e-2]}})
    config = validate(ExperimentConfig, values)
    plan = make_plan(search_wanted(config), read_backbone_config(config.backbone))
    report = train(config, output=folder / "out")
    adapter, files = Path(report.adapter_folder), values["data"]["files"]
    measured = evaluate(
        str(adapter),
        tracking_uri=None,
        overrides=[*(f"data.files.{split}={path}" for split, path in files.items()), *overrides],
        output=folder / "measured",
        cache_path=folder / "cache",
    )
    answers = folder / "answers.jsonl"
    predict(str(adapter), input=Path(files["test"]), output=answers, tracking_uri=None)
    return WholeWay(
        planned=plan.points[0].trainable_parameters,
        report=report,
        stored=json.loads((adapter / "adapter_config.json").read_text()),
        measured=measured,
        answers=[json.loads(line) for line in answers.read_text().splitlines()],
    )
