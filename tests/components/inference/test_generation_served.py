"""A registered language-modelling adapter writes what the live model writes."""

from pathlib import Path
from typing import Any

import mlflow
import pandas
import torch

from components.inference.classifier import load_classifier
from components.inference.generation import completed, generated
from components.inference.package import adapter_package
from components.registry.packaging import save_pyfunc
from components.tasks.language_modelling import LANGUAGE_MODELLING
from tests.components.inference.language_model import language_model_adapter
from tests.registry_fixtures import sample_texts

CUTTING: dict[str, Any] = {"max_new_tokens": 5, "chat": False}


def test_a_loaded_one_and_mlflow_s_write_what_the_live_model_writes(tmp_path: Path) -> None:
    model, tokenizer, folder = language_model_adapter(tmp_path, max_tokens=40, cutting=CUTTING)
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
