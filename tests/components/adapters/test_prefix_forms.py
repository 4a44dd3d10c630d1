"""The further forms of prefix-propagation, as the laws of test_methods.py have them for every
method: a low-rank prefix (P_l = U_l V), a suffix in causal decoders, and the one-way form of
Longformer.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from components.adapters import (
    AdaptedModel,
    ClassificationHeadConfig,
    MultipleChoiceHeadConfig,
    PrefixPropagationConfig,
    adapt,
    load_adapter,
    save_adapter,
)
from components.backbones import backbone_shape
from components.config import validate
from components.config.experiment import TrainConfig
from components.errors import ArtifactError, ConfigError
from components.planning.trained_parameters import trainable_parameters
from tests.components.adapters.dense_longformer import Parts
from tests.components.adapters.harness import (
    build,
    check_against_dense,
    check_same_gradients,
    documents,
    left_padded,
    randomise,
    without_and_with_checkpointing,
)
from tests.components.adapters.method_models import HEAD, TRAINED_WITH_PREFIX, C, D, L, P, answers

ROUNDING = 1e-5
RANK = 3
FORMS: dict[str, dict[str, Any]] = {
    "low rank": {"rank": RANK},
    "suffix": {"placement": "suffix"},
    "low-rank suffix": {"rank": RANK, "placement": "suffix"},
    "one way": {"placement": "one_way"},
    "low-rank one way": {"rank": RANK, "placement": "one_way"},
}
BEHIND = [form for form, changes in FORMS.items() if "placement" in changes]
"""Forms whose rows see the text and are not seen by it."""
PAIRS = [
    (form, kind)
    for form in FORMS
    for kind in ("longformer", "llama", "qwen3")
    if ("suffix" if kind == "longformer" else "one way") not in form
]


def new(
    form: str, kind: str, *, large: bool = True, pooling: Any = None, **changes: Any
) -> AdaptedModel:
    config = PrefixPropagationConfig(**({"prefix_length": P} | FORMS[form] | changes))
    pooling = pooling or ("last" if form in BEHIND else "mean")
    model = adapt(build(kind), config, ClassificationHeadConfig(num_labels=C, pooling=pooling))
    if large:
        randomise(model)
    return model


def parts_of(form: str) -> Any:
    def parts(leaves: Mapping[str, Tensor]) -> Parts:
        low_rank = "adapter.prefix_basis" in leaves
        prefix = (
            leaves["adapter.prefix_coefficients"] @ leaves["adapter.prefix_basis"]
            if low_rank
            else leaves["adapter.prefix"]
        )
        return Parts(suffix_LPD=prefix) if form in BEHIND else Parts(offset=P, prefix_LPD=prefix)

    return parts


@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_form_equals_the_naive_dense_reference(form: str, kind: str) -> None:
    check_against_dense(new(form, kind), parts_of(form))


@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_accelerated_it_equals_the_naive_dense_reference_too(form: str, kind: str) -> None:
    model = new(form, kind)
    model.family.accelerate(model.backbone)
    check_against_dense(model, parts_of(form))


def test_one_way_the_head_may_read_the_first_row() -> None:
    first, last = (new("one way", "longformer", pooling=each) for each in ("prefix", "last"))
    with torch.no_grad():
        for model in (first, last):
            prefix: Any = model.adapter.prefix  # type: ignore[attr-defined]
            prefix.copy_(prefix[:, :1].expand(-1, P, -1))
    # Rows that start alike but for their positions are read at the two ends.
    assert not torch.allclose(answers(first), answers(last))
    model = new("one way", "longformer", pooling="prefix", prefix_length=1)
    only = new("one way", "longformer", pooling="last", prefix_length=1)
    assert torch.equal(answers(model), answers(only))


@pytest.mark.parametrize(("form", "kind"), [pair for pair in PAIRS if pair[0] in BEHIND])
def test_the_text_is_read_alike_whatever_the_adapter_and_without_gradients(
    form: str, kind: str
) -> None:
    model = new(form, kind).train()
    _, ids, mask = documents(model.backbone.config.pad_token_id)
    states = model.family.text_states(model.backbone, ids, mask, model.adapter.rows)
    randomise(model)
    again = model.family.text_states(model.backbone, ids, mask, model.adapter.rows)
    for layer, other in zip(states.layers, again.layers, strict=True):
        for one, two in zip(layer, other, strict=True):
            assert torch.equal(one, two) and not one.requires_grad
    assert model.backbone.training


@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_trained_parameters_follow_the_formula_and_the_plan_counts_them(
    form: str, kind: str
) -> None:
    model = new(form, kind)
    own = RANK * (L * P + D) if "low" in form else L * P * D
    beside = 0 if form in BEHIND else TRAINED_WITH_PREFIX[kind]
    expected = own + beside + HEAD
    shape = backbone_shape(model.backbone.config.to_dict())
    assert (
        model.num_trainable_parameters()
        == expected
        == trainable_parameters(shape, model.adapter_config, num_labels=C)
    )
    model.train()
    _, ids, mask = documents(model.backbone.config.pad_token_id)
    model(ids, mask, torch.tensor([0, 2])).loss.backward()
    assert all(
        parameter.grad is not None and bool(parameter.grad.any())
        for parameter in model.trainable_parameters().values()
    )


@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_saved_and_loaded_equals_live_bit_for_bit(form: str, kind: str, tmp_path: Path) -> None:
    model = new(form, kind)
    expected = answers(model)
    save_adapter(model, tmp_path / "adapter")
    loaded = load_adapter(build(kind), tmp_path / "adapter")
    assert torch.equal(answers(loaded), expected)
    assert loaded.adapter_config == model.adapter_config
    assert set(loaded.artifact_tensors()) == set(model.artifact_tensors())


@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_padding_on_either_side_changes_nothing(form: str, kind: str) -> None:
    model = new(form, kind).eval()
    pad = model.backbone.config.pad_token_id
    texts, ids, mask = documents(pad)
    left_ids, left_mask = left_padded(texts, pad)
    with torch.no_grad():
        single = torch.cat([model(torch.tensor([text])).logits for text in texts])
        torch.testing.assert_close(model(ids, mask).logits, single, atol=ROUNDING, rtol=1e-5)
        torch.testing.assert_close(
            model(left_ids, left_mask).logits, single, atol=ROUNDING, rtol=1e-5
        )


@pytest.mark.parametrize(("form", "kind"), [pair for pair in PAIRS if pair[1] != "llama"])
def test_gradient_checkpointing_changes_nothing(form: str, kind: str) -> None:
    check_same_gradients(without_and_with_checkpointing(lambda: new(form, kind)), rtol=1e-5)


@pytest.mark.parametrize(("form", "kind"), [pair for pair in PAIRS if pair[1] != "llama"])
def test_bf16_backbone_trains_float32_parameters(form: str, kind: str) -> None:
    config = PrefixPropagationConfig(prefix_length=P, **FORMS[form])
    pooling: Any = "last" if form in BEHIND else "mean"
    model = adapt(
        build(kind).bfloat16(), config, ClassificationHeadConfig(num_labels=C, pooling=pooling)
    )
    _, ids, mask = documents(model.backbone.config.pad_token_id)
    model.train()(ids, mask, torch.tensor([0, 1])).loss.backward()
    assert {parameter.dtype for parameter in model.trainable_parameters().values()} == {
        torch.float32
    }


@pytest.mark.filterwarnings("ignore:head.pooling")
def test_a_suffix_sees_the_document_and_a_prefix_in_a_decoder_does_not() -> None:
    """Read at the method's own rows: pooling `prefix` for a prefix, `last` for a suffix."""
    documents_of_one_length = torch.tensor([[5, 6, 7, 8], [50, 60, 70, 80]])
    prefix = adapt(
        build("llama"),
        PrefixPropagationConfig(prefix_length=P),
        ClassificationHeadConfig(num_labels=C, pooling="prefix"),
    )
    suffix = new("suffix", "llama")
    with torch.no_grad():
        before, after = (model.eval()(documents_of_one_length).logits for model in (prefix, suffix))
    torch.testing.assert_close(before[0], before[1], atol=ROUNDING, rtol=0)
    assert float((after[0] - after[1]).abs().max()) > 0.01


