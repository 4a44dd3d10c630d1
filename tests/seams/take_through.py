"""Takes toy entries of the tables through everything: `python -m tests.seams.take_through FOLDER
FAMILY/METHOD/TASK ...` plans, trains, saves, loads, evaluates and predicts, and prints what it
found.

A process of its own, because training leaves a process group behind. The three lines below are all
that adding a family, a method and a task takes beside their files.
"""

import json
import sys
from pathlib import Path
from typing import Any

from components.adapters.methods import METHODS
from components.backbones import BACKBONES
from components.tasks import TASKS
from tests.seams.toy_family import BERT
from tests.seams.toy_method import ShiftConfig
from tests.seams.toy_task import REGRESSION

BACKBONES["bert"] = BERT
METHODS["shift"] = ShiftConfig
TASKS["regression"] = REGRESSION


def experiment(folder: Path, family: str, method: str, task: str) -> dict[str, Any]:
    """Plain values; texts in three classes, whose number of words is the value to learn."""
    from tests.conftest import build_tiny_longformer
    from tests.toy import make_experiment

    backbone = build_tiny_bert() if family == "bert" else build_tiny_longformer()
    changes: dict[str, Any] = {
        "backbone.family": family,
        "adapter": {"method": method},
        "optimizer.learning_rate": 3e-3,
        "training.epochs": 6,
    }
    if task == "regression":
        changes |= {"data.task": task, "training.metric": "validation/mse"}
    values = make_experiment(folder, backbone, **changes)
    if task == "regression":
        for path in values["data"]["files"].values():
            rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
            rated = [row | {"label": len(row["text"].split()) / 60} for row in rows]
            Path(path).write_text("".join(json.dumps(row) + "\n" for row in rated))
    return values


def build_tiny_bert() -> Any:
    """A random BertModel: D=32, L=2, 4 heads, no dropout."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=101,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=140,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def taken_through(folder: Path, family: str, method: str, task: str) -> dict[str, Any]:
    from components.backbones import read_backbone_config
    from components.config import ExperimentConfig, validate
    from components.planning import make_plan, search_wanted
    from pipelines.evaluate import evaluate
    from pipelines.predict import predict
    from pipelines.train import train

    values = experiment(folder, family, method, task)
    config = validate(ExperimentConfig, values)
    config = config.model_copy(update={"search": _one_point(config)})
    plan = make_plan(search_wanted(config), read_backbone_config(config.backbone))
    report = train(config, output=folder / "out")
    files = [f"data.files.{split}={path}" for split, path in values["data"]["files"].items()]
    data = [*files, f"data.task={config.data.task}"]
    measured = evaluate(
        report.adapter_folder,
        tracking_uri=None,
        overrides=data,
        output=folder / "measured",
        cache_path=folder / "cache",
    )
    answers = folder / "answers.jsonl"
    predict(
        report.adapter_folder,
        input=Path(values["data"]["files"]["test"]),
        output=answers,
        tracking_uri=None,
    )
    return {
        "planned": plan.points[0].trainable_parameters,
        "backbone": plan.backbone_parameters,
        "trained": report.trainable_parameters,
        "losses": [metrics["train/loss"] for metrics in report.history],
        "metrics": dict(report.metrics),
        "measured": dict(measured.uncalibrated),
        "stored": json.loads((Path(report.adapter_folder) / "adapter_config.json").read_text()),
        "answers": [json.loads(line) for line in answers.read_text().splitlines()],
    }


def _one_point(config: Any) -> Any:
    from components.config.search import Choice

    return config.search.model_copy(
        update={"space": {"optimizer.learning_rate": Choice(choice=(1e-2,))}}
    )


def main(folder: Path, cases: list[str]) -> None:
    found = {}
    for case in cases:
        place = folder / case.replace("/", "-")
        place.mkdir()
        found[case] = taken_through(place, *case.split("/"))
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
