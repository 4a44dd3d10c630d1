"""Adapter folders that nobody here wrote: `python -m tests.components.inference.foreign_folders
FOLDER` makes them, asks each for answers, by `predict` and as part of an MLflow model, and prints
what came of it.

A process of its own, so that its memory can be bounded and measured: once everything is imported
and the whole folder has answered, it may take ROOM more (RLIMIT_DATA, which counts what is
allocated, not what is mapped from files), and its largest resident size is reported.
"""

import json
import os
import resource
import shutil
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}

import torch

from tests.components.inference.foreign_edits import HARMLESS, REFUSED

ROOM = 384 * 1024**2
SECONDS = 20
DOCUMENTS = '{"text": "w1 w2 alpha"}\n{"text": "beta w3"}\n'


def whole_folder(place: Path) -> None:
    """An adapter of three classes in `place`/whole, its backbone and others beside it."""
    from components.adapters import (
        ClassificationHeadConfig,
        PrefixPropagationConfig,
        adapt,
        save_adapter,
    )
    from components.backbones import BackboneConfig, load_backbone, weights_sha256
    from components.config import resolved
    from tests.conftest import build_tiny_longformer
    from tests.toy import LABELS, make_tokenizer

    build_tiny_longformer().save_pretrained(place / "backbone")
    torch.manual_seed(5)
    other = build_tiny_longformer()
    with torch.no_grad():
        other.embeddings.word_embeddings.weight.add_(1.0)
    other.save_pretrained(place / "other")
    build_tiny_longformer(intermediate_size=56).save_pretrained(place / "larger")
    for name in ("backbone", "other", "larger"):
        tokenizer = make_tokenizer(place / name)
    os.mkfifo(place / "pipe")
    source = BackboneConfig(
        source="local", name_or_path=str(place / "backbone"), family="longformer"
    )
    model = adapt(
        load_backbone(source, cache_path=place / "cache"),
        PrefixPropagationConfig(prefix_length=4),
        ClassificationHeadConfig(num_labels=3, labels=LABELS, pooling="prefix"),
    )
    identity = {"load": resolved(source), "weights_sha256": weights_sha256(source)}
    folder = save_adapter(model, place / "whole", training={"max_tokens": 64}, backbone_id=identity)
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "calibration.json").write_text('{"temperature": 1.5}')


def outcome(folder: Path, place: Path) -> dict[str, Any]:
    """{"refused": the line} or {"answers": [...]}; anything else is {"raised": ...}."""
    from components.errors import UserError
    from pipelines.predict import predict

    signal.alarm(SECONDS)
    try:
        predict(
            str(folder),
            input=place / "documents.jsonl",
            output=place / "answers.jsonl",
            tracking_uri=None,
            cache_path=place / "cache",
        )
    except UserError as error:
        return {"refused": str(error)}
    except Exception as error:  # noqa: BLE001  (it is what the test looks for)
        return {"raised": f"{type(error).__name__}: {error}"}
    finally:
        signal.alarm(0)
    return {"answers": (place / "answers.jsonl").read_text().splitlines()}


def outcome_in_a_model(folder: Path, model: Path) -> dict[str, Any]:
    """The same of an MLflow model with this adapter folder in it."""
    import mlflow.pyfunc
    import pandas

    from components.errors import UserError

    adapter = model / "artifacts" / "adapter"
    adapter.unlink(missing_ok=True)
    adapter.symlink_to(folder)
    texts = [json.loads(line)["text"] for line in DOCUMENTS.splitlines()]
    cache = {"cache_path": str(folder.parent / "cache")}
    signal.alarm(SECONDS)
    try:
        loaded = mlflow.pyfunc.load_model(str(model), model_config=cache)
        answers = loaded.predict(pandas.DataFrame({"text": texts}))
    except (UserError, mlflow.exceptions.MlflowException) as error:
        return {"refused": str(error)}
    except Exception as error:  # noqa: BLE001  (it is what the test looks for)
        return {"raised": f"{type(error).__name__}: {error}"}
    finally:
        signal.alarm(0)
    return {"answers": [json.dumps(row) for row in answers.to_dict("records")]}


def hang(*_: Any) -> None:
    raise TimeoutError(f"no answer within {SECONDS} s")


def allocated() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))


def main(place: Path) -> None:
    from components.inference.package import adapter_package
    from components.registry.packaging import save_pyfunc

    signal.signal(signal.SIGALRM, hang)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    whole_folder(place)
    (place / "documents.jsonl").write_text(DOCUMENTS)
    model = place / "model"
    save_pyfunc(model, place / "whole", adapter_package(place / "whole"))
    shutil.rmtree(model / "artifacts" / "adapter")
    found = {"": outcome(place / "whole", place)}
    in_models = {"": outcome_in_a_model(place / "whole", model)}
    limit = allocated() + ROOM
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    edits = {name: edit for name, (edit, _) in REFUSED.items()} | HARMLESS
    for number, (name, edit) in enumerate(edits.items()):
        folder = place / f"folder-{number}"
        shutil.copytree(place / "whole", folder)
        edit(folder)
        found[name] = outcome(folder, place)
        in_models[name] = outcome_in_a_model(folder, model)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"outcomes": found, "in_models": in_models, "peak_bytes": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
