"""A language model's adapter, exported: plain PEFT and transformers write what the adapter writes,
50 tokens of them, and what the registered model writes.
"""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas
import pytest
import torch

from components.errors import WorkFailed
from components.inference.classifier import Classifier, load_classifier
from components.inference.exported import alike, peft_writer
from components.inference.exported.alike import verify
from components.inference.exported.peft_folder import write_peft
from components.inference.package import adapter_package
from components.registry.packaging import save_pyfunc
from tests.components.inference.language_model import language_model_adapter
from tests.registry_fixtures import sample_texts

NEW, MAX_TOKENS = 50, 110
CUTTING: dict[str, Any] = {"max_new_tokens": NEW, "chat": False}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """The folder of one on a tiny language model that never ends a text."""
    *_, folder = language_model_adapter(
        tmp_path, max_tokens=MAX_TOKENS, cutting=CUTTING, ends=False
    )
    return folder


@pytest.fixture
def live(adapter: Path) -> Classifier:
    return load_classifier(adapter, trusted=True)


def exported(classifier: Classifier, folder: Path) -> Path:
    folder.mkdir()
    write_peft(classifier, folder)
    return folder


def test_the_same_50_tokens_three_times(adapter: Path, live: Classifier, tmp_path: Path) -> None:
    """The live adapter, the registered model's pyfunc, and plain PEFT."""
    texts = sample_texts(3)
    expected = [each["completion"] for each in live.answers(texts)]
    assert all(len(each.split()) >= NEW - 5 for each in expected) and len(set(expected)) == 3
    save_pyfunc(tmp_path / "model", adapter, adapter_package(adapter))
    registered = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert list(registered.predict(pandas.DataFrame({"text": texts}))["completion"]) == expected
    folder = exported(live, tmp_path / "peft")
    assert peft_writer.Writer(str(folder)).complete(texts) == expected


def test_the_next_token_s_logits_are_the_adapter_s(live: Classifier, tmp_path: Path) -> None:
    texts = [*sample_texts(3), "one " * 200]  # the last prompt loses its beginning
    loaded = peft_writer.Writer(str(exported(live, tmp_path / "peft")))
    assert loaded.ids(texts[-1]).shape == (1, MAX_TOKENS - NEW)
    difference = (loaded.logits(texts) - alike._logits(live, texts)).abs().max()
    assert float(difference) <= 4e-6  # logits of some units


def test_plain_peft_needs_nothing_else(live: Classifier, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = exported(live, tmp_path / "peft")
    assert not (folder / "head.safetensors").exists()
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "backbone")
    model = PeftModel.from_pretrained(stock, str(folder))
    (text,) = sample_texts(1)
    ids = peft_writer.Writer(str(folder)).ids(text)
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False
    )
    told = live.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    assert told == next(live.answers([text]))["completion"]


@pytest.mark.slow
def test_what_writes_something_else_is_refused(live: Classifier, tmp_path: Path) -> None:
    folder = exported(live, tmp_path / "peft")
    found = verify(live, folder, texts=sample_texts(3))
    assert found.largest_difference <= found.tolerance
    shorter = replace(live, cutting=CUTTING | {"max_new_tokens": NEW - 1})
    with pytest.raises(WorkFailed, match="writes something else"):
        verify(shorter, folder, texts=sample_texts(3))


def test_the_loader_needs_stock_libraries_alone() -> None:
    nodes = list(ast.walk(ast.parse(Path(peft_writer.__file__).read_text())))
    named = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    named += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    imported = {name.partition(".")[0] for name in named}
    assert imported == {"json", "pathlib", "torch", "peft", "transformers"}
