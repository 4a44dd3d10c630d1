"""A registered language-modelling adapter writes what the live model writes."""

from pathlib import Path
from typing import Any

import mlflow
import pandas
import torch

from components.adapters import (
    LanguageModellingHeadConfig,
    PrefixPropagationConfig,
    adapt,
    save_adapter,
)
from components.backbones import BackboneConfig, load_backbone
from components.config import resolved
from components.inference.classifier import load_classifier
from components.inference.generation import completed, generated
from components.inference.package import adapter_package
from components.registry.packaging import save_pyfunc
from components.tasks.language_modelling import LANGUAGE_MODELLING
from tests.conftest import build_tiny_decoder
from tests.registry_fixtures import sample_texts, tiny_tokenizer

CUTTING: dict[str, Any] = {"max_new_tokens": 5, "chat": False}


def test_a_loaded_one_and_mlflow_s_write_what_the_live_model_writes(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(pad_id=0)
    tied = build_tiny_decoder(initializer_range=0.3, tie_word_embeddings=True, vocab_size=25)
    tied.save_pretrained(tmp_path / "backbone")
    tokenizer.save_pretrained(tmp_path / "backbone")
    source = BackboneConfig(
        source="local", name_or_path=str(tmp_path / "backbone"), family="decoder"
    )
    method = PrefixPropagationConfig(prefix_length=3, init_std=0.5)
    torch.manual_seed(1)
    model = adapt(load_backbone(source, cache_path=tmp_path), method, LanguageModellingHeadConfig())
    folder = save_adapter(
        model,
        tmp_path / "adapter",
        training={"max_tokens": 40, **CUTTING},
        backbone_id={"load": resolved(source)},
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    texts = sample_texts(4)
    prompts = [
        ids
        for (ids,) in LANGUAGE_MODELLING.encoded(texts, tokenizer, max_tokens=40, cutting=CUTTING)
    ]
    assert max(map(len, prompts)) == 35
    expected = list(generated(model, tokenizer, prompts, max_new_tokens=5))
    assert len(set(expected)) > 1  # one of them ends at once
    loaded = load_classifier(folder, trusted=True)
    assert [each["completion"] for each in loaded.answers(texts)] == expected
    save_pyfunc(tmp_path / "model", folder, adapter_package(folder))
    found = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(
        pandas.DataFrame({"text": texts})
    )
    assert list(found["completion"]) == expected
    with torch.inference_mode():
        assert len(completed(model, prompts[0], end=None, most=5)) == 5
