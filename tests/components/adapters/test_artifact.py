"""Artifact format 1: saved and loaded == live bit for bit, folders written by hand, and every way
in which a folder can be wrong.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.adapters import (
    AdaptedModel,
    ClassificationHeadConfig,
    PrefixPropagationConfig,
    adapt,
    load_adapter,
    read_adapter_config,
    save_adapter,
)
from components.adapters.artifact import structure_sha256
from components.adapters.methods import ADAPTER_CONFIGS
from components.errors import ArtifactError
from tests.components.adapters.harness import build, documents, randomise


def live(kind: str = "longformer", **adapter: Any) -> AdaptedModel:
    head = ClassificationHeadConfig(num_labels=3, pooling="mean", labels=("a", "b", "c"))
    model = adapt(build(kind), PrefixPropagationConfig(prefix_length=4, **adapter), head)
    randomise(model)
    return model.eval()


def answers(model: AdaptedModel) -> torch.Tensor:
    _, ids, mask = documents(model.backbone.config.pad_token_id)
    with torch.no_grad():
        logits: torch.Tensor = model(ids, mask).logits
    return logits


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path) | {
        name.replace("__", "."): tensor for name, tensor in changes.items()
    }
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


@pytest.mark.parametrize("kind", ["longformer", "llama", "qwen3"])
def test_saved_and_loaded_equals_live_bit_for_bit(kind: str, tmp_path: Path) -> None:
    model = live(kind)
    save_adapter(
        model,
        tmp_path / "adapter",
        training={"config_sha256": "c", "data_fingerprint": "d", "code_version": "v"},
    )
    loaded = load_adapter(build(kind), tmp_path / "adapter")
    assert torch.equal(answers(loaded), answers(model)) and not loaded.training
    assert loaded.head_config.labels == ("a", "b", "c")
    assert {
        name: tuple(tensor.shape)
        for name, tensor in load_file(tmp_path / "adapter" / "adapter_model.safetensors").items()
    } == {
        "adapter.prefix": (2, 4, 32),
        "head.dense.weight": (32, 32),
        "head.dense.bias": (32,),
        "head.out_proj.weight": (3, 32),
        "head.out_proj.bias": (3,),
        **(
            {"backbone.embeddings.token_type_embeddings.weight": (1, 32)}
            if kind == "longformer"
            else {}
        ),
    }
    assert read_adapter_config(tmp_path / "adapter")["training"] == {
        "config_sha256": "c",
        "data_fingerprint": "d",
        "code_version": "v",
    }
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "prefix_propagation" in card and "`a`, `b`, `c`" in card


def test_reparametrised_prefix_is_stored_materialised(tmp_path: Path) -> None:
    model = live(reparametrization="mlp", reparametrization_hidden=6)
    save_adapter(model, tmp_path / "adapter")
    loaded = load_adapter(build("longformer"), tmp_path / "adapter")
    assert torch.equal(answers(loaded), answers(model))
    assert loaded.adapter_config.reparametrization == "none"


def test_saving_draws_no_random_numbers(tmp_path: Path) -> None:
    model = live()
    state = torch.get_rng_state()
    save_adapter(model, tmp_path / "adapter")
    assert torch.equal(torch.get_rng_state(), state)


def test_folder_written_by_hand_needs_only_what_shapes_need(tmp_path: Path) -> None:
    """No revision, config_sha256, labels, training, calibration.json, tokenizer or card; the
    backbone's own token type embedding.
    """
    model = live()
    config = {
        "format": 1,
        "method": "prefix_propagation",
        "prefix_length": 4,
        "backbone": {"name_or_path": "toy"},
        "head": {"task": "classification", "num_labels": 3, "pooling": "mean"},
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    tensors = {
        name: tensor
        for name, tensor in model.artifact_tensors().items()
        if not name.startswith("backbone.")
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    loaded = load_adapter(build("longformer"), tmp_path)
    assert torch.equal(loaded.adapter.prefix, model.adapter.prefix)
    change_config(
        tmp_path,
        backbone={"name_or_path": None, "revision": None, "family": None, "config_sha256": None},
        training=None,
    )
    change_config(
        tmp_path,
        head={"task": "classification", "num_labels": 3, "pooling": "mean", "labels": None},
    )
    assert torch.equal(answers(load_adapter(build("longformer"), tmp_path)), answers(loaded))


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (
        lambda folder: (folder / "adapter_config.json").unlink(),
        "holds no adapter_config.json",
    ),
    "broken config": (
        lambda folder: (folder / "adapter_config.json").write_text("{"),
        "not readable as JSON",
    ),
    "config is a list": (
        lambda folder: (folder / "adapter_config.json").write_text("[]"),
        "expected a JSON object",
    ),
    "later format": (
        lambda folder: change_config(folder, format=2),
        "has format 2; this version reads format 1",
    ),
    "unknown method": (
        lambda folder: change_config(folder, method="telepathy"),
        "telepathy.*prefix_propagation",
    ),
    "wrong setting": (lambda folder: change_config(folder, prefix_length=0), "prefix_length"),
    "other task": (
        lambda folder: change_config(folder, head={"task": "ranking"}),
        "task 'ranking'",
    ),
    "no head": (lambda folder: change_config(folder, head=None), "num_labels is required"),
    "no tensors": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        "holds no adapter_model.safetensors",
    ),
    "broken tensors": (
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"junk"),
        "not readable as safetensors",
    ),
    "missing tensor": (
        lambda folder: change_tensors(folder, head__dense__bias=None),
        "missing head.dense.bias",
    ),
    "unknown tensor": (
        lambda folder: change_tensors(folder, adapter__wings=torch.ones(1)),
        "unknown adapter.wings",
    ),
    "unknown backbone tensor": (
        lambda folder: change_tensors(folder, backbone__wings__weight=torch.ones(1)),
        "backbone.wings.weight, which this backbone",
    ),
    "wrong prefix length": (
        lambda folder: change_config(folder, prefix_length=5),
        r"adapter.prefix has shape \(2, 4, 32\); .* need \(2, 5, 32\)",
    ),
    "wrong head": (
        lambda folder: change_tensors(folder, head__out_proj__bias=torch.ones(7)),
        r"head.out_proj.bias has shape \(7,\)",
    ),
    "not finite": (
        lambda folder: change_tensors(folder, head__dense__bias=torch.full((32,), torch.nan)),
        "head.dense.bias holds values that are not finite",
    ),
    "empty": (
        lambda folder: change_tensors(folder, adapter__prefix=torch.ones(0)),
        "adapter.prefix",
    ),
    "backbone is text": (
        lambda folder: change_config(folder, backbone="toy"),
        'backbone is "toy", expected an object or null',
    ),
    "head is a list": (
        lambda folder: change_config(folder, head=["x"]),
        "head is .*expected an object or null",
    ),
    "method is a list": (
        lambda folder: change_config(folder, method=["x"]),
        "method is .*expected the name of a method",
    ),
    "prefix over the positions": (
        lambda folder: change_config(folder, prefix_length=500),
        "does not fit this backbone: .*prefix_length 500",
    ),
    "another backbone without its settings": (
        lambda folder: change_config(
            folder, backbone={"name_or_path": "toy", "config_sha256": "0"}
        ),
        r"another backbone \(toy\): its config hash differs",
    ),
    "other family": (
        lambda folder: change_config(folder, backbone={"family": "decoder"}),
        "trained on a decoder backbone, this one is longformer",
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_wrong_folder_is_refused_with_its_reason(how: str, tmp_path: Path) -> None:
    spoil, reason = WRONG[how]
    save_adapter(live(), tmp_path / "adapter")
    spoil(tmp_path / "adapter")
    with pytest.raises(ArtifactError, match=reason):
        load_adapter(build("longformer"), tmp_path / "adapter")


def test_other_backbone_is_refused_by_its_differing_settings(tmp_path: Path) -> None:
    save_adapter(live(), tmp_path / "adapter", backbone_id={"name_or_path": "toy/longformer"})
    with pytest.raises(
        ArtifactError,
        match=(
            r"another backbone \(toy/longformer\): intermediate_size: 48 then, 40 here; "
            r"vocab_size: 101 then, 102 here"
        ),
    ):
        load_adapter(
            build("longformer", vocab_size=102, intermediate_size=40), tmp_path / "adapter"
        )


def test_a_decoder_whose_rotary_embedding_was_changed_is_another_backbone(tmp_path: Path) -> None:
    save_adapter(live("llama"), tmp_path / "adapter")
    with pytest.raises(ArtifactError, match=r"rope_theta: 10000.0 then, 500000.0 here"):
        load_adapter(
            build("llama", rope_parameters={"rope_type": "default", "rope_theta": 5e5}),
            tmp_path / "adapter",
        )


def test_a_folder_of_an_older_version_that_knew_fewer_settings_still_loads(tmp_path: Path) -> None:
    model = live("llama")
    save_adapter(model, tmp_path / "adapter")
    stored = read_adapter_config(tmp_path / "adapter")["backbone"]
    fewer = {
        name: value for name, value in stored["structure"].items() if not name.startswith("rope_")
    }
    change_config(
        tmp_path / "adapter",
        backbone=stored | {"structure": fewer, "config_sha256": structure_sha256(fewer)},
    )
    assert torch.equal(answers(load_adapter(build("llama"), tmp_path / "adapter")), answers(model))


def test_foreign_folder_stays_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="not empty and holds no adapter"):
        save_adapter(live(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ArtifactError, match="is a file"):
        save_adapter(live(), tmp_path / "thesis.txt")


def test_failed_write_leaves_the_earlier_artifact_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = live()
    save_adapter(model, tmp_path / "adapter")
    before = answers(model)
    randomly = live()
    with torch.no_grad():
        randomly.adapter.prefix[0, 0, 0] = torch.inf
    with pytest.raises(ArtifactError, match=r"adapter\.prefix holds values that are not finite"):
        save_adapter(randomly, tmp_path / "adapter")
    with monkeypatch.context() as patch:
        patch.setattr(
            "components.adapters.artifact.save_file",
            lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")),
        )
        with pytest.raises(OSError, match="disk full"):
            save_adapter(live(), tmp_path / "adapter")
    assert torch.equal(answers(load_adapter(build("longformer"), tmp_path / "adapter")), before)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize(
    "method", ["prefix_propagation", "prefix_tuning", "propagation_and_prefix_tuning"]
)
def test_folder_with_the_reparametrisation_itself_loads_reparametrised(
    method: str, tmp_path: Path
) -> None:
    """By the names and shapes of components/adapters/README.md; prefix_length and the network's
    width may be left out. Its gradients are the network's.
    """
    config: Any = ADAPTER_CONFIGS[method].model_validate(
        {
            "method": method,
            "prefix_length": 3,
            "reparametrization": "mlp",
            "reparametrization_hidden": 6,
        }
    )
    model = adapt(
        build("longformer"), config, ClassificationHeadConfig(num_labels=3, pooling="mean")
    )
    randomise(model)
    tensors = {
        name: parameter.detach().clone() for name, parameter in model.trainable_parameters().items()
    }
    networks = {
        "prefix_propagation": ["reparametrization"],
        "prefix_tuning": ["key_value_reparametrization"],
    }.get(method, ["reparametrization", "key_value_reparametrization"])
    width = {"reparametrization": 2 * 32, "key_value_reparametrization": 2 * 2 * 32}
    for name in networks:
        shapes = {
            "embedding": (3, 32),
            "down.weight": (6, 32),
            "down.bias": (6,),
            "up.weight": (width[name], 6),
            "up.bias": (width[name],),
        }
        assert {part: tuple(tensors[f"adapter.{name}.{part}"].shape) for part in shapes} == shapes
    values = {
        "format": 1,
        "method": method,
        "backbone": {"name_or_path": "toy"},
        "head": {"task": "classification", "num_labels": 3, "pooling": "mean"},
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(values))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    loaded = load_adapter(build("longformer"), tmp_path)
    assert torch.equal(answers(loaded), answers(model))
    _, ids, mask = documents(1)
    for one in (model, loaded):
        one.eval()(ids, mask, torch.tensor([0, 1])).loss.backward()
    found = loaded.trainable_parameters()
    assert all(
        torch.equal(found[name].grad, parameter.grad)
        for name, parameter in model.trainable_parameters().items()
    )  # type: ignore[arg-type]
    save_adapter(loaded, tmp_path / "stored")
    assert not any(
        "reparametrization" in name
        for name in load_file(tmp_path / "stored" / "adapter_model.safetensors")
    )


def test_one_flipped_bit_of_the_values_is_refused(
    tmp_path: Path, tiny_decoder: Callable[..., Any]
) -> None:
    backbone = tiny_decoder()
    head = ClassificationHeadConfig(num_labels=2, pooling="last")
    model = adapt(backbone, PrefixPropagationConfig(prefix_length=3), head)
    folder = save_adapter(model, tmp_path / "adapter")
    path = folder / "adapter_model.safetensors"
    load_adapter(backbone, folder)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="checksum"):
        load_adapter(backbone, folder)
    # Written by another tool, there is nothing to compare with.
    save_file(load_file(path), path)
    load_adapter(backbone, folder)
