"""The backbones of commit befcae5, made again from drawn weights, and a folder in which its
artifacts find what they name.
"""

import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


DATA = Path(__file__).with_name("befcae5")


MADE_IN = "/made/by/befcae5"


"""Stands in the stored files for the folder that they were written in."""


HUB_ID = "befcae5/longformer"


SECONDS = 900


"""For one process, on a busy machine."""


def read(name: str) -> Any:
    """One of the stored JSON files."""
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def names(file: str, key: str) -> list[str]:
    """The names below a key of a stored file (none while the files are being written)."""
    return sorted(read(file)[key]) if (DATA / file).exists() else []


def build_longformer() -> Any:
    """A LongformerModel: 2 layers, 2 heads, D=8, window 4, 48 positions."""
    from transformers import LongformerConfig, LongformerModel

    config = LongformerConfig(
        vocab_size=32,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        attention_window=[4, 4],
        max_position_embeddings=48,
        type_vocab_size=1,
        pad_token_id=1,
        initializer_range=0.3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return drawn(LongformerModel(config, add_pooling_layer=False))


def build_decoder() -> Any:
    """A LlamaModel: 2 layers, 2 heads, 1 key/value head, D=8, 48 positions."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=32,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=12,
        max_position_embeddings=48,
        pad_token_id=1,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=2,
    )
    return drawn(LlamaModel(config))


BACKBONES = {"longformer": build_longformer, "decoder": build_decoder}


def drawn(model: Any) -> Any:
    """The model with weights drawn by name: the same ones under any torch."""
    import torch

    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            values = uniform(name, tensor.numel(), width=1.0)
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            tensor.copy_(centre + torch.tensor(values, dtype=torch.float64).view(tensor.shape))
    return model.eval()


def uniform(name: str, count: int, *, width: float) -> list[float]:
    """Numbers between -width/2 and width/2 that follow from the name alone."""
    draw = random.Random(f"befcae5 {name}")
    return [(draw.random() - 0.5) * width for _ in range(count)]


def weights_sha256(model: Any) -> str:
    """Hash of names, shapes and float32 values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def backbone(family: str) -> Any:
    """The backbone that befcae5 had; skips the test where it cannot be had here."""
    model = BACKBONES[family]()
    if weights_sha256(model) != read("backbones.json")["sha256"][family]:
        made = read("backbones.json")["made_with"]["transformers"]
        pytest.skip(
            f"transformers {version('transformers')} names or shapes the weights of a {family}"
            f" backbone otherwise than {made}: the stored adapters belong to another one"
        )
    return model


def furnish(folder: Path) -> Path:
    """Lay out, below `folder`, what the stored files name by relative paths and by hub id."""
    for family in BACKBONES:
        backbone(family).save_pretrained(folder / "backbones" / family)
        shutil.copytree(DATA / "tokenizer", folder / "backbones" / family, dirs_exist_ok=True)
    hub = folder / "hf" / "hub" / f"models--{HUB_ID.replace('/', '--')}"
    shutil.copytree(folder / "backbones" / "longformer", hub / "snapshots" / ("0" * 40))
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("0" * 40)
    for name in ("documents", "questions"):
        shutil.copytree(DATA / name, folder / name)
    return folder


def run(folder: Path, *arguments: str, this_code: bool = True) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, in `folder`, with its own hub cache and MLflow store."""
    ours = ("RAY_", "MLFLOW_", "HF_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=kept | environment(folder) | ({"PYTHONPATH": str(ROOT)} if this_code else {}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def environment(folder: Path) -> dict[str, str]:
    """What the processes of these tests are told."""
    return {
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RAY_ADDRESS": "local",
        "RAY_AUTH_MODE": "disabled",
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def made_with() -> dict[str, str]:
    """What decides the last bits of a trial's numbers: packages and processor."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    about = dict(reversed([tuple(map(str.strip, line.partition(":")[::2])) for line in lines]))
    cpu = [about.get(key, "?") for key in ("model name", "cpu family", "model", "stepping")]
    return {
        **{package: version(package) for package in ("torch", "transformers", "deepspeed")},
        "cpu": " ".join([platform.machine(), *cpu, torch.backends.cpu.get_cpu_capability()]),
    }


def trial_histories(experiments: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Each evaluation of real trials in this process: ZeRO 0, float32, one thread; floats as hex.

    Run as `python test_befcae5.py` in a furnished folder.
    """
    # These follow the code when it moves.
    import torch

    from components.config import ExperimentConfig, validate
    from components.tasks import prepare
    from components.training.session import open_session
    from components.training.trial import run_trial
    from components.training.world import join_world

    torch.set_num_threads(1)
    world, found = join_world(torch.device("cpu")), {}
    for name, values in experiments.items():
        config = validate(ExperimentConfig, values).train_config()
        session = open_session(config, world, cache_path=folder / "cache")
        data = prepare(
            config.data, session.tokenizer, tokenizer_id="toy", cache_path=folder / "cache"
        )
        result = run_trial(session, data, config, checkpoint_folder=folder / "trials" / name)
        found[name] = [
            {metric: entry[metric].hex() for metric in ("train/loss", "validation/nll")}
            for entry in result.progress.history
        ]
    return found
