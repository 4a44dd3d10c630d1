"""Every listed model type, as it is, and the types with a window once with and once without one: a
tiny random model of each. The suite runs over the table, so that a type is tested by being listed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from components.adapters import (
    ClassificationHeadConfig,
    MultipleChoiceHeadConfig,
    PrefixPropagationConfig,
    adapt,
    load_adapter,
    save_adapter,
)
from components.adapters.methods import ADAPTER_CONFIGS
from components.backbones import backbone_shape, family_of
from components.backbones.rotary.sizes import LOCAL, layer_kinds
from components.backbones.rotary.types import MODEL_TYPES
from components.backbones.tiled_feed_forward import tile_feed_forward
from components.errors import ConfigError
from tests.components.backbones.rotary.tiny import LAYERS, WINDOW
from tests.components.backbones.rotary.variants import (
    LENGTHS,
    METHODS,
    PAIRS,
    TOLERANCE,
    VARIANTS,
    P,
    adapted,
    backbone_of,
    documents,
    each_variant,
    let_layers_recompute,
    padded,
)

IN_EACH_PLACE = ("prefix_propagation", "prefix_tuning", "kernel_prefix", "lora")
"""A method for each place that one changes: before a layer, keys and values, the attention's
output, a linear module. Every method is tried in the test of gradients.
"""


@each_variant
def test_sizes_are_those_of_the_live_model(variant: str) -> None:
    model = backbone_of(variant)
    shape = backbone_shape(model.config.to_dict())
    assert shape.parameters == sum(each.numel() for each in model.parameters())
    assert shape.layers == len(family_of(model).layers(model)) == LAYERS
    assert shape.linear_parameters == sum(
        module.in_features * module.out_features
        for layer in family_of(model).layers(model)
        for module in layer.modules()
        if type(module) is nn.Linear  # of llama4's router, a class of its own, nothing is quantised
    )
    for layer in family_of(model).layers(model):
        live = {
            f".{path}": (module.in_features, module.out_features)
            for path, module in layer.named_modules()
            if isinstance(module, nn.Linear)
        }
        for name, widths in shape.linear_widths.items():
            found = {size for path, size in live.items() if path.endswith(f".{name}")}
            assert found == {widths}, name
    assert set(shape.lora_targets) <= set(shape.linear_widths)


@each_variant
def test_without_an_adapter_each_document_is_read_as_the_stock_model_reads_it_alone(
    variant: str,
) -> None:
    """Right padding needs no mask behind a causal one, and local layers keep their windows."""
    model = adapted(variant, "head_only", pooling="mean")
    texts, ids, mask = documents()
    logits_BC = model(input_ids=ids, attention_mask=mask).logits
    for text, logits_C in zip(texts, logits_BC, strict=True):
        stock_BTD = model.backbone(input_ids=torch.tensor([text])).last_hidden_state
        torch.testing.assert_close(
            model.head(stock_BTD.mean(dim=1))[0], logits_C, atol=TOLERANCE, rtol=TOLERANCE
        )


@each_variant
@pytest.mark.parametrize("method", IN_EACH_PLACE)
def test_padding_and_neighbours_change_nothing(variant: str, method: str) -> None:
    model = adapted(variant, method)
    texts, ids, mask = documents()
    logits_BC = model(input_ids=ids, attention_mask=mask).logits
    left_ids, left_mask = padded(texts, left=True)
    turned_BC = model(input_ids=left_ids, attention_mask=left_mask).logits
    torch.testing.assert_close(turned_BC, logits_BC, atol=TOLERANCE, rtol=TOLERANCE)
    for text, logits_C in zip(texts, logits_BC, strict=True):
        alone_C = model(input_ids=torch.tensor([text])).logits[0]
        torch.testing.assert_close(alone_C, logits_C, atol=TOLERANCE, rtol=TOLERANCE)


@each_variant
@pytest.mark.parametrize("method", ["prefix_propagation", "prefix_tuning"])
def test_the_last_row_sees_the_prefix_in_every_layer(variant: str, method: str) -> None:
    """The prefix of a layer changes what that layer itself gives the last row, however far away."""
    model = adapted(variant, method)
    assert LENGTHS[0] > 2 * WINDOW
    outputs: list[Tensor] = []
    layers = family_of(model.backbone).layers(model.backbone)
    handles = [
        layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        for layer in layers
    ]
    texts, *_ = documents()
    model(input_ids=torch.tensor([texts[0]]))
    for handle in handles:
        handle.remove()
    parameters = [each for name, each in model.named_parameters() if name.startswith("adapter.")]
    for index, output in enumerate(outputs):
        hidden_BSD = output[0] if isinstance(output, tuple) else output
        chosen = torch.randn(hidden_BSD.shape[-1], generator=torch.Generator().manual_seed(index))
        gradients = torch.autograd.grad(
            (hidden_BSD[0, -1] * chosen).sum(), parameters, retain_graph=True
        )
        for gradient_LPK in gradients:
            assert gradient_LPK[index].abs().amax(dim=-1).min() > 1e-7, index


@each_variant
def test_masks_are_the_naive_ones(variant: str) -> None:
    """Eager attention under masks written out row by row gives the same."""
    model = adapted(variant)
    texts, *_ = documents()
    ids = torch.tensor([texts[0]])
    logits_BC = model(input_ids=ids).logits
    config: Any = model.backbone.config
    kind, rows = MODEL_TYPES[config.model_type], len(texts[0]) + P
    model.backbone.set_attn_implementation("eager")  # type: ignore[operator]
    stock = model.family.prefixed_inputs

    def with_naive_masks(*args: Any, **named: Any) -> dict[str, Any]:
        kinds = layer_kinds(kind, config.to_dict())
        masks = {each: naive_mask(kind.is_causal, each, rows) for each in (*kinds, *LOCAL)}
        masks["full_attention"] = naive_mask(kind.is_causal, "full_attention", rows)
        return stock(*args, **named) | {
            "attention_mask": masks if kind.masks_by_layer else masks[kinds[0]]
        }

    object.__setattr__(model, "family", Stub(model.family, with_naive_masks))
    naive_BC = model(input_ids=ids).logits
    torch.testing.assert_close(naive_BC, logits_BC, atol=TOLERANCE, rtol=TOLERANCE)


class Stub:
    """A family with other inputs."""

    def __init__(self, family: Any, prefixed_inputs: Callable[..., Any]) -> None:
        self.family, self.prefixed_inputs = family, prefixed_inputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.family, name)


def naive_mask(is_causal: bool, kind: str, rows: int) -> Tensor:
    """0 where the key is seen, else the least number."""
    mask = torch.full((1, 1, rows, rows), torch.finfo(torch.float32).min)
    for query in range(rows):
        for key in range(rows):
            near = abs(query - key) < WINDOW if is_causal else abs(query - key) <= WINDOW
            if kind == "chunked_attention":
                near = query // WINDOW == key // WINDOW
            local = kind in LOCAL
            prefix = key < P or (query < P and not is_causal)
            if (key <= query or not is_causal) and (near or prefix or not local):
                mask[0, 0, query, key] = 0.0
    return mask


@pytest.mark.parametrize(("variant", "method"), PAIRS)
def test_gradients_are_where_something_is_trained_and_checkpointing_keeps_them(
    variant: str, method: str
) -> None:
    _, ids, mask = documents()
    found = []
    for checkpointing in (False, True):
        model = adapted(variant, method, pooling="mean").train()
        if checkpointing:
            let_layers_recompute(model)
        model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 2])).loss.backward()
        trained = model.trainable_parameters()
        for name, parameter in model.named_parameters():
            assert (name in trained) == parameter.requires_grad, name
            assert name in trained or parameter.grad is None, name
        without = {name for name, each in trained.items() if each.grad is None}
        assert all(unused(name) for name in without), without
        assert all(each.grad.isfinite().all() for each in trained.values() if each.grad is not None)
        found.append({name: each.grad for name, each in trained.items() if each.grad is not None})
    plain, again = found
    assert set(plain) == set(again)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, atol=TOLERANCE, rtol=TOLERANCE)


def unused(name: str) -> bool:
    """Embeddings of a full fine-tuning may stand beside those that are read; experts may be asked
    by no row.
    """
    return "experts" in name


@each_variant
def test_in_bf16_the_answer_is_that_of_float32_but_for_rounding(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row asks all experts, because rounding would send some to others; smaller weights, so
    that four layers do not make much of it.
    """
    model_type, changes = VARIANTS[variant]
    gentle = changes | {"num_experts_per_tok": 4, "initializer_range": 0.1}
    monkeypatch.setitem(VARIANTS, variant, (model_type, gentle))
    _, ids, mask = documents()
    whole = adapted(variant)(input_ids=ids, attention_mask=mask).logits
    model = adapted(variant)
    model.backbone.to(torch.bfloat16)
    rounded = model(input_ids=ids, attention_mask=mask).logits
    assert rounded.dtype == torch.float32
    assert (rounded - whole).norm() < 0.1 * whole.norm()


