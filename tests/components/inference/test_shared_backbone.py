"""Adapters that are loaded in one process share backbone and tokenizer, answer as if each had its
own, and may be asked by many threads at once.
"""

import gc
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.inference import shared_backbone
from components.inference.classifier import Classifier, load_classifier
from tests.registry_fixtures import sample_texts

pytestmark = pytest.mark.filterwarnings("ignore:.*records no hash of the weights")
TENSORS = "adapter_model.safetensors"
Adapters = Callable[[str, int], list[Path]]


@pytest.fixture(autouse=True)
def nothing_loaded() -> None:
    gc.collect()
    shared_backbone._LOADED.clear()


@pytest.fixture
def adapters(tiny_adapter: Callable[[str], tuple[Path, Any]]) -> Adapters:
    """So many adapters of one backbone, each with values of its own."""

    def build(family: str, count: int) -> list[Path]:
        folder, _ = tiny_adapter(family)
        found = [folder]
        for number in range(1, count):
            other = folder.with_name(f"{folder.name}-{number}")
            shutil.copytree(folder, other)
            draw = torch.Generator().manual_seed(number)
            tensors = {
                name: tensor + 0.3 * torch.randn(tensor.shape, generator=draw)
                for name, tensor in load_file(folder / TENSORS).items()
            }
            (other / TENSORS).unlink()
            save_file(tensors, other / TENSORS)
            found.append(other)
        return found

    return build


def answers(classifier: Classifier, texts: list[str]) -> list[dict[str, Any]]:
    return list(classifier.answers(texts))


def storages(classifier: Classifier) -> set[int]:
    backbone = classifier.model.backbone
    return {tensor.data_ptr() for tensor in chain(backbone.parameters(), backbone.buffers())}


@pytest.mark.parametrize("family", ["decoder", "longformer"])
def test_adapters_of_one_backbone_share_it_and_answer_as_if_each_had_its_own(
    family: str, adapters: Adapters
) -> None:
    folders, texts = adapters(family, 4), sample_texts(12)
    alone = []
    for folder in folders:
        shared_backbone._LOADED.clear()
        alone.append(answers(load_classifier(folder), texts))
    assert all(alone[0] != other for other in alone[1:]), "the adapters must differ"
    shared_backbone._LOADED.clear()
    classifiers = [load_classifier(folder) for folder in folders]
    for _ in range(2):
        assert [answers(classifier, texts) for classifier in classifiers] == alone
    first, *others = (storages(classifier) for classifier in classifiers)
    trained = len(classifiers[0].model.trained_in_backbone)
    assert all(len(first & other) == len(first) - trained for other in others)
    assert len({id(classifier.tokenizer) for classifier in classifiers}) == 1


def test_what_nobody_uses_any_more_is_let_go(adapters: Adapters) -> None:
    gc.collect()  # what tests before it left
    assert len(shared_backbone._LOADED) == 0
    classifiers = [load_classifier(folder) for folder in adapters("longformer", 2)]
    assert len(shared_backbone._LOADED) == 2  # a backbone and a tokenizer
    classifiers.pop()
    gc.collect()
    assert len(shared_backbone._LOADED) == 2
    classifiers.clear()
    gc.collect()
    assert len(shared_backbone._LOADED) == 0 and len(shared_backbone._TURNS) == 0


def test_other_weights_another_precision_and_other_words_are_not_shared(
    adapters: Adapters, tmp_path: Path
) -> None:
    plain, bf16, moved, words = adapters("longformer", 4)
    config = json.loads((bf16 / "adapter_config.json").read_text())
    config["training"]["precision"] = "bf16"
    (bf16 / "adapter_config.json").write_text(json.dumps(config))
    other = tmp_path / "other-backbone"
    shutil.copytree(tmp_path / "longformer-backbone", other)
    weights = load_file(other / "model.safetensors")
    (other / "model.safetensors").unlink()
    save_file(
        {name: tensor * 1.01 for name, tensor in weights.items()}, other / "model.safetensors"
    )
    tokenizer = words / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"space"', '"outer"'))
    classifiers = [
        load_classifier(plain),
        load_classifier(bf16),
        load_classifier(moved, backbone=str(other)),
        load_classifier(words),
    ]
    places = [storages(classifier) for classifier in classifiers]
    assert not any(places[0] & other for other in places[1:3])
    assert places[0] & places[3]
    assert [each.tokenizer is classifiers[0].tokenizer for each in classifiers] == [
        *(True, True, True, False)
    ]


@pytest.mark.parametrize("family", ["decoder", "longformer"])
def test_threads_get_the_answers_that_one_would(family: str, adapters: Adapters) -> None:
    """The hooks of a forward pass sit on the model, the cut on the tokenizer: without turns two
    requests at once would answer each other's.
    """
    classifiers = [load_classifier(folder) for folder in adapters(family, 3)]
    short = Classifier(**{**vars(classifiers[0]), "max_tokens": 8})
    asked = [(each, sample_texts(6)) for each in (*classifiers, short)] * 10
    expected = [answers(classifier, texts) for classifier, texts in asked]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: answers(*each), asked))
    assert found == expected
    assert found[0] != found[3]


def test_two_threads_that_load_at_once_load_one_backbone(adapters: Adapters) -> None:
    folders = adapters("longformer", 4)
    with ThreadPoolExecutor(4) as pool:
        classifiers = list(pool.map(load_classifier, folders))
    common = set.intersection(*(storages(classifier) for classifier in classifiers))
    trained = len(classifiers[0].model.trained_in_backbone)
    assert len(common) == len(storages(classifiers[0])) - trained
