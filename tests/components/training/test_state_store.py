"""Kept states are those that would be read anew: bit for bit alone, up to rounding in a batch."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.adapters import ClassificationHeadConfig, PrefixPropagationConfig, adapt
from components.backbones.text_states import TextStates
from components.errors import ConfigError
from components.training import state_store
from components.training.state_store import StateStore, forget
from components.training.states_folder import STATES_FOLDER, document_key
from tests.conftest import build_tiny_decoder, build_tiny_longformer

LENGTHS = (9, 21, 14, 14, 5)


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    longformer = kind == "longformer"
    backbone = build_tiny_longformer() if longformer else build_tiny_decoder(pad_token_id=1)
    adapter = PrefixPropagationConfig(
        prefix_length=3, placement="one_way" if longformer else "suffix", dropout=0.0
    )
    return adapt(backbone, adapter, ClassificationHeadConfig(num_labels=2, pooling="last"))


def documents(count: int = len(LENGTHS)) -> list[np.ndarray[Any, Any]]:
    draw = np.random.default_rng(4)
    return [draw.integers(5, 40, size=LENGTHS[place % 5]) for place in range(count)]


def batch(chosen: list[np.ndarray[Any, Any]]) -> dict[str, torch.Tensor]:
    from components.data.batching import padded

    ids, mask = padded(chosen, pad_token_id=1)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


@pytest.mark.parametrize("kind", ["longformer", "decoder"])
def test_on_kept_states_the_answer_is_that_of_reading_anew(kind: str, tmp_path: Path) -> None:
    model, store = model_of(kind).eval(), StateStore(tmp_path)
    assert store.fill(documents(), model.read_text) == len(LENGTHS)
    for document in documents():
        inputs = batch([document])
        kept = model(**inputs, states=store.states(**_named(inputs))).logits
        assert torch.equal(kept, model(**inputs).logits)
    inputs = batch(documents())
    kept = model(**inputs, states=store.states(**_named(inputs))).logits
    torch.testing.assert_close(kept, model(**inputs).logits, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_long_document_is_written_layer_by_layer(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, whole = model_of("decoder").to(dtype).eval(), StateStore(tmp_path / "whole")
    chosen, inputs = documents(3), batch(documents(1))
    whole.fill(chosen, model.read_text)
    monkeypatch.setattr(state_store, "OWN_FILE_BYTES", 0)
    by_layer = StateStore(tmp_path / "by_layer")
    assert by_layer.fill(chosen, partial(model.read_text, stays=False)) == 3
    assert len(list(by_layer.folder.glob("*.safetensors"))) == 3
    again = StateStore(tmp_path / "by_layer").states(**_named(inputs))
    for found, expected in zip(again.layers, whole.states(**_named(inputs)).layers, strict=True):
        assert found[0].dtype == dtype
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_a_reading_that_is_broken_off_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, store = model_of("decoder").eval(), StateStore(tmp_path)
    monkeypatch.setattr(state_store, "OWN_FILE_BYTES", 0)
    states = model.read_text(**_named(batch(documents(1))))
    (key, value), *others = states.layers
    broken = TextStates(((key, value), (key, value[..., :2, :]), *others), states.tokens_B)
    with pytest.raises(RuntimeError):
        store.fill(documents(1), lambda *_: broken)
    assert not list(tmp_path.glob("*.safetensors"))
    assert store.fill(documents(1), model.read_text) == 1


def _named(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        "input_ids_BT": inputs["input_ids"],
        "attention_mask_BT": inputs["attention_mask"],
    }


def test_gradients_on_kept_states_are_those_of_reading_anew(tmp_path: Path) -> None:
    model, store, inputs = model_of("decoder"), StateStore(tmp_path), batch(documents()[:1])
    store.fill(documents(), model.read_text)
    found = []
    for states in (None, store.states(**_named(inputs))):
        model.zero_grad(set_to_none=True)
        model(**inputs, labels=torch.tensor([1]), states=states).loss.backward()
        found.append({name: each.grad for name, each in model.trainable_parameters().items()})
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    model, old = model_of("decoder"), documents()
    assert StateStore(tmp_path).fill(old, model.read_text) == len(old)
    assert StateStore(tmp_path).fill(old, model.read_text) == 0
    new = [*old[1:], np.array([7, 8, 9])]
    assert StateStore(tmp_path).fill(new, model.read_text) == 1
    assert StateStore(tmp_path).fill([*new, new[0]], model.read_text) == 0


def test_what_a_killed_process_had_read_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_store, "FILE_BYTES", 0)  # a file for each document
    model, chosen, done = model_of("decoder"), documents(20), []

    def read(*inputs: torch.Tensor) -> Any:
        if len(done) == 8:
            raise KeyboardInterrupt
        done.append(inputs)
        return model.read_text(*inputs)

    with pytest.raises(KeyboardInterrupt):
        StateStore(tmp_path).fill(chosen, read)
    assert StateStore(tmp_path).fill(chosen, model.read_text) == 12


def test_states_that_are_gone_are_named_with_the_way_out(tmp_path: Path) -> None:
    model, inputs = model_of("decoder"), batch(documents()[:1])
    store = StateStore(tmp_path)
    store.fill(documents()[1:], model.read_text)
    with pytest.raises(ConfigError, match=r"cluster\.cache_path.*Run the same command again"):
        store.states(**_named(inputs))


def test_forgotten_documents_are_gone_and_the_others_stay_bit_for_bit(tmp_path: Path) -> None:
    model, folder = model_of("decoder"), tmp_path / STATES_FOLDER / "one"
    StateStore(folder).fill(documents(), model.read_text)
    inputs = _named(batch(documents()[1:2]))
    before = StateStore(folder).states(**inputs)
    assert forget(tmp_path, [document_key(documents()[0])]) == 1
    for layer, other in zip(before.layers, StateStore(folder).states(**inputs).layers, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(layer, other, strict=True))
    with pytest.raises(ConfigError, match="are gone"):
        StateStore(folder).states(**_named(batch(documents()[:1])))
    assert StateStore(folder).fill(documents(), model.read_text) == 1


def test_two_that_fill_at_once_share_the_work(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    model, chosen = model_of("decoder"), documents(40)
    stores = [StateStore(tmp_path), StateStore(tmp_path)]
    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(lambda store: store.fill(chosen, read_alone(model)), stores))
    assert sum(counts) == 40


def read_alone(model: Any) -> Any:
    """One at a time: hooks on a backbone are one thread's."""
    import threading

    lock = threading.Lock() if not hasattr(model, "lock") else model.lock
    model.__dict__["lock"] = lock

    def read(*inputs: torch.Tensor) -> Any:
        with lock:
            return model.read_text(*inputs)

    return read