@each_variant
@pytest.mark.parametrize("method", ["prefix_propagation", "prefix_tuning", "prompt_tuning"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_the_first_and_the_last_layer_leave_out_changes_nothing(
    variant: str, method: str, checkpointing: bool
) -> None:
    _, ids, mask = documents()
    found = []
    for accelerated in (False, True):
        model = adapted(variant, method).train()
        if accelerated:
            model.family.accelerate(model.backbone)
        if checkpointing:
            let_layers_recompute(model)
        output = model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 2]))
        output.loss.backward()
        found.append(
            [output.logits, *(each.grad for each in model.trainable_parameters().values())]
        )
    for one, other in zip(*found, strict=True):
        near_zero = TOLERANCE * max(1.0, float(one.abs().max()))
        torch.testing.assert_close(other, one, atol=near_zero, rtol=TOLERANCE)


@each_variant
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("method", ["prefix_propagation", "prefix_tuning"])
def test_a_feed_forward_part_in_tiles_changes_nothing(
    variant: str, method: str, checkpointing: bool
) -> None:
    """Answers and gradients; types with experts are refused (tests/components/planning)."""
    if backbone_shape(backbone_of(variant).config.to_dict()).experts:
        return
    _, ids, mask = documents()
    found = []
    for rows in (None, 5):
        model = adapted(variant, method, pooling="mean").train()
        if checkpointing:
            let_layers_recompute(model)
        for layer in model.family.layers(model.backbone):
            assert model.family.feed_forward is not None
            if rows is not None:
                tile_feed_forward(layer.get_submodule(model.family.feed_forward), rows)
        output = model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 2]))
        output.loss.backward()
        gradients = [each.grad for each in model.trainable_parameters().values()]
        found.append([output.logits, *(each for each in gradients if each is not None)])
    whole, tiled = found
    for one, other in zip(whole, tiled, strict=True):
        torch.testing.assert_close(other, one, atol=TOLERANCE, rtol=TOLERANCE)


