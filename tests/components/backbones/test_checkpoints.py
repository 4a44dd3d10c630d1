"""Checkpoint folders that cannot be trained on: one line that names the field or the file, told by
a plan and by a training alike. What only looks odd is taken.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.backbones import (
    BackboneConfig,
    inspect_backbone,
    load_backbone,
    load_tokenizer,
    weights_sha256,
)
from components.errors import BackboneError
from tests.conftest import build_tiny_decoder, build_tiny_longformer
from tests.toy import make_tokenizer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4f\nsize 12\n"
Edit = Callable[[Path], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint folder of each family."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for family, model in (
        ("longformer", build_tiny_longformer()),
        ("decoder", build_tiny_decoder()),
    ):
        model.save_pretrained(folder / family)
        make_tokenizer(folder / family)
    return folder


def config_of(folder: Path, family: str = "longformer", **changes: Any) -> BackboneConfig:
    values = {"source": "local", "name_or_path": str(folder), "family": family, **changes}
    return BackboneConfig.model_validate(values)


def fields(**changes: Any) -> Edit:
    """An edit of config.json; None takes a field out."""

    def edit(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text()) | changes
        kept = {name: value for name, value in values.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))

    return edit


def content(name: str, text: str | bytes) -> Edit:
    return lambda folder: (folder / name).write_bytes(
        text if isinstance(text, bytes) else text.encode()
    )


def as_torch_file(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def in_shards(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {
        name: f"model-0000{number % 2 + 1}-of-2.safetensors" for number, name in enumerate(tensors)
    }
    for shard in set(places.values()):
        mine = {name: tensors[name] for name, place in places.items() if place == shard}
        save_file(mine, folder / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def cut(name: str) -> Edit:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size * 2 // 3)


def then(*edits: Edit) -> Edit:
    return lambda folder: [edit(folder) for edit in edits]


def without(name: str) -> Edit:
    return lambda folder: (folder / name).unlink()


def as_quantised(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


TAKEN: dict[str, tuple[str, Edit]] = {
    "as saved": ("longformer", lambda folder: None),
    "decoder": ("decoder", lambda folder: None),
    "one window for all layers": ("longformer", fields(attention_window=8)),
    "a torch file": ("longformer", as_torch_file),
    "shards": ("longformer", in_shards),
    "a padding id below zero": ("decoder", fields(pad_token_id=-1)),
}


@pytest.mark.parametrize("how", TAKEN)
def test_whole_checkpoints_are_taken(how: str, whole: Path, tmp_path: Path) -> None:
    family, edit = TAKEN[how]
    shutil.copytree(whole / family, tmp_path / "backbone")
    edit(tmp_path / "backbone")
    config = config_of(tmp_path / "backbone", family)
    assert inspect_backbone(config)["hidden_size"] == 32
    expected = load_backbone(config_of(whole / family, family), cache_path=tmp_path).state_dict()
    loaded = load_backbone(config, cache_path=tmp_path).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


REFUSED: dict[str, tuple[str, Edit, str]] = {
    "no window": ("longformer", fields(attention_window=None), "attention_window is missing"),
    "no padding id": ("longformer", fields(pad_token_id=None), "pad_token_id is missing"),
    "no size": ("decoder", fields(intermediate_size=None), "intermediate_size is missing"),
    "odd window": ("longformer", fields(attention_window=[8, 7]), r"attention_window is \[8, 7\]"),
    "window of zero": ("longformer", fields(attention_window=0), "attention_window is 0"),
    "too few windows": ("longformer", fields(attention_window=[8]), r"one per layer \(2\)"),
    "size as text": ("decoder", fields(hidden_size="32"), 'hidden_size is "32"'),
    "size that is true": ("decoder", fields(num_hidden_layers=True), "num_hidden_layers is true"),
    "negative size": ("decoder", fields(vocab_size=-4), "vocab_size is -4"),
    "heads that do not divide": ("longformer", fields(num_attention_heads=5), "divisor of hidden"),
    "key heads that do not divide": (
        "decoder",
        fields(num_key_value_heads=3),
        "num_key_value_heads",
    ),
    "epsilon as text": ("longformer", fields(layer_norm_eps="tiny"), "layer_norm_eps"),
    "dropout above one": ("longformer", fields(hidden_dropout_prob=1.5), "hidden_dropout_prob"),
    "padding beyond the vocabulary": (
        "longformer",
        fields(pad_token_id=101),
        "pad_token_id is 101",
    ),
    "negative rotary base": ("decoder", fields(rope_parameters={"rope_theta": -1.0}), "rope_theta"),
    "config is a list": ("decoder", content("config.json", "[]"), "holds list"),
    "config twice": ("decoder", content("config.json", '{"a": 1, "a": 2}'), "given twice"),
    "config is a pointer": ("decoder", content("config.json", POINTER), "git lfs pull"),
    "positions raised by hand": (
        "longformer",
        fields(max_position_embeddings=4098),
        r"position_embeddings.weight has shape \[140, 32\].*max_position_embeddings is 4098",
    ),
    "vocabulary cut by hand": ("decoder", fields(vocab_size=99), "embed_tokens.*vocab_size is 99"),
    "layers left out by hand": ("decoder", fields(num_hidden_layers=1), "have 2 layers.*is 1"),
    "head size by hand": ("decoder", fields(head_dim=4), "q_proj|k_proj"),
    "bitsandbytes": (
        "decoder",
        fields(quantization_config={"quant_method": "gptq", "bits": 4}),
        r"quantised \(gptq\) in a way that is not supported",
    ),
    "an empty quantisation": (
        "decoder",
        fields(quantization_config={}),
        "quantization_config says",
    ),
    "MLX": ("decoder", fields(quantization={"bits": 4}), "quantization says"),
    "int8 weights": ("longformer", as_quantised, "query.weight is I8: the weights are quantised"),
    "an adapter beside": ("decoder", content("adapter_config.json", "{}"), "holds an adapter"),
    "no weights": ("decoder", without("model.safetensors"), "holds none of model.safetensors"),
    "empty weights": ("decoder", content("model.safetensors", ""), "is empty"),
    "a pointer": ("decoder", content("model.safetensors", POINTER), "git lfs pull"),
    "a web page": ("decoder", content("model.safetensors", "<!DOCTYPE html><p>"), "web page"),
    "cut weights": ("decoder", cut("model.safetensors"), "model.safetensors is cut off"),
    "a torch pointer": (
        "longformer",
        then(without("model.safetensors"), content("pytorch_model.bin", POINTER)),
        "pytorch_model.bin is a pointer of Git LFS",
    ),
    "a cut torch file": (
        "longformer",
        then(as_torch_file, cut("pytorch_model.bin")),
        "pytorch_model.bin is cut off",
    ),
    "junk as a torch file": (
        "longformer",
        then(without("model.safetensors"), content("pytorch_model.bin", "junk")),
        "is no file of torch weights",
    ),
    "a missing shard": (
        "decoder",
        then(in_shards, without("model-00002-of-2.safetensors")),
        "names the shard model-00002-of-2.safetensors, which is not there",
    ),
    "a cut shard": (
        "decoder",
        then(in_shards, cut("model-00001-of-2.safetensors")),
        "model-00001-of-2.safetensors is cut off",
    ),
    "an index without a map": (
        "decoder",
        then(in_shards, content("model.safetensors.index.json", '{"weight_map": {}}')),
        "index.json names no files",
    ),
    "a shard elsewhere": (
        "decoder",
        then(
            in_shards,
            content("model.safetensors.index.json", '{"weight_map": {"a": "../../x"}}'),
        ),
        "index.json names no files",
    ),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_cannot_be_trained_on_is_named_before_and_while_it_is_loaded(
    how: str, whole: Path, tmp_path: Path
) -> None:
    family, edit, reason = REFUSED[how]
    shutil.copytree(whole / family, tmp_path / "backbone")
    edit(tmp_path / "backbone")
    config = config_of(tmp_path / "backbone", family)
    for look in (inspect_backbone, lambda each: load_backbone(each, cache_path=tmp_path)):
        with pytest.raises(BackboneError, match=reason) as caught:
            look(config)
        assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


class Runs:
    """What a pickle would run."""

    def __reduce__(self) -> Any:
        return print, ("run",)


def test_code_in_a_torch_file_is_not_run_and_nobody_is_told_how_to(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole / "longformer", tmp_path / "backbone")
    (tmp_path / "backbone" / "model.safetensors").unlink()
    torch.save({"weights": Runs()}, tmp_path / "backbone" / "pytorch_model.bin")
    with pytest.raises(BackboneError, match="cannot load the weights") as caught:
        load_backbone(config_of(tmp_path / "backbone"), cache_path=tmp_path)
    assert "weights_only" not in str(caught.value) and "run" not in capsys.readouterr().out


def test_sizes_in_a_torch_file_are_named_too(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "longformer", tmp_path / "backbone")
    then(as_torch_file, fields(max_position_embeddings=600))(tmp_path / "backbone")
    with pytest.raises(BackboneError, match=r"position_embeddings.weight has shape \[140, 32\]"):
        load_backbone(config_of(tmp_path / "backbone"), cache_path=tmp_path)


def test_a_checkpoint_with_missing_tensors_is_not_lengthened(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "vocab_size": 101, "max_position_embeddings": 64}
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path / "bert")
    weights = tmp_path / "bert" / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(weights).items() if "query" not in name}
    save_file(tensors, weights, metadata={"format": "pt"})
    config = config_of(tmp_path / "bert", lengthen_to=128, attention_window=8)
    with pytest.raises(BackboneError, match="lack 4 tensors of a bert model"):
        load_backbone(config, cache_path=tmp_path)
    fields(layer_norm_eps=None)(tmp_path / "bert")
    with pytest.raises(BackboneError, match="layer_norm_eps is missing"):
        inspect_backbone(config)


def test_weights_have_the_hash_of_their_file(whole: Path, tmp_path: Path) -> None:
    import hashlib

    one = weights_sha256(config_of(whole / "decoder", "decoder"))
    assert one == hashlib.sha256((whole / "decoder" / "model.safetensors").read_bytes()).hexdigest()
    shutil.copytree(whole / "decoder", tmp_path / "backbone")
    in_shards(tmp_path / "backbone")
    assert weights_sha256(config_of(tmp_path / "backbone", "decoder")) != one


# --- tokenizers ---


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def roberta_vocabulary(folder: Path, *, merges: bool = True) -> None:
    """vocab.json and merges.txt alone, as RoBERTa and the first Longformers have them."""
    without_tokenizer(folder)
    (folder / "tokenizer_config.json").unlink()
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdefghijklmnopqrstuvwxyz", "th"]
    vocabulary = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    if merges:
        (folder / "merges.txt").write_text("#version: 0.2\nt h\n")


def bert_vocabulary(folder: Path) -> None:
    without_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "##ly"]
    (folder / "vocab.txt").write_text("\n".join(words))


def of_tokenizer(change: Callable[[dict[str, Any]], Any]) -> Edit:
    def edit(folder: Path) -> None:
        values = json.loads((folder / "tokenizer.json").read_text())
        change(values)
        (folder / "tokenizer.json").write_text(json.dumps(values))

    return edit


def more_words(values: dict[str, Any]) -> None:
    values["model"]["vocab"] |= {f"more{index}": 87 + index for index in range(20)}


def special_words_alone(values: dict[str, Any]) -> None:
    names = ("<s>", "<pad>", "</s>", "<unk>")
    values["model"]["vocab"] = {word: index for index, word in enumerate(names)}


def nothing_is_a_word(values: dict[str, Any]) -> None:
    """Every text is one piece, which no vocabulary has."""
    values["pre_tokenizer"] = None
    values["normalizer"] = {"type": "Prepend", "prepend": "~"}


@pytest.mark.parametrize("edit", [roberta_vocabulary, bert_vocabulary])
def test_vocabularies_under_other_names_are_read(edit: Edit, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "longformer", tmp_path / "backbone")
    edit(tmp_path / "backbone")
    inspect_backbone(config_of(tmp_path / "backbone"))
    assert len(load_tokenizer(config_of(tmp_path / "backbone"))) in (8, 32)


@pytest.mark.parametrize(
    "name", "tokenizer.model spiece.model sentencepiece.bpe.model tekken.json bpe.codes".split()
)
def test_a_vocabulary_of_any_name_is_no_missing_one(name: str, whole: Path, tmp_path: Path) -> None:
    """What cannot be read here (a library may be missing) is told as that."""
    shutil.copytree(whole / "decoder", tmp_path / "backbone")
    (tmp_path / "backbone" / "tokenizer.json").rename(tmp_path / "backbone" / name)
    config = config_of(tmp_path / "backbone", "decoder")
    inspect_backbone(config)
    with pytest.raises(BackboneError, match=r"cannot be read.* Save it as tokenizer.json|no words"):
        load_tokenizer(config)


UNREADABLE: dict[str, tuple[Edit, str]] = {
    "no files": (without_tokenizer, "holds no tokenizer files"),
    "a pointer": (content("tokenizer.json", POINTER), "tokenizer.json is a pointer of Git LFS"),
    "an empty file": (content("tokenizer.json", ""), "tokenizer.json is empty"),
    "no tokenizer": (content("tokenizer.json", '{"version": "1.0"}'), "cannot be read"),
    "settings are a list": (content("tokenizer_config.json", "[]"), "is no JSON object"),
    "more tokens than embeddings": (of_tokenizer(more_words), "'more19' has id 106 and vocab_size"),
    "special tokens alone": (of_tokenizer(special_words_alone), "4 special tokens and no words"),
    "every text unknown": (of_tokenizer(nothing_is_a_word), "every text into special tokens"),
}


@pytest.mark.parametrize("how", UNREADABLE)
def test_a_tokenizer_without_words_is_named_before_and_while_it_is_loaded(
    how: str, whole: Path, tmp_path: Path
) -> None:
    edit, reason = UNREADABLE[how]
    shutil.copytree(whole / "longformer", tmp_path / "backbone")
    edit(tmp_path / "backbone")
    for look in (inspect_backbone, load_tokenizer):
        with pytest.raises(BackboneError, match=reason):
            look(config_of(tmp_path / "backbone"))


def test_a_vocabulary_that_its_kind_does_not_read_is_an_empty_one(
    whole: Path, tmp_path: Path
) -> None:
    """A vocab.txt beside a model whose tokenizer reads vocab.json: nothing of it is taken."""
    shutil.copytree(whole / "longformer", tmp_path / "backbone")
    bert_vocabulary(tmp_path / "backbone")
    (tmp_path / "backbone" / "tokenizer_config.json").unlink()
    with pytest.raises(BackboneError, match="5 special tokens and no words"):
        load_tokenizer(config_of(tmp_path / "backbone"))
