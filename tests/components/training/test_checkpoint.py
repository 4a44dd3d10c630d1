"""A damaged checkpoint never gives a wrong number: the one before it takes its place, else none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from components.checksums import CHECKSUMS_FILE
from components.errors import ArtifactError
from components.training.checkpoint import (
    Checkpoint,
    before,
    load_checkpoint,
    save_checkpoint,
    settle,
)
from components.training.outcomes import Progress


def checkpoint(step: int) -> Checkpoint:
    values = {"prefix": torch.full((3, 5), float(step)) / 7}
    moments = {"prefix.exp_avg": values["prefix"] / 3}
    return Checkpoint(Progress(step=step), "key", values, moments, dict(values))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a bit of a parameter": lambda folder: flip(folder / "trainable.safetensors"),
    "a bit of a moment": lambda folder: flip(folder / "optimizer.safetensors"),
    "a bit of the best": lambda folder: flip(folder / "best.safetensors"),
    "a cut file": lambda folder: (folder / "best.safetensors").write_bytes(b"\0" * 9),
    "another step": lambda folder: (folder / "state.json").write_text(
        (folder / "state.json").read_text().replace('"step": 2', '"step": 3')
    ),
    "half a state": lambda folder: (folder / "state.json").write_text("{"),
    "broken checksums": lambda folder: (folder / CHECKSUMS_FILE).write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "checkpoint"
    for step in (1, 2):
        save_checkpoint(folder, checkpoint(step))
    assert settle(folder) == "whole"
    DAMAGES[damage](folder)
    with pytest.raises(ArtifactError, match="no whole checkpoint"):
        load_checkpoint(folder, resume_key="key")
    with pytest.warns(RuntimeWarning, match=r"checkpoint\.damaged"):
        assert settle(folder) == "earlier"
    found = load_checkpoint(folder, resume_key="key")
    assert found.progress.step == 1 and bool((found.best["prefix"] == 1 / 7).all())
    assert settle(folder) == "whole" and not before(folder).exists()


def test_where_both_are_damaged_training_starts_again(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    for step in (1, 2):
        save_checkpoint(folder, checkpoint(step))
    for each in (folder, before(folder)):
        flip(each / "best.safetensors")
    with pytest.warns(RuntimeWarning, match=r"checkpoint\.before\.damaged"):
        assert settle(folder) == "none"


def test_a_checkpoint_from_before_there_were_checksums_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, checkpoint(1))
    (folder / CHECKSUMS_FILE).unlink()
    assert settle(folder) == "whole"
    assert load_checkpoint(folder, resume_key="key").progress.step == 1
    (folder / "best.safetensors").write_bytes(b"\0" * 9)
    with pytest.warns(RuntimeWarning, match="put aside"):
        assert settle(folder) == "none"


def test_of_another_training_is_another_thing_than_damaged(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", replace(checkpoint(1), resume_key="other"))
    with pytest.raises(ArtifactError, match="belongs to another configuration"):
        load_checkpoint(tmp_path / "checkpoint", resume_key="key")
