"""The linear head (head.form: linear): from the pooled row to the classes at once."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.adapters import (
    AdaptedModel,
    ClassificationHeadConfig,
    HeadOnlyConfig,
    PrefixPropagationConfig,
    adapt,
    load_adapter,
    save_adapter,
)
from components.backbones import backbone_shape
from components.config import ExperimentConfig, config_sha256, validate
from components.errors import ArtifactError, ConfigError
from components.planning.trained_parameters import trainable_parameters
from components.tasks import HeadConfig, task_named
from tests.components.adapters.dense_longformer import Parts
from tests.components.adapters.harness import (
    BOTH,
    build,
    check_against_dense,
    documents,
    randomise,
)
from tests.components.adapters.method_models import C, D, P

KINDS = {"longformer": "prefix", "llama": "last"}
"""Backbone -> what is pooled."""


def model_on(kind: str, *, form: Any = "linear", **settings: Any) -> AdaptedModel:
    head = ClassificationHeadConfig(num_labels=C, pooling=KINDS[kind], form=form, **settings)
    model = adapt(build(kind), PrefixPropagationConfig(prefix_length=P), head)
    randomise(model)
    return model.eval()


def logits_of(model: AdaptedModel) -> torch.Tensor:
    _, ids, mask = documents(model.backbone.config.pad_token_id)
    with torch.no_grad():
        return model(ids, mask).logits


@pytest.mark.parametrize("kind", KINDS)
def test_it_equals_the_naive_dense_reference(kind: str) -> None:
    attentions = BOTH if kind == "longformer" else ("stock",)
    check_against_dense(
        model_on(kind),
        lambda leaves: Parts(offset=P, prefix_LPD=leaves["adapter.prefix"]),
        attentions=attentions,
    )


@pytest.mark.parametrize("form", ["mlp", "linear"])
@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_plan(kind: str, form: Any) -> None:
    model = model_on(kind, form=form)
    head = {name for name in model.trainable_parameters() if name.startswith("head.")}
    expected = {"head.out_proj.weight", "head.out_proj.bias"}
    count = D * C + C
    if form == "mlp":
        expected |= {"head.dense.weight", "head.dense.bias"}
        count += D * D + D
    assert head == expected
    assert sum(each.numel() for each in model.head.parameters()) == count
    planned = trainable_parameters(
        backbone_shape(model.backbone.config.to_dict()),
        model.adapter_config,
        num_labels=C,
        head_form=form,
    )
    assert model.num_trainable_parameters() == planned


def test_dropout_is_drawn_once_before_the_projection() -> None:
    model = model_on("llama", dropout=0.5).train()
    rows_BD = torch.ones(4, D)
    seen: list[torch.Tensor] = []
    head: Any = model.head
    handle = head.out_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    head(rows_BD)
    handle.remove()
    assert set(seen[0].unique().tolist()) == {0.0, 2.0}


def test_saved_and_loaded_it_answers_bit_for_bit_the_same(tmp_path: Path) -> None:
    model = model_on("longformer")
    folder = save_adapter(model, tmp_path / "adapter")
    stored = json.loads((folder / "adapter_config.json").read_text())
    assert stored["head"]["form"] == "linear"
    names = set(load_file(folder / "adapter_model.safetensors"))
    assert {name for name in names if name.startswith("head.")} == {
        "head.out_proj.weight",
        "head.out_proj.bias",
    }
    loaded = load_adapter(build("longformer"), folder)
    assert loaded.head_config == model.head_config
    assert torch.equal(logits_of(loaded), logits_of(model))


def rewritten(folder: Path, form: str | None) -> Path:
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    del config["head"]["form"]
    config["head"] |= {"form": form} if form else {}
    path.write_text(json.dumps(config))
    return folder


def test_a_folder_that_names_no_form_has_the_head_with_a_hidden_layer(tmp_path: Path) -> None:
    model = model_on("llama", form="mlp")
    folder = rewritten(save_adapter(model, tmp_path / "adapter"), None)
    assert torch.equal(logits_of(load_adapter(build("llama"), folder)), logits_of(model))


@pytest.mark.parametrize(
    ("form", "claimed", "line"),
    [
        ("linear", None, "missing head.dense.bias, head.dense.weight"),
        ("mlp", "linear", "unknown head.dense.bias, head.dense.weight"),
        ("linear", "square", "head.form|form"),
    ],
)
def test_tensors_of_another_head_are_refused(
    form: str, claimed: str | None, line: str, tmp_path: Path
) -> None:
    folder = rewritten(save_adapter(model_on("llama", form=form), tmp_path / "adapter"), claimed)
    with pytest.raises(ArtifactError, match=line):
        load_adapter(build("llama"), folder)


def test_head_only_trains_nothing_else() -> None:
    head = ClassificationHeadConfig(num_labels=C, pooling="mean", form="linear")
    model = adapt(build("longformer"), HeadOnlyConfig(), head).train()
    _, ids, mask = documents(1)
    model(ids, mask, torch.tensor([0, 2])).loss.backward()
    assert set(model.trainable_parameters()) == {"head.out_proj.weight", "head.out_proj.bias"}
    assert all(each.grad is not None for each in model.trainable_parameters().values())


def test_multiple_choice_reads_no_form() -> None:
    task = task_named("multiple_choice")
    section, default = HeadConfig(form="linear"), HeadConfig()
    asked: dict[str, Any] = {"data": None, "tokenizer": None}
    assert task.head_config(section, (), **asked) == task.head_config(default, (), **asked)
    counts = {task.head_parameters(D, num_labels=2, form=form) for form in ("mlp", "linear")}
    assert counts == {5 * D}


def test_the_form_is_a_setting_that_counts_where_it_is_not_the_default() -> None:
    base: dict[str, Any] = {
        "name": "toy",
        "backbone": {"name_or_path": "a/b", "family": "longformer"},
        "data": {"files": {"train": "x.jsonl"}},
    }
    plain, same, linear = (
        validate(ExperimentConfig, base | {"head": head})
        for head in ({}, {"form": "mlp"}, {"form": "linear"})
    )
    assert config_sha256(plain) == config_sha256(same) != config_sha256(linear)
    with pytest.raises(ConfigError, match=r"head\.form"):
        validate(ExperimentConfig, base | {"head": {"form": "tanh"}})
