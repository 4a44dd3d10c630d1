"""How tests/compatibility/befcae5 was written. Kept to be read; it is not run again.

It ran in a clean checkout of commit befcae5 into which this file and test_befcae5.py were copied:

    OMP_NUM_THREADS=1 python -m tests.compatibility.write_befcae5

Everything that it stores came out of that commit's own functions and commands: save_adapter, the
MLflow tracker's register_adapter, `prefixprop search` (once to its end, once interrupted in its
second trial) and run_trial. Adapters hold drawn values in place of trained ones, so that no answer
is near zero; the adapter of the search is trained. Afterwards the paths of the machine it ran on
were replaced by MADE_IN, and nothing else was changed.
"""

import json
import lzma
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.compatibility.befcae5_workplace import (
    BACKBONES,
    DATA,
    HUB_ID,
    MADE_IN,
    ROOT,
    environment,
    furnish,
    made_with,
    run,
    trial_histories,
    uniform,
)
from tests.compatibility.write_befcae5_cases import CASES, METHODS, OTHERS
from tests.compatibility.write_befcae5_documents import (
    LABELS,
    write_documents,
    write_json,
)
from tests.compatibility.write_befcae5_models import write_models

MAX_TOKENS = 32
EPOCHS = 8  # of a trial of the search: long enough to be interrupted in the middle


# --- documents ---


# --- adapter folders ---


def write_adapters() -> None:
    from components.adapters import load_adapter

    batches: dict[str, Any] = {
        "classification": {
            "input_ids": [[0, *range(4, 17), 2], [0, 31, 9, 30, 4, 2, *[1] * 9]],
            "attention_mask": [[1] * 15, [1] * 6 + [0] * 9],
        },
        # Two questions, the first in two chunks; -4 to -1 are the four special tokens.
        "multiple_choice": {
            "input_ids": [
                [0, -4, 7, -3, -2, 8, 9, -1, -2, 10, -1, 2, 20, 21, 22, 2],
                [0, -4, 7, -3, -2, 8, 9, -1, -2, 10, -1, 2, 23, 24, 2, 1],
                [0, -4, 25, -3, -2, 8, -1, -2, 11, -1, -2, 12, -1, 2, 5, 2],
            ],
            "attention_mask": [[1] * 16, [1] * 15 + [0], [1] * 16],
            "example_index": [0, 0, 1],
        },
    }
    logits: dict[str, Any] = {}
    for name, (family, own, pooling) in CASES.items():
        model = write_adapter(name, family, own, pooling)
        task = model.head_config.task
        batch = {key: torch.tensor(rows) for key, rows in batches[task].items()}
        with torch.no_grad():
            found = model(**batch).logits
            again = load_adapter(BACKBONES[family](), DATA / "adapters" / name)(**batch).logits
        torch.testing.assert_close(again, found, atol=1e-6, rtol=1e-6)
        logits[name] = again.tolist()
    write_json("adapter_logits.json", {"batches": batches, "logits": logits})


def write_adapter(name: str, family: str, own: dict[str, Any], pooling: str) -> Any:
    """An adapter with drawn values, and what `prefixprop search` stores beside it."""
    from components.config.schema import ADAPTER_CONFIGS

    from components.adapters import (
        ClassificationHeadConfig,
        MultipleChoiceHeadConfig,
        adapt,
        save_adapter,
    )
    from components.config import BackboneConfig, resolved, validate
    from components.registry import code_version

    head: Any = MultipleChoiceHeadConfig()
    if pooling:
        head = ClassificationHeadConfig(num_labels=3, labels=LABELS, pooling=pooling)
    model = adapt(BACKBONES[family](), validate(ADAPTER_CONFIGS[own["method"]], own), head).eval()
    with torch.no_grad():
        for place, parameter in model.trainable_parameters().items():
            if not place.startswith("backbone.") or "token_type" in place:
                values = uniform(f"{name} {place}", parameter.numel(), width=1.2)
                parameter.copy_(torch.tensor(values, dtype=torch.float64).view(parameter.shape))
            else:  # full fine-tuning: near the pretrained ones
                values = uniform(f"{name} {place}", parameter.numel(), width=0.2)
                parameter.add_(torch.tensor(values, dtype=torch.float64).view(parameter.shape))
    path = f"backbones/{family}"
    source = validate(BackboneConfig, {"source": "local", "name_or_path": path, "family": family})
    training = {"code_version": code_version(), "max_tokens": MAX_TOKENS, "precision": "fp32"}
    if not pooling:
        training["max_chunks"] = 2
    identity = {"name_or_path": path, "revision": None, "load": resolved(source)}
    folder = DATA / "adapters" / name
    save_adapter(model, folder, training=training, backbone_id=identity)
    return model


# --- the search ---


def experiment() -> dict[str, Any]:
    return {
        "name": "befcae5-toy",
        "backbone": {"source": "hub", "name_or_path": HUB_ID, "family": "longformer"},
        "adapter": {"method": "prefix_propagation", "dropout": 0.1},
        "head": {"pooling": "mean", "dropout": 0.1},
        "data": {
            "files": {
                split: f"documents/{split}.jsonl" for split in ("train", "validation", "test")
            },
            "max_tokens": MAX_TOKENS,
        },
        "optimizer": {"learning_rate": 0.05},
        "training": {"epochs": EPOCHS, "micro_batch_size": 4, "metric": "validation/nll"},
        "zero": {"stage": 0},
        "search": {
            "searcher": "grid",
            "trial_scheduler": "none",
            "space": {"adapter.prefix_length": {"choice": [4, 3, 2]}},
        },
        "cluster": {
            "storage_path": "storage",
            "cache_path": "cache",
            "placement_timeout_seconds": 600,  # for a busy machine
        },
    }


