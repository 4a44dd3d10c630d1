"""Adapters of label words answer as the live model does wherever they are loaded: alone, several
from one reading of each prompt, as MLflow loads them.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas
import pytest
import torch

from components.adapters import PrefixPropagationConfig, adapt, save_adapter
from components.adapters.side_by_side import Share, logits_side_by_side
from components.backbones import BackboneConfig, load_backbone
from components.backbones.readers import RandomState
from components.config import DataConfig, resolved, validate
from components.inference import classify
from components.inference.classifier import Classifier, load_classifier
from components.inference.package import adapter_package
from components.inference.several import Several
from components.registry.packaging import save_pyfunc
from components.tasks import HeadConfig
from components.tasks.label_words import LABEL_WORDS
from tests.conftest import build_tiny_decoder
from tests.registry_fixtures import LABELS, sample_texts, tiny_tokenizer

TEMPLATE = "the {text} about"
MOST = 40


def made(place: Path, name: str, **words: str) -> tuple[Path, Any]:
    """(artifact folder, live model) of a suffix on a backbone with a tied head."""
    source = BackboneConfig(source="local", name_or_path=str(place / "backbone"), family="decoder")
    tokenizer = tiny_tokenizer(pad_id=0)
    if not (place / "backbone").exists():
        tied = build_tiny_decoder(initializer_range=0.3, tie_word_embeddings=True)
        tied.save_pretrained(place / "backbone")
        tokenizer.save_pretrained(place / "backbone")
    values = {"files": {"train": "x.jsonl"}, "task": "label_words", "template": TEMPLATE}
    data = validate(DataConfig, values | {"label_words": words or None, "max_tokens": MOST})
    head = LABEL_WORDS.head_config(HeadConfig(), LABELS, data=data, tokenizer=tokenizer)
    torch.manual_seed(len(name))
    method = PrefixPropagationConfig(prefix_length=3, init_std=0.5, placement="suffix")
    model = adapt(load_backbone(source, cache_path=place), method, head).eval()
    folder = save_adapter(
        model,
        place / name,
        training={"max_tokens": MOST, **LABEL_WORDS.cutting(data)},
        backbone_id={"load": resolved(source)},
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder, model


def live(model: Any, texts: list[str]) -> Any:
    cutting = {"template": TEMPLATE}
    return classify(model, tiny_tokenizer(pad_id=0), texts, max_tokens=MOST, cutting=cutting)


def rows(answers: Any) -> Any:
    found = [[each["probabilities"][label] for label in LABELS] for each in answers]
    return np.array(found, dtype=np.float32)


def test_a_loaded_one_and_mlflow_s_answer_as_the_live_model(tmp_path: Path) -> None:
    folder, model = made(tmp_path, "adapter", politics="people")
    texts = sample_texts(11)
    expected = live(model, texts)
    loaded = load_classifier(folder, trusted=True)
    assert np.array_equal(rows(loaded.answers(texts)), expected)
    assert np.array_equal(loaded.probabilities(texts), expected)
    save_pyfunc(tmp_path / "model", folder, adapter_package(folder))
    answers = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(
        pandas.DataFrame({"text": texts})
    )
    assert np.array_equal(rows(answers.to_dict("records")), expected)
    assert not np.allclose(expected, expected[0])


def test_several_of_one_template_read_a_prompt_once(tmp_path: Path) -> None:
    texts, named = sample_texts(5), {}
    expected = {}
    for name in ("one", "other"):
        folder, model = made(tmp_path, name)
        named[name], expected[name] = load_classifier(folder, trusted=True), live(model, texts)
    several = Several(named)
    assert several.passes() == (("one", "other"),)
    found = list(several.answers(texts))
    for name in named:
        assert np.array_equal(rows([each[name] for each in found]), expected[name])


def test_another_template_is_another_reading(tmp_path: Path) -> None:
    one = load_classifier(made(tmp_path, "one")[0], trusted=True)
    values = {**vars(one), "cutting": {**one.cutting, "template": "a {text} about"}}
    values.pop("tokenizer_id", None)
    assert Several({"one": one, "other": Classifier(**values)}).passes() == (("one",), ("other",))


def test_side_by_side_they_answer_as_alone(tmp_path: Path) -> None:
    backbone: Any = None
    models = []
    for name in ("one", "other"):
        _, model = made(tmp_path, name)
        backbone = backbone or model.backbone
        again = adapt(backbone, model.adapter_config, model.head_config).eval()
        again.load_state_dict(model.state_dict())
        models.append(again)
    tokenizer = tiny_tokenizer(pad_id=0)
    encoded = LABEL_WORDS.encoded(
        sample_texts(2), tokenizer, max_tokens=MOST, cutting={"template": TEMPLATE}
    )
    batch: Any = tokenizer.pad({"input_ids": [ids for (ids,) in encoded]}, return_tensors="pt")
    with torch.no_grad():
        states = models[0].read_text(batch["input_ids"], batch["attention_mask"])
        shares = [Share(model, states, RandomState(torch.device("cpu"))) for model in models]
        found = logits_side_by_side(shares)
        for model, logits in zip(models, found, strict=True):
            alone = model(batch["input_ids"], batch["attention_mask"]).logits
            torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("template", [None, 7, "no place"])
def test_a_template_that_somebody_broke_is_named(template: Any, tmp_path: Path) -> None:
    from components.errors import ArtifactError

    one = load_classifier(made(tmp_path, "one")[0], trusted=True)
    values = {**vars(one), "cutting": {**one.cutting, "template": template}}
    values.pop("tokenizer_id", None)
    with pytest.raises(ArtifactError, match=r"training\.template"):
        list(Classifier(**values).answers(["the town"]))