@each_variant
@pytest.mark.parametrize("method", IN_EACH_PLACE)
def test_saved_and_loaded_it_answers_bit_for_bit_the_same(
    variant: str, method: str, tmp_path: Path
) -> None:
    model = adapted(variant, method)
    _, ids, mask = documents()
    logits_BC = model(input_ids=ids, attention_mask=mask).logits
    save_adapter(model, tmp_path / "adapter")
    loaded = load_adapter(backbone_of(variant), tmp_path / "adapter")
    assert torch.equal(loaded(input_ids=ids, attention_mask=mask).logits, logits_BC)


@each_variant
def test_what_no_type_can_do_is_refused_by_name(variant: str) -> None:
    for method, settings in (
        ("kernel_propagation", {"prefix_length": P}),
        ("prefix_tuning", {"prefix_length": P, "released_indexing": True}),
    ):
        config = ADAPTER_CONFIGS[method].model_validate(settings)
        with pytest.raises(ConfigError, match=r"kernel_propagation|released_indexing"):
            adapt(backbone_of(variant), config, ClassificationHeadConfig(num_labels=3))


def test_every_method_is_tried_or_refused() -> None:
    from components.adapters.methods import METHODS as KNOWN

    assert set(KNOWN) == {*METHODS, "kernel_propagation"}


@each_variant
def test_nothing_is_left_on_the_backbone(variant: str) -> None:
    backbone = backbone_of(variant)
    before = {name: hooks(module) for name, module in backbone.named_modules()}
    _, ids, mask = documents()
    config = PrefixPropagationConfig(prefix_length=P)
    model = adapt(backbone, config, ClassificationHeadConfig(num_labels=3, pooling="last"))
    model(input_ids=ids, attention_mask=mask)
    assert {name: hooks(module) for name, module in backbone.named_modules()} == before


def hooks(module: nn.Module) -> tuple[int, int]:
    return len(module._forward_hooks), len(module._forward_pre_hooks)


@each_variant
def test_questions_are_answered_where_candidates_see_the_documents(variant: str) -> None:
    """Chunks of a question alone and beside a longer one give the same scores."""
    head, backbone = MultipleChoiceHeadConfig(), backbone_of(variant)
    config = PrefixPropagationConfig(prefix_length=P)
    if not family_of(backbone).rows_see_all_text:
        with pytest.raises(ConfigError, match="candidates that stand before the documents"):
            adapt(backbone, config, head)
        return
    model = adapt(backbone, config, head).eval()
    first, second = question(words=9, candidates=2), question(words=4, candidates=3)
    ids, mask = padded([first, second], left=False)
    logits_BC = model(input_ids=ids, attention_mask=mask).logits
    for text, logits_C in zip((first, second), logits_BC, strict=True):
        alone_C = model(input_ids=torch.tensor([text])).logits[0]
        torch.testing.assert_close(
            alone_C, logits_C[: len(alone_C)], atol=TOLERANCE, rtol=TOLERANCE
        )


def question(*, words: int, candidates: int) -> list[int]:
    """The question, its candidates and its documents; special tokens are told by negative ids."""
    asked, end, candidate, candidate_end = range(-4, 0)
    listed = [
        token for index in range(candidates) for token in (candidate, 7 + index, candidate_end)
    ]
    return [asked, 5, 6, end, *listed, *range(20, 20 + words)]
