"""`training.precision: stored` computes in the arithmetic of the checkpoint, or says why not."""

from pathlib import Path
from typing import Any

import pytest
import torch

from components.backbones import BackboneConfig, stored_precision
from components.backbones.mapped_weights import read_only_tensors
from components.errors import BackboneError
from tests.conftest import build_tiny_decoder
from tests.toy import make_experiment


def stored(folder: Path, dtype: torch.dtype) -> BackboneConfig:
    build_tiny_decoder().to(dtype).save_pretrained(folder)
    return BackboneConfig(source="local", name_or_path=str(folder), family="decoder")


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [(torch.float32, "fp32"), (torch.bfloat16, "bf16")],
    ids=["float32", "bfloat16"],
)
def test_the_arithmetic_is_that_of_the_weights(
    tmp_path: Path, dtype: torch.dtype, precision: str
) -> None:
    assert stored_precision(stored(tmp_path, dtype)) == precision


def test_of_torch_files_config_json_says_it(tmp_path: Path) -> None:
    config = stored(tmp_path, torch.bfloat16)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    assert stored_precision(config) == "bf16"


def test_float16_is_refused_with_what_fits(tmp_path: Path) -> None:
    config = stored(tmp_path, torch.float16)
    with pytest.raises(BackboneError, match=r"are F16, .*Set training.precision to fp32"):
        stored_precision(config)


def test_a_session_computes_and_remembers_it(tmp_path: Path) -> None:
    from components.config import ExperimentConfig, validate
    from components.training.session import open_session
    from components.training.world import World

    backbone = build_tiny_decoder(pad_token_id=1).to(torch.bfloat16)
    values: dict[str, Any] = make_experiment(
        tmp_path, backbone, **{"head.pooling": "last", "training.precision": "stored"}
    )
    config = validate(ExperimentConfig, values).train_config()
    world = World(rank=0, size=1, device=torch.device("cpu"))
    session = open_session(config, world, cache_path=tmp_path / "cache")
    assert session.precision == "bf16"
    assert {each.dtype for each in session.backbone.parameters()} == {torch.bfloat16}


def test_read_only_pages_hold_the_file_s_numbers(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    stored(tmp_path, torch.bfloat16)
    file = tmp_path / "model.safetensors"
    ours, theirs = read_only_tensors(file), load_file(file)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor) and ours[name].dtype == tensor.dtype
