"""Laws of every adapter method, on every backbone: who lists a method in ADAPTERS has it tested
here by adding its settings to METHODS.

ZeRO parity: tests/components/training/test_methods.py.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LongformerModel

from components.adapters import (
    ADAPTERS,
    AdaptedModel,
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
    randomise,
    without_and_with_checkpointing,
)

ROUNDING = 1e-5
L, D, C, H, E, BACKBONE_TYPES, P, R = 2, 32, 3, 4, 8, 32, 5, 3
KEY_VALUE = {"longformer": 32, "llama": 16, "qwen3": 16}
TRAINED_WITH_PREFIX = {"longformer": BACKBONE_TYPES, "llama": 0, "qwen3": 0}
KINDS = tuple(KEY_VALUE)
HEAD = D * D + D + D * C + C
LORA_MATRICES = {
    "longformer": 4 * (32 + 32),
    "llama": (32 + 32) + (32 + 16),
    "qwen3": (32 + 32) + (32 + 16),
}

METHODS: dict[str, dict[str, Any]] = {
    "prefix_propagation": {"prefix_length": P},
    "prefix_tuning": {"prefix_length": P},
    "prompt_tuning": {"prefix_length": P},
    "propagation_and_prefix_tuning": {"prefix_length": P},
    "head_only": {},
    "full_fine_tuning": {},
    "lora": {"rank": R, "alpha": 6.0},
    "adaptive_prefix_propagation": {"prefix_length": P},
    "adaptive_prefix_tuning": {"prefix_length": P},
    "prefix_memory": {},
    "kernel_prefix": {"prefix_length": P, "kernel": "rbf", "lengthscale": 2.0},
    "kernel_propagation": {"prefix_length": P, "kernel": "polynomial"},
}
ONLY_LONGFORMER = ("kernel_propagation",)
PAIRS = [
    (method, kind)
    for method in METHODS
    for kind in KINDS
    if kind == "longformer" or method not in ONLY_LONGFORMER
]
PARAMETERS: dict[str, Callable[[str], int]] = {
    "prefix_propagation": lambda kind: L * P * D + TRAINED_WITH_PREFIX[kind],
    "prefix_tuning": lambda kind: 2 * L * P * KEY_VALUE[kind] + TRAINED_WITH_PREFIX[kind],
    "prompt_tuning": lambda kind: P * D,
    "propagation_and_prefix_tuning": lambda kind: (
        L * P * D + 2 * L * P * KEY_VALUE[kind] + TRAINED_WITH_PREFIX[kind]
    ),
    "head_only": lambda kind: 0,
    "full_fine_tuning": lambda kind: build(kind).num_parameters(),
    "lora": lambda kind: L * R * LORA_MATRICES[kind],
    "adaptive_prefix_propagation": lambda kind: L * P * D + L * P + TRAINED_WITH_PREFIX[kind],
    "adaptive_prefix_tuning": lambda kind: (
        2 * L * P * KEY_VALUE[kind] + L * P + TRAINED_WITH_PREFIX[kind]
    ),
    "prefix_memory": lambda kind: L * H * E * E,
    "kernel_prefix": lambda kind: 2 * L * P * KEY_VALUE[kind] + L + TRAINED_WITH_PREFIX[kind],
    "kernel_propagation": lambda kind: L * P * D + L + TRAINED_WITH_PREFIX[kind],
}


def new(
    method: str, kind: str, *, pooling: Any = "mean", backbone: Any = None, **changes: Any
) -> AdaptedModel:
    config = ADAPTER_CONFIGS[method].model_validate(
        {"method": method, **METHODS[method], **changes}
    )
    return adapt(
        backbone or build(kind), config, ClassificationHeadConfig(num_labels=C, pooling=pooling)
    )  # type: ignore[arg-type]


def large(method: str, kind: str, **changes: Any) -> AdaptedModel:
    """With large random values in everything that is trained (full fine-tuning: in the head; the
    backbone's are large already).
    """
    model = new(method, kind, **changes)
    randomise(model, only="head." if method == "full_fine_tuning" else "")
    return model


def answers(model: AdaptedModel, **changes: Any) -> Tensor:
    _, ids, mask = documents(model.backbone.config.pad_token_id)
    with torch.no_grad():
        logits: Tensor = model.eval()(ids, mask, **changes).logits
    return logits


def dense_parts(method: str, leaves: dict[str, Tensor], config: Any) -> Parts:
    adapter = {
        name.removeprefix("adapter."): leaf
        for name, leaf in leaves.items()
        if name.startswith("adapter.")
    }
    gate = adapter["gate"][..., None] if "gate" in adapter else 1.0
    prefix, key, value = (
        adapter[name] * gate if name in adapter else None
        for name in ("prefix", "prefix_key", "prefix_value")
    )
    return Parts(
        offset=config.prefix_length,
        prefix_LPD=prefix,
        prompt_PD=adapter.get("prompt"),
        key_LPD=key,
        value_LPD=value,
        released_rows=config.prefix_length if getattr(config, "released_indexing", False) else 0,
        kernel=getattr(config, "kernel", None),
        alpha_L=adapter.get("alpha"),
        lengthscale=getattr(config, "lengthscale", 1.0),
        memory_LHEE=adapter.get("memory"),
    )


def against_dense(model: AdaptedModel, *, attentions: tuple[str, ...] = ("stock",)) -> None:
    check_against_dense(
        model,
        lambda leaves: dense_parts(model.adapter_config.method, leaves, model.adapter_config),
        attentions=attentions,
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


@pytest.mark.parametrize("kind", KINDS)
def test_lora_equals_the_backbone_with_its_update_added(kind: str) -> None:
    model = large("lora", kind)
    merged = build(kind)
    for name, parameter in model.trainable_parameters().items():
        if "lora_A" in name:
            _, _, layer, target, *_ = name.split(".")
            update = (
                model.trainable_parameters()[name.replace("lora_A", "lora_B")] @ parameter * 6.0 / R
            )
            path = next(
                p
                for p, _ in model.family.layers(merged)[int(layer)].named_modules()
                if p.rpartition(".")[2] == target
            )
            with torch.no_grad():
                model.family.layers(merged)[int(layer)].get_submodule(path).weight += update
    plain = new("head_only", kind, backbone=merged)
    plain.head.load_state_dict(model.head.state_dict())
    torch.testing.assert_close(answers(model), answers(plain), atol=5e-5, rtol=1e-5)
    assert float((answers(model) - answers(new("head_only", kind))).abs().max()) > 0.01


def test_lora_takes_every_module_of_a_name_and_nothing_outside_the_layers() -> None:
    """Three modules of a Longformer's layer are called dense, and one of its pooler."""
    backbone = LongformerModel(build("longformer").config, add_pooling_layer=True)
    model = new("lora", "longformer", targets=("dense",), backbone=backbone)
    trained = {name.split(".")[3] for name in model.trainable_parameters() if "lora_A" in name}
    assert trained == {"attention__output__dense", "intermediate__dense", "output__dense"}
    assert type(backbone.pooler.dense) is torch.nn.Linear
    _, ids, mask = documents(1)
    model.train()(ids, mask, torch.tensor([0, 2])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.trainable_parameters().values())


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["lora", "prefix_memory"])
def test_untrained_update_changes_nothing(method: str, kind: str) -> None:
    model, plain = new(method, kind), new("head_only", kind)
    plain.head.load_state_dict(model.head.state_dict())
    torch.testing.assert_close(answers(model), answers(plain), atol=1e-6, rtol=0)


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
