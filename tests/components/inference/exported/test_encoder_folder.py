"""A folder for plain transformers answers as an encoder's adapter does: texts alone and padded
together. What would not is refused, by name.

Tolerance: 1e-6, what an export states; our fast attention of Longformer sums in another order.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from components.errors import ConfigError
from components.inference.classifier import Classifier
from components.inference.exported import encoder_classifier
from components.inference.exported.alike import SAMPLE_TEXTS, TOLERANCE, _logits
from components.inference.exported.encoder_folder import write_encoder
from tests.components.backbones.rotary.tiny import tiny_model
from tests.components.inference.exported.stock_backbones import SPREAD, P, classifier_on
from tests.conftest import build_tiny_longformer

KINDS = ("longformer", "modernbert", "eurobert")


def on(kind: str, place: Path, **given: Any) -> Classifier:
    if kind == "longformer":
        return classifier_on(place, build_tiny_longformer(initializer_range=SPREAD), **given)
    return classifier_on(place, tiny_model(kind, initializer_range=SPREAD), **given)


def exported(classifier: Classifier, place: Path) -> Path:
    folder = place / "exported"
    folder.mkdir()
    write_encoder(classifier, folder, cache_path=place / "cache")
    return folder


def largest_difference(classifier: Classifier, folder: Path, backbone: str | None = None) -> float:
    loaded = encoder_classifier.Classifier(str(folder), backbone)
    batches = [list(SAMPLE_TEXTS), *([text] for text in SAMPLE_TEXTS)]
    return max(
        float((loaded.logits(batch) - _logits(classifier, batch)).abs().max()) for batch in batches
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["prefix", "cls", "mean", "last"])
def test_plain_transformers_answers_as_the_adapter_does(
    kind: str, pooling: str, tmp_path: Path
) -> None:
    classifier = on(kind, tmp_path, pooling=pooling)
    assert largest_difference(classifier, exported(classifier, tmp_path)) <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("prefix_propagation", {"rank": 2}),
        ("prefix_propagation", {"dropout": 0.5}),
        ("adaptive_prefix_propagation", {}),
        ("prompt_tuning", {}),
    ],
)
def test_every_form_of_rows_before_the_text_is_exported(
    kind: str, method: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    classifier = on(kind, tmp_path, method=method, **settings)
    assert largest_difference(classifier, exported(classifier, tmp_path)) <= TOLERANCE


def test_the_prefix_and_what_the_backbone_learnt_decide_the_answers(tmp_path: Path) -> None:
    """The comparison can fail: without either the logits are others."""
    from safetensors.torch import load_file, save_file

    classifier = on("longformer", tmp_path, pooling="prefix")
    folder = exported(classifier, tmp_path)
    tensors = load_file(folder / "adapter.safetensors")
    assert tensors["prefix"].shape == (2, P, 32) and not tensors["rows"].any()
    types = "backbone.embeddings.token_type_embeddings.weight"
    for name in ("prefix", types):
        save_file(tensors | {name: tensors[name] * 1.1}, folder / "adapter.safetensors")
        assert largest_difference(classifier, folder) > 1e-4, name


def test_a_lengthened_backbone_goes_with_its_adapter(tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 101, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0}
    heads = {"num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 32}
    bert = BertModel(BertConfig(**sizes, **heads, initializer_range=SPREAD))
    loading = {"family": "longformer", "lengthen_to": 128, "attention_window": 8}
    classifier = classifier_on(tmp_path, bert, pooling="prefix", loading=loading)
    folder = exported(classifier, tmp_path)
    told = json.loads((folder / "classifier.json").read_text())
    assert told["backbone"] is None and (folder / "backbone" / "config.json").is_file()
    assert largest_difference(classifier, folder) <= TOLERANCE


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        ("llama", {}, "backbone.family decoder is not among longformer, encoder"),
        ("modernbert", {"method": "prefix_tuning"}, "adapter.method prefix_tuning is more than"),
        ("longformer", {"method": "kernel_propagation"}, "adapter.method kernel_propagation is"),
        ("eurobert", {"placement": "one_way"}, "adapter.placement one_way reads the text apart"),
    ],
)
def test_what_is_more_than_rows_before_the_text_is_refused_before_anything_is_written(
    kind: str, given: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    classifier = on(kind, tmp_path, **given)
    with pytest.raises(ConfigError, match=reason):
        exported(classifier, tmp_path)
    assert not any((tmp_path / "exported").iterdir())