@pytest.mark.parametrize("kind", ["longformer", "llama"])
def test_low_rank_prefix_equals_the_full_prefix_that_it_is(kind: str) -> None:
    low = new("low rank", kind)
    full = adapt(
        build(kind),
        PrefixPropagationConfig(prefix_length=P),
        ClassificationHeadConfig(num_labels=C, pooling="mean"),
    )
    tensors = low.artifact_tensors()
    tensors["adapter.prefix"] = tensors.pop("adapter.prefix_coefficients") @ tensors.pop(
        "adapter.prefix_basis"
    )
    with torch.no_grad():
        for name, parameter in full.trainable_parameters().items():
            parameter.copy_(tensors[name])
    torch.testing.assert_close(answers(low), answers(full), atol=1e-6, rtol=0)


def test_fresh_low_rank_prefix_has_the_usual_spread() -> None:
    """The product of the two factors, over many draws: init_std as a full prefix has it."""
    torch.manual_seed(0)
    config = PrefixPropagationConfig(prefix_length=200, rank=8, init_std=0.02)
    model = adapt(
        build("llama", max_position_embeddings=500),
        config,
        ClassificationHeadConfig(num_labels=C, pooling="mean"),
    )
    assert float(model.adapter()["prefix"].detach().std()) == pytest.approx(0.02, rel=0.2)


