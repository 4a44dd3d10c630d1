"""Fixtures that the tests of the registry and of its workflows share: one migrated database, tiny
adapters that a fresh process can load, an MLflow server.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import build_tiny_decoder, build_tiny_longformer

WORDS = [
    "the",
    "a",
    "of",
    "long",
    "text",
    "document",
    "about",
    "space",
    "sports",
    "politics",
    "one",
    "two",
    "three",
    "people",
    "wrote",
    "every",
    "day",
    "in",
    "town",
    "and",
    "then",
]
FOLDERS: dict[str, Path] = {}
LABELS = ("politics", "space", "sports")


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of its own for the session: the first migration of a fresh one takes seconds, so
    tests share it and take names of their own.
    """
    # pytest counts a fixture that two conftest files import as two; the folder is one.
    if "mlflow" not in FOLDERS:
        FOLDERS["mlflow"] = tmp_path_factory.mktemp("mlflow")
    return f"sqlite:///{FOLDERS['mlflow']}/mlflow.db"


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server with proxied artifacts; ended by its process group."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
        "--serve-artifacts",
    ]
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_healthy(f"http://127.0.0.1:{port}/health", process, folder / "log.txt")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _wait_until_healthy(
    url: str, process: "subprocess.Popen[bytes]", log: Path, *, seconds: float = 120.0
) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the MLflow server did not come up: {log.read_text()[-2000:]}")


@pytest.fixture
def plain_adapter(tmp_path: Path) -> Path:
    """A folder with the files of an artifact but no weights worth loading: enough for everything
    that only stores and moves it.
    """
    folder = tmp_path / "plain-adapter"
    (folder / "tokenizer").mkdir(parents=True)
    config = {
        "format": 1,
        "method": "prefix_propagation",
        "prefix_length": 4,
        "backbone": {"name_or_path": "tiny"},
        "head": {"num_labels": 3, "labels": list(LABELS)},
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)))
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    return folder


def tiny_tokenizer(*, pad_id: int) -> Any:
    """A word-level tokenizer of 101 ids or fewer whose padding token has the given id (0 or 1)."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    first = ["<pad>", "<s>"] if pad_id == 0 else ["<s>", "<pad>"]
    vocabulary = {word: index for index, word in enumerate([*first, "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
    )


@pytest.fixture
def tiny_adapter(tmp_path: Path) -> Callable[[str], tuple[Path, Any]]:
    """Builds (artifact folder, live model) for a family, on a backbone saved to disk; the
    temperature is 1.7.
    """
    return lambda family: make_tiny_adapter(tmp_path, family)


def make_tiny_adapter(place: Path, family: str) -> tuple[Path, Any]:
    """The same below `place`."""
    import torch

    from components.adapters import (
        ClassificationHeadConfig,
        PrefixPropagationConfig,
        adapt,
        save_adapter,
    )
    from components.backbones import load_backbone
    from components.config import BackboneConfig, resolved

    torch.set_num_threads(1)
    backbone_folder = place / f"{family}-backbone"
    original = build_tiny_decoder() if family == "decoder" else build_tiny_longformer()
    original.save_pretrained(backbone_folder)
    tokenizer = tiny_tokenizer(pad_id=original.config.pad_token_id)
    tokenizer.save_pretrained(backbone_folder)
    source = BackboneConfig(
        source="local",
        name_or_path=str(backbone_folder),
        family="decoder" if family == "decoder" else "longformer",
    )
    backbone = load_backbone(source, cache_path=place / "cache")
    head = ClassificationHeadConfig(
        num_labels=3, labels=LABELS, pooling="last" if family == "decoder" else "prefix"
    )
    model = adapt(backbone, PrefixPropagationConfig(prefix_length=4), head).eval()
    with torch.no_grad():
        # As drawn, one class answers everything: centre the logits on the sample and spread
        # them.
        batch = tokenizer(
            sample_texts(20), padding=True, truncation=True, max_length=96, return_tensors="pt"
        )
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        scale = 2 / logits.std(dim=0).mean()
        model.head.out_proj.weight.mul_(scale)
        model.head.out_proj.bias.copy_(-scale * logits.mean(dim=0))
    folder = save_adapter(
        model,
        place / f"{family}-adapter",
        training={"max_tokens": 96},
        backbone_id={"load": resolved(source)},
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "calibration.json").write_text(json.dumps({"temperature": 1.7}))
    return folder, model


def sample_texts(count: int) -> list[str]:
    """Different texts of 3 to about 120 words: some longer than the 96 tokens of the tiny
    adapters.
    """
    return [
        " ".join(
            WORDS[(7 * row + 3 * place * (row + 1)) % len(WORDS)]
            for place in range(3 + (17 * row) % 120)
        )
        for row in range(count)
    ]
