"""Registered adapters of one pretrained backbone: `python -m
tests.components.inference.many_adapters make FOLDER COUNT` saves so many models, `... hold FOLDER
COUNT` loads the first of them as MLflow does, asks each, and prints answers and memory; `... apart
FOLDER COUNT` does it with a backbone for each.

Memory is what the process alone has (unique set size) and what is resident, in bytes, after the
last answer.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}

TEXTS = [
    "The delivery came late, and the box was open.",
    " ".join(["They were polite on the telephone, but nobody answered the question."] * 40),
    "A fair price, I think.",
]


def make(place: Path, count: int) -> None:
    import torch

    from components.adapters import (
        ClassificationHeadConfig,
        PrefixPropagationConfig,
        adapt,
        save_adapter,
    )
    from components.backbones import BackboneConfig, load_backbone, weights_sha256
    from components.config import resolved
    from components.inference.package import adapter_package
    from components.registry.packaging import save_pyfunc

    source = BackboneConfig(
        source="installed",
        name_or_path="all-MiniLM-L6-v2",
        family="longformer",
        lengthen_to=1024,
        attention_window=128,
    )
    backbone = load_backbone(source, cache_path=place / "cache")
    identity = {"load": resolved(source), "weights_sha256": weights_sha256(source)}
    head = ClassificationHeadConfig(num_labels=3, labels=("a", "b", "c"), pooling="prefix")
    for number in range(count):
        torch.manual_seed(number)
        model = adapt(backbone, PrefixPropagationConfig(prefix_length=4 + number % 4), head)
        with torch.no_grad():
            for parameter in model.trainable_parameters().values():
                parameter.add_(0.2 * torch.randn(parameter.shape))
        folder = place / f"adapter-{number}"
        save_adapter(model, folder, training={"max_tokens": 512}, backbone_id=identity)
        save_pyfunc(place / f"model-{number}", folder, adapter_package(folder))


def hold(place: Path, count: int, *, apart: bool) -> dict[str, Any]:
    import mlflow.pyfunc
    import pandas
    import psutil

    from components.inference import shared_backbone

    cache = {"cache_path": str(place / "cache")}
    frame = pandas.DataFrame({"text": TEXTS})
    models, answers = [], []
    for number in range(count):
        if apart:
            shared_backbone._LOADED.clear()
        model = mlflow.pyfunc.load_model(str(place / f"model-{number}"), model_config=cache)
        models.append(model)
        answers.append(model.predict(frame)["probabilities"].to_list())
    memory = psutil.Process().memory_full_info()
    return {"answers": answers, "uss": memory.uss, "rss": memory.rss, "models": len(models)}


if __name__ == "__main__":
    action, folder, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if action == "make":
        make(folder, number)
    else:
        print(json.dumps(hold(folder, number, apart=action == "apart")))
