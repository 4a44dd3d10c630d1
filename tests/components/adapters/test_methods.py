"""Laws of every adapter method, on every backbone: who lists a method in ADAPTERS has it tested
here by adding its settings to METHODS.

ZeRO parity: tests/components/training/test_methods.py.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from components.adapters import (
    ADAPTERS,
    ClassificationHeadConfig,
    PrefixTuningConfig,
    adapt,
    load_adapter,
    save_adapter,
)
from components.adapters.methods import ADAPTER_CONFIGS
from components.errors import ConfigError
from tests.components.adapters.dense_longformer import Parts
from tests.components.adapters.harness import (
    BOTH,
    build,
    check_against_dense,
    check_same_gradients,
    documents,
    left_padded,
    without_and_with_checkpointing,
)
from tests.components.adapters.method_models import (
    BACKBONE_TYPES,
    HEAD,
    METHODS,
    PAIRS,
    PARAMETERS,
    ROUNDING,
    D,
    E,
    L,
    P,
    against_dense,
    answers,
    dense_parts,
    large,
    new,
)


def test_table_and_suite_list_the_same_methods() -> None:
    assert ADAPTERS is ADAPTER_CONFIGS
    assert set(ADAPTERS) == set(METHODS) == set(PARAMETERS)
    assert all(
        model.model_fields["method"].default == name for name, model in ADAPTER_CONFIGS.items()
    )


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_trained_parameters_follow_the_formula(method: str, kind: str) -> None:
    model = new(method, kind)
    assert model.num_trainable_parameters() == PARAMETERS[method](kind) + HEAD
    model.train()
    _, ids, mask = documents(model.backbone.config.pad_token_id)
    model(ids, mask, torch.tensor([0, 2])).loss.backward()
    trained = model.trainable_parameters()
    assert all(parameter.grad is not None for parameter in trained.values())
    assert [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and name not in trained
    ] == []


@pytest.mark.parametrize(
    ("method", "kind"),
    [pair for pair in PAIRS if pair[1] != "qwen3" and pair[0] not in ("lora", "full_fine_tuning")],
)
def test_method_equals_the_naive_dense_reference(method: str, kind: str) -> None:
    against_dense(large(method, kind))


@pytest.mark.parametrize("method", ["prefix_tuning", "kernel_prefix", "prefix_memory"])
def test_norms_of_queries_and_keys_stand_where_the_dense_reference_has_them(method: str) -> None:
    """Qwen3 normalises each head's query and key: trained keys enter after that, and queries are
    taken after that.
    """
    against_dense(large(method, "qwen3"))


@pytest.mark.parametrize("kind", ["longformer", "llama"])
def test_full_fine_tuning_equals_the_naive_dense_reference(kind: str) -> None:
    check_against_dense(large("full_fine_tuning", kind), lambda leaves: Parts())


@pytest.mark.parametrize("pooling", ["prefix", "cls", "last"])
@pytest.mark.parametrize(
    "method",
    ["prefix_tuning", "propagation_and_prefix_tuning", "kernel_prefix", "kernel_propagation"],
)
def test_other_poolings_equal_the_naive_dense_reference(method: str, pooling: str) -> None:
    against_dense(large(method, "longformer", pooling=pooling))


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("prefix_tuning", {"released_indexing": True}),
        ("propagation_and_prefix_tuning", {"released_indexing": True}),
        ("prefix_tuning", {"prefix_length": 13}),
        ("propagation_and_prefix_tuning", {"prefix_length": 13}),
        ("prefix_memory", {}),
        ("kernel_prefix", {"kernel": "exp"}),
        ("kernel_prefix", {"kernel": "polynomial"}),
        ("kernel_propagation", {"kernel": "exp"}),
        ("kernel_propagation", {"kernel": "rbf", "prefix_length": 13}),
    ],
)
def test_variants_equal_the_naive_dense_reference_on_both_attentions(
    method: str, changes: dict[str, Any]
) -> None:
    """Windows of 8 tokens: a prefix of 13 is longer."""
    against_dense(large(method, "longformer", **changes), attentions=BOTH)


@pytest.mark.parametrize("method", ["prefix_tuning", "propagation_and_prefix_tuning"])
def test_released_indexing_takes_each_row_of_a_short_document_once(method: str) -> None:
    """16 rows are two whole windows: no padding row stands after the longer document to take what
    is beyond its end.
    """
    model = large(method, "longformer", released_indexing=True, prefix_length=13)
    check_against_dense(
        model, lambda leaves: dense_parts(method, leaves, model.adapter_config), lengths=(3, 2)
    )


@pytest.mark.parametrize("pooling", ["prefix", "cls", "mean", "last"])
@pytest.mark.parametrize("method", METHODS)
def test_fast_attention_equals_stock_attention(method: str, pooling: str) -> None:
    """With one head of 32 and two prefix positions the fast attention leaves out projecting the
    sequence for global rows, and with one pooled row most of the last layer, where it may.
    """
    sizes = {"num_attention_heads": 1}
    changes = {"prefix_length": 2} if "prefix_length" in METHODS[method] else {}
    stock, fast = (
        large(
            method, "longformer", pooling=pooling, backbone=build("longformer", **sizes), **changes
        ).train()
        for _ in range(2)
    )
    fast.family.accelerate(fast.backbone)
    _, ids, mask = documents(1, (40, 25))
    logits = [model(ids, mask).logits for model in (stock, fast)]
    torch.testing.assert_close(logits[1], logits[0], atol=ROUNDING, rtol=1e-4)
    for result in logits:
        (result * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
    found = fast.trainable_parameters()
    for name, parameter in stock.trainable_parameters().items():
        assert parameter.grad is not None and found[name].grad is not None, name
        torch.testing.assert_close(
            found[name].grad,
            parameter.grad,
            atol=1e-5 * max(1.0, float(parameter.grad.abs().max())),
            rtol=1e-4,
            msg=name,
        )


@pytest.mark.parametrize(
    "method", ["prefix_tuning", "propagation_and_prefix_tuning", "prefix_propagation"]
)
def test_reparametrised_prefix_equals_its_materialised_one(method: str, tmp_path: Path) -> None:
    model = large(method, "longformer", reparametrization="mlp", reparametrization_hidden=7)
    expected = {
        "prefix_propagation": L * D,
        "prefix_tuning": 2 * L * D,
        "propagation_and_prefix_tuning": 3 * L * D,
    }[method] * 8
    networks = 2 if method == "propagation_and_prefix_tuning" else 1
    assert (
        model.num_trainable_parameters()
        == expected + networks * (P * D + (D + 1) * 7) + BACKBONE_TYPES + HEAD
    )
    save_adapter(model, tmp_path / "adapter")
    loaded = load_adapter(build("longformer"), tmp_path / "adapter")
    assert loaded.adapter_config.reparametrization == "none"  # type: ignore[union-attr]
    torch.testing.assert_close(answers(loaded), answers(model), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_saved_and_loaded_equals_live_bit_for_bit(method: str, kind: str, tmp_path: Path) -> None:
    model = large(method, kind)
    expected = answers(model)
    save_adapter(model, tmp_path / "adapter")
    torch.manual_seed(99)
    loaded = load_adapter(build(kind), tmp_path / "adapter")
    assert torch.equal(answers(loaded), expected)
    assert loaded.adapter_config == model.adapter_config
    assert set(loaded.artifact_tensors()) == set(model.artifact_tensors())


@pytest.mark.parametrize(("method", "kind"), [pair for pair in PAIRS if pair[1] != "llama"])
def test_gradient_checkpointing_changes_nothing(method: str, kind: str) -> None:
    """The hooks inside layers are gone when the backward pass recomputes them, and are set again
    for that.
    """
    models = without_and_with_checkpointing(lambda: large(method, kind))
    assert all(
        not layer._forward_pre_hooks
        for model in models
        for layer in model.family.layers(model.backbone)
    )
    check_same_gradients(models, rtol=1e-5)


@pytest.mark.parametrize(("method", "kind"), [pair for pair in PAIRS if pair[1] != "llama"])
def test_padding_changes_nothing(method: str, kind: str) -> None:
    model = large(method, kind).eval()
    texts, ids, mask = documents(model.backbone.config.pad_token_id)
    left_ids, left_mask = left_padded(texts, model.backbone.config.pad_token_id)
    with torch.no_grad():
        single = torch.cat([model(torch.tensor([text])).logits for text in texts])
        torch.testing.assert_close(model(ids, mask).logits, single, atol=ROUNDING, rtol=1e-5)
        torch.testing.assert_close(
            model(left_ids, left_mask).logits, single, atol=ROUNDING, rtol=1e-5
        )


@pytest.mark.parametrize(
    "method", [method for method, kind in PAIRS if kind == "llama" and method != "full_fine_tuning"]
)
def test_models_that_share_a_backbone_do_not_disturb_each_other(method: str) -> None:
    """Decoders: nothing is trained in the backbone. The backbone itself answers as before."""
    backbone = build("llama")
    _, ids, mask = documents(0)
    bare = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    one, other = (large(method, "llama", backbone=backbone) for _ in range(2))
    with torch.no_grad():
        for parameter in other.trainable_parameters().values():
            parameter.mul_(0.5)
    before = answers(one)
    answers(other)
    assert torch.equal(answers(one), before)
    torch.testing.assert_close(
        backbone(input_ids=ids, attention_mask=mask).last_hidden_state, bare, atol=0, rtol=0
    )
    assert {name for name, _ in backbone.named_parameters()} == {
        name for name, _ in build("llama").named_parameters()
    }


@pytest.mark.parametrize("method", ["adaptive_prefix_propagation", "adaptive_prefix_tuning"])
def test_gates_of_one_change_nothing(method: str) -> None:
    gated = new(method, "longformer")
    plain = new(method.removeprefix("adaptive_"), "longformer")
    plain.load_state_dict(
        {name: tensor for name, tensor in gated.state_dict().items() if name != "adapter.gate"}
    )
    assert torch.equal(answers(gated), answers(plain))


def test_kernel_with_alpha_reproduces_the_softmax_where_alpha_is_the_ratio_of_masses() -> None:
    """Softmax over cat(prefix, text) = (text + r * prefix) / (1 + r), r = Z_prefix / Z_text: one
    query, worked out with both forms.
    """
    from components.adapters.modules.kernel_prefix import kernel_weights

    draw = torch.Generator().manual_seed(1)
    query, keys, values = (
        torch.randn(shape, generator=draw) for shape in ((1, 1, 1, E), (1, 9, 1, E), (1, 9, 1, E))
    )
    scores = (query * keys).sum(-1)[0, :, 0] / math.sqrt(E)
    whole = torch.softmax(scores, 0) @ values[0, :, 0]
    prefix = (
        kernel_weights(query, keys[:, :4], kernel="exp", lengthscale=1.0)[0, 0, 0]
        @ values[0, :4, 0]
    )
    text = torch.softmax(scores[4:], 0) @ values[0, 4:, 0]
    ratio = scores[:4].exp().sum() / scores[4:].exp().sum()
    torch.testing.assert_close((text + ratio * prefix) / (1 + ratio), whole)


def test_refusals_name_the_fix() -> None:
    with pytest.raises(
        ConfigError,
        match=r"adapter.targets: 'quary' is no linear .* Known: dense, key, key_global, query",
    ):
        new("lora", "longformer", targets=("quary",))
    with pytest.raises(ConfigError, match=r"full_fine_tuning needs training.precision=fp32"):
        new("full_fine_tuning", "longformer", backbone=build("longformer").bfloat16())
    with pytest.raises(
        ConfigError,
        match=r"kernel_propagation needs prefix rows that see the text.* use kernel_prefix",
    ):
        new("kernel_propagation", "llama")
    with pytest.raises(
        ConfigError, match=r"released_indexing repeats an error of the paper's Longformer code"
    ):
        adapt(
            build("llama"),
            PrefixTuningConfig(released_indexing=True),
            ClassificationHeadConfig(num_labels=2, pooling="mean"),
        )


@pytest.mark.parametrize(
    ("method", "kind"),
    [pair for pair in PAIRS if pair[0] != "full_fine_tuning" and pair[1] != "llama"],
)
def test_bf16_backbone_trains_float32_parameters(method: str, kind: str) -> None:
    model = new(method, kind, backbone=build(kind).bfloat16())
    _, ids, mask = documents(model.backbone.config.pad_token_id)
    model.train()(ids, mask, torch.tensor([0, 1])).loss.backward()
    assert {parameter.dtype for parameter in model.trainable_parameters().values()} == {
        torch.float32
    }
    assert all(
        parameter.grad is not None and bool(torch.isfinite(parameter.grad).all())
        for parameter in model.trainable_parameters().values()
    )


@pytest.mark.parametrize("rope_type", ["default", "yarn", "llama3"])
def test_prefix_tuning_in_a_decoder_is_keys_and_values_in_its_cache(rope_type: str) -> None:
    """Trained keys are taken as they are: neither rotated nor, where the rotary embedding scales
    (YaRN), scaled.
    """
    from transformers import DynamicCache

    further = {"llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0}}.get(rope_type, {})
    scaled = (
        {}
        if rope_type == "default"
        else {"factor": 8.0, "original_max_position_embeddings": 16} | further
    )
    model = new(
        "prefix_tuning",
        "llama",
        backbone=build(
            "llama", rope_parameters={"rope_type": rope_type, "rope_theta": 1e4} | scaled
        ),
    )
    ids = documents(0)[1]
    text = ids[:1]
    cache = DynamicCache()
    for layer in range(L):
        key_PHE, value_PHE = (
            values[layer].detach().view(P, 2, E)
            for values in (model.adapter.prefix_key, model.adapter.prefix_value)
        )
        cache.update(key_PHE.transpose(0, 1)[None], value_PHE.transpose(0, 1)[None], layer)
    with torch.no_grad():
        rows = model.backbone(
            input_ids=text,
            past_key_values=cache,
            position_ids=P + torch.arange(text.shape[1])[None],
        ).last_hidden_state
        expected = model.head.out_proj(torch.tanh(model.head.dense(rows.mean(1))))
        torch.testing.assert_close(model(text).logits, expected, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize(
    "method", ["prefix_propagation", "propagation_and_prefix_tuning", "kernel_propagation"]
)
def test_a_parameter_that_was_put_in_anothers_place_is_the_one_that_counts(method: str) -> None:
    model, other = (new(method, "longformer") for _ in range(2))
    _, ids, mask = documents(1)
    with torch.no_grad():
        other.adapter.prefix.mul_(3)
        model.adapter.prefix = torch.nn.Parameter(other.adapter.prefix.clone())
        assert torch.equal(model(ids, mask).logits, other(ids, mask).logits)