def test_low_rank_folder_written_by_hand(tmp_path: Path) -> None:
    """Length and rank are read from the shapes where the JSON leaves them out."""
    draw = torch.Generator().manual_seed(2)
    tensors = {
        "adapter.prefix_coefficients": torch.randn(L, 7, 4, generator=draw),
        "adapter.prefix_basis": torch.randn(4, D, generator=draw),
        "head.dense.weight": torch.randn(D, D, generator=draw),
        "head.dense.bias": torch.randn(D, generator=draw),
        "head.out_proj.weight": torch.randn(C, D, generator=draw),
        "head.out_proj.bias": torch.randn(C, generator=draw),
    }
    config = {
        "format": 1,
        "method": "prefix_propagation",
        "placement": "suffix",
        "head": {"num_labels": C, "pooling": "last"},
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    loaded = load_adapter(build("llama"), tmp_path)
    assert loaded.adapter_config == PrefixPropagationConfig(
        prefix_length=7, rank=4, placement="suffix"
    )
    assert all(
        torch.equal(parameter, tensors[name])
        for name, parameter in loaded.trainable_parameters().items()
    )
    save_file(
        {**tensors, "adapter.prefix_basis": torch.zeros(5, D)},
        tmp_path / "adapter_model.safetensors",
    )
    with pytest.raises(
        ArtifactError, match=r"adapter.prefix_basis has shape \(5, 32\).* need \(4, 32\)"
    ):
        load_adapter(build("llama"), tmp_path)


def test_refusals_name_the_fix() -> None:
    head = ClassificationHeadConfig(num_labels=C, pooling="last")
    suffix = PrefixPropagationConfig(placement="suffix")
    with pytest.raises(ConfigError, match=r"is for causal decoders; use one_way in a longformer"):
        adapt(build("longformer"), suffix, head)
    with pytest.raises(ConfigError, match=r"one_way is for encoders; use suffix in a decoder"):
        adapt(build("llama"), PrefixPropagationConfig(placement="one_way"), head)
    with pytest.raises(
        ConfigError, match=r"head.pooling mean reads rows that cannot see a suffix.*use last"
    ):
        adapt(build("llama"), suffix, ClassificationHeadConfig(num_labels=C, pooling="mean"))
    one_way = PrefixPropagationConfig(placement="one_way")
    with pytest.raises(ConfigError, match="one_way is for classification; use prefix"):
        adapt(build("longformer"), one_way, MultipleChoiceHeadConfig())
    with pytest.raises(ConfigError, match=r"head\.pooling cls .* use prefix or last"):
        adapt(build("longformer"), one_way, ClassificationHeadConfig(num_labels=C, pooling="cls"))
    values: dict[str, Any] = {
        "backbone": {"name_or_path": "x", "family": "decoder"},
        "data": {"files": {"train": "x.jsonl"}},
        "head": {"pooling": "last"},
        "adapter": {"placement": "suffix"},
    }
    assert validate(TrainConfig, values).adapter == suffix
    with pytest.raises(
        ConfigError, match=r"head.pooling mean reads rows .* use last with adapter.placement suffix"
    ):
        validate(TrainConfig, values | {"head": {"pooling": "mean"}})
    with pytest.raises(ConfigError, match=r"adapter.placement suffix is for causal decoders"):
        validate(TrainConfig, values | {"backbone": {"name_or_path": "x", "family": "longformer"}})
    with pytest.raises(ConfigError, match=r"adapter: rank and reparametrization are two ways"):
        validate(TrainConfig, values | {"adapter": {"rank": 2, "reparametrization": "mlp"}})