def write_search(scratch: Path) -> Path:
    """Stores the interrupted search; returns the folder where it ran to its end."""
    whole, halted = furnish(scratch / "whole"), furnish(scratch / "halted")
    for folder in (whole, halted):
        (folder / "toy.yaml").write_text(yaml.safe_dump(experiment(), sort_keys=False))
    done = run(whole, "-m", "pipelines.cli", "search", "toy.yaml", "--json")
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    metrics = ("validation/nll", "validation/accuracy", "train/loss")
    trials = {
        json.dumps(trial["point"]): {
            kind: {name: trial[kind][name] for name in metrics}
            for kind in ("best_metrics", "metrics")
        }
        for trial in report["trials"]
    }
    final = {name: report["metrics"][name] for name in ("test/nll", "test_calibrated/nll")}
    write_json(
        "uninterrupted.json",
        {"best_trial": report["best_trial"], "metrics": final, "trials": trials},
    )
    interrupt(halted)
    (found,) = halted.glob("storage/*/*/search.json")
    target = DATA / "search" / found.parent.relative_to(halted)
    (target / "trials").mkdir(parents=True)
    shutil.copy(halted / "toy.yaml", DATA / "search")
    text = found.read_text(encoding="utf-8").replace(str(halted), MADE_IN)
    (target / "search.json").write_text(text, encoding="utf-8")
    for trial in (found.parent / "trials").iterdir():
        shutil.copytree(trial, target / "trials" / trial.name)
    store = sqlite3.connect(halted / "mlflow.db")
    dump = "\n".join(store.iterdump()) + "\n"
    dump = dump.replace(str(halted), MADE_IN)
    (DATA / "search" / "mlflow.sql.xz").write_bytes(lzma.compress(dump.encode(), preset=9))
    return whole


def interrupt(folder: Path) -> None:
    """SIGINT as soon as the second trial has a checkpoint."""
    command = [sys.executable, "-m", "pipelines.cli", "search", "toy.yaml"]
    names = os.environ | environment(folder) | {"PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log:
        driver = subprocess.Popen(
            command, cwd=folder, env=names, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            while len(list(folder.glob("storage/*/*/trials/*/checkpoint/state.json"))) < 2:
                assert driver.poll() is None, (folder / "log").read_text()[-4000:]
                time.sleep(0.01)
            driver.send_signal(signal.SIGINT)
            assert driver.wait(timeout=120) == 130, (folder / "log").read_text()[-4000:]
        finally:
            driver.kill()
    evaluations = [
        json.loads(state.read_text())["evaluations"]
        for state in folder.glob("storage/*/*/trials/*/checkpoint/state.json")
    ]
    low, high = sorted(evaluations)
    assert low < high == EPOCHS, f"not interrupted in the middle: {evaluations}"
    assert len(list(folder.glob("storage/*/*/trials/*/trial.json"))) == 1


# --- MLflow models ---


# --- trials ---


def write_trials(scratch: Path) -> None:
    """Every method on the Longformer, one on the decoder, and multiple choice."""
    splits = ("train", "validation", "test")
    base = {
        "data": {
            "files": {split: f"documents/{split}.jsonl" for split in splits},
            "max_tokens": MAX_TOKENS,
        },
        "optimizer": {"learning_rate": 0.05},
        "training": {"epochs": 4, "micro_batch_size": 2, "gradient_accumulation_steps": 2},
        "zero": {"stage": 0},
    }

    def of(name: str, family: str, adapter: dict[str, Any], **changes: Any) -> dict[str, Any]:
        path = f"backbones/{family}"
        source = {"source": "local", "name_or_path": path, "family": family}
        return base | {"name": name, "backbone": source, "adapter": adapter} | changes

    experiments = {
        name: of(name, "longformer", {"method": name, **own}, head={"pooling": "mean"})
        for name, own in METHODS.items()
    }
    experiments["dropout"] = of(
        "dropout",
        "longformer",
        {"method": "prefix_propagation", "prefix_length": 3, "dropout": 0.1},
        head={"pooling": "prefix", "dropout": 0.1},
    )
    experiments["decoder"] = of("decoder", *OTHERS["decoder"][:2], head={"pooling": "mean"})
    experiments["questions"] = of(
        "questions",
        "longformer",
        OTHERS["questions"][1],
        data={
            "qangaroo": {split: f"questions/{split}.json" for split in splits},
            "max_tokens": MAX_TOKENS,
        },
    )
    os.chdir(furnish(scratch / "trials"))
    histories = trial_histories(experiments, Path.cwd())
    trials = {
        name: {"values": values, "history": histories[name]} for name, values in experiments.items()
    }
    write_json("trials.json", {"made_with": made_with(), "trials": trials})


def main() -> None:
    torch.set_num_threads(1)
    DATA.mkdir()
    with tempfile.TemporaryDirectory(prefix="befcae5-") as made:
        scratch = Path(made).resolve()
        write_documents()
        write_adapters()
        whole = write_search(scratch)
        write_models(scratch, whole)
        write_trials(scratch)


if __name__ == "__main__":
    main()
