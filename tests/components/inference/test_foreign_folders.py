"""Adapter folders that nobody here wrote: refused in one line, or harmless, in the command line and
in a registered model alike. All of them are asked for answers in one process, whose memory is
bounded and measured (foreign_folders.py; what is done to
them: foreign_edits.py).
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.backbones import weights_sha256
from components.errors import ArtifactError, BackboneError
from components.inference.named_backbone import named_backbone
from pipelines.command_line.printable import printable
from tests.components.inference.foreign_edits import AT_ITS_WORD, HARMLESS, REFUSED

LABELS = ["alpha", "beta", "gamma"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.components.inference.foreign_folders"),
            str(tmp_path_factory.mktemp("folders")),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def no_number(name: str) -> Any:
    raise ValueError(name)


@pytest.mark.slow
@pytest.mark.parametrize("how", REFUSED)
def test_in_a_registered_model_it_is_refused_in_the_same_line(
    how: str, found: dict[str, Any]
) -> None:
    """A backbone that it names is taken: whoever may register a model decides what it runs."""
    outcome = found["in_models"][how]
    if how == "a backbone of its own":
        assert list(outcome) == ["answers"], outcome
        return
    assert list(outcome) == ["refused"], outcome
    assert "\n" not in outcome["refused"] and len(outcome["refused"]) < 600
    if how not in AT_ITS_WORD:
        assert re.search(REFUSED[how][1], outcome["refused"]), outcome


@pytest.mark.slow
@pytest.mark.parametrize("how", HARMLESS)
def test_in_a_registered_model_it_answers_as_in_the_command_line(
    how: str, found: dict[str, Any]
) -> None:
    told, in_model = (found[where][how]["answers"] for where in ("outcomes", "in_models"))
    assert len(in_model) == len(told) == 2
    for answer, expected in zip(map(json.loads, in_model), map(json.loads, told), strict=True):
        assert answer == {name: expected[name] for name in ("label", "probabilities")}


@pytest.mark.slow
@pytest.mark.parametrize("how", REFUSED)
def test_a_folder_that_cannot_be_believed_is_refused_in_one_line(
    how: str, found: dict[str, Any]
) -> None:
    outcome = found["outcomes"][how]
    assert list(outcome) == ["refused"], outcome
    assert re.search(REFUSED[how][1], outcome["refused"]), outcome
    assert "\n" not in outcome["refused"] and len(outcome["refused"]) < 600


@pytest.mark.slow
@pytest.mark.parametrize("how", HARMLESS)
def test_a_folder_that_only_looks_odd_answers_as_the_whole_one(
    how: str, found: dict[str, Any]
) -> None:
    rows = {name: found["outcomes"][name].get("answers", ()) for name in ("", how)}
    whole, odd = (
        [json.loads(row, parse_constant=no_number) for row in rows[name]] for name in rows
    )
    assert len(odd) == 2
    for answer, expected in zip(odd, whole, strict=True):
        probabilities = list(answer["probabilities"].values())
        assert sum(probabilities) == pytest.approx(1.0, abs=1e-5)
        # bfloat16 and float16 keep three digits.
        assert probabilities == pytest.approx(list(expected["probabilities"].values()), abs=1e-2)


@pytest.mark.slow
def test_no_folder_takes_a_gigabyte(found: dict[str, Any]) -> None:
    assert found["peak_bytes"] < 1024**3


def test_labels_do_not_move_the_cursor() -> None:
    assert printable("\x1b[2Jred\x9b31m\u202e") == "\\x1b[2Jred\\x9b31m\\u202e"
    text = "\u00c4mter, \u90e8\u9580 und\n Haus \N{FAMILY}\u200d"
    assert printable(text) == text


# --- which backbone an adapter may bring to life ---

LOAD = {"source": "hub", "name_or_path": "some/model", "revision": "v1", "family": "longformer"}


def test_the_users_backbone_takes_the_place_of_the_adapters(tmp_path: Path) -> None:
    config = {"backbone": {"load": LOAD | {"hidden_dropout": 0.2}}}
    (tmp_path / "copy").mkdir()
    local = named_backbone(config, tmp_path, given=str(tmp_path / "copy"))
    assert (local.source, local.name_or_path) == ("local", str(tmp_path / "copy"))
    assert (local.revision, local.hidden_dropout) == (None, 0.2)
    same = named_backbone(config, tmp_path, given="some/model")
    assert (same.source, same.revision) == ("hub", "v1")
    assert named_backbone(config, tmp_path, given="other/model").revision is None
    installed = named_backbone(config, tmp_path, given="all-MiniLM-L6-v2")
    assert installed.source == "installed"
    handwritten = {"backbone": {"family": "longformer"}}
    assert named_backbone(handwritten, tmp_path, given="some/model").family == "longformer"
    with pytest.raises(ArtifactError, match="Give --backbone"):
        named_backbone(handwritten, tmp_path)


def test_a_hub_model_that_is_here_is_taken_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"some/model": str(tmp_path / "config.json")}
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda name, file, revision: here.get(name)
    )
    with pytest.warns(UserWarning, match="records no hash of the weights"):
        assert named_backbone({"backbone": {"load": LOAD}}, tmp_path).name_or_path == "some/model"
    with pytest.raises(ArtifactError, match="--backbone another/one"):
        named_backbone({"backbone": {"load": LOAD | {"name_or_path": "another/one"}}}, tmp_path)
    trusted = named_backbone(
        {"backbone": {"load": LOAD | {"name_or_path": "another/one"}}}, tmp_path, trusted=True
    )
    assert trusted.name_or_path == "another/one"


def test_a_recorded_hash_holds_for_the_users_and_for_trusted_backbones_too(
    tmp_path: Path, tiny_longformer: Any
) -> None:
    tiny_longformer().save_pretrained(tmp_path / "backbone")
    load = LOAD | {"source": "local", "name_or_path": str(tmp_path / "backbone"), "revision": None}
    with pytest.warns(UserWarning, match="records no hash of the weights"):
        source = named_backbone({"backbone": {"load": load}}, tmp_path / "adapter")
    whole = {"backbone": {"load": load, "weights_sha256": weights_sha256(source)}}
    assert named_backbone(whole, tmp_path / "adapter") == source
    other = {"backbone": {"load": load, "weights_sha256": "0" * 64}}
    for options in ({}, {"trusted": True}, {"given": str(tmp_path / "backbone")}):
        with pytest.raises(ArtifactError, match="trained on weights with sha256 000"):
            named_backbone(other, tmp_path / "adapter", **options)
    (tmp_path / "backbone" / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match="holds none of"):
        named_backbone(other, tmp_path / "adapter", trusted=True)
