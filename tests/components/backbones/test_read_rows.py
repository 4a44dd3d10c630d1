"""The last layer for the read rows alone equals the whole layer at these rows, in outputs and in
gradients, for every kind of decoder layer that transformers has in stock.

Tolerance: 1e-6 relative to the largest value in float32: the same sums, by another kernel.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from components.backbones.own_forward import uninstall_forward
from components.backbones.read_rows import (
    _mask_of_rows,
    _Run,
    install_read_rows,
    takes_read_rows,
)

B, S, D = 2, 13, 32
SIZES = {
    "vocab_size": 40,
    "hidden_size": D,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
WINDOW: dict[str, Any] = {"sliding_window": 4}
EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("self_attn", {}),
    "qwen3": ("self_attn", {}),
    "mistral": ("self_attn", WINDOW),
    "gemma2": ("self_attn", WINDOW | {"query_pre_attn_scalar": 8}),
    "gemma3_text": ("self_attn", WINDOW | {"query_pre_attn_scalar": 8}),
    "gpt_oss": ("self_attn", WINDOW | {"num_local_experts": 4} | EXPERTS),
    "olmo2": ("self_attn", {}),
    "olmo3": ("self_attn", WINDOW),
    "cohere2": ("self_attn", WINDOW),
    "exaone4": ("self_attn", WINDOW),
    "phi3": ("self_attn", {}),
    "phi": ("self_attn", {}),
    "gpt_neox": ("attention", {}),
    "glm4": ("self_attn", {}),
    "nanochat": ("self_attn", {}),
    "mixtral": ("self_attn", {"num_local_experts": 4} | EXPERTS),
    "qwen3_moe": ("self_attn", {"num_experts": 4} | EXPERTS),
    "llama4_text": (
        "self_attn",
        {"attention_chunk_size": 4, "num_local_experts": 2, "intermediate_size_mlp": 48},
    ),
    "eurobert": ("self_attn", {}),
}
CHECKPOINTED = ("llama", "gpt_oss", "olmo2", "phi3")


def backbone(kind: str, **changes: Any) -> Any:
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SIZES | KINDS[kind][1] | changes))
    model: Any = AutoModel.from_config(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.requires_grad_(False)


def reading(model: Any, kind: str) -> Any:
    twin = copy.deepcopy(model)
    layer = twin.layers[-1]
    install_read_rows(layer, layer.get_submodule(KINDS[kind][0]))
    return copy.deepcopy(twin)  # what is installed follows its module into a copy


def answers(model: Any, rows_BR: Tensor, mask_BS: Tensor | None, **options: Any) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    given = torch.randn(B, S, D, generator=generator).requires_grad_()
    hidden = model(inputs_embeds=given, attention_mask=mask_BS, use_cache=False, **options)
    read = hidden.last_hidden_state[torch.arange(B)[:, None], rows_BR]
    weights = torch.sin(torch.arange(read.numel())).view_as(read)
    (read * weights).sum().backward()
    assert given.grad is not None
    return [read.detach(), given.grad]


def check_same(expected: list[Tensor], found: list[Tensor], tolerance: float = 1e-6) -> None:
    for left, right in zip(expected, found, strict=True):
        scale = float(left.abs().max())
        torch.testing.assert_close(right / scale, left / scale, atol=tolerance, rtol=0)


PADDED = torch.ones(B, S, dtype=torch.long)
PADDED[1, 9:] = 0


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_read_rows_equal_the_whole_layer(kind: str, padded: bool) -> None:
    model, mask = backbone(kind).train(), PADDED if padded else None
    for rows in ([[12], [8]], [[3, 12], [0, 8]]):
        rows_BR = torch.tensor(rows)
        expected = answers(model, rows_BR, mask)
        check_same(expected, answers(reading(model, kind), rows_BR, mask, read_rows=rows_BR))


@pytest.mark.parametrize("kind", CHECKPOINTED)
def test_gradient_checkpointing_changes_nothing(kind: str) -> None:
    model, rows_BR = backbone(kind).train(), torch.tensor([[12], [8]])
    expected = answers(model, rows_BR, PADDED)
    twin = reading(model, kind)
    twin.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    check_same(expected, answers(twin, rows_BR, PADDED, read_rows=rows_BR))


def test_a_flex_mask_is_read_by_rows() -> None:
    """The mask alone: flex_attention has no backward pass on a CPU."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key > query - 4) & PADDED.bool()[batch, key]

    mask = create_block_mask(sees, B, None, S, S, device="cpu")
    rows_BR = torch.tensor([[3, 12], [0, 8]])
    run = _Run(rows_BR, "flex_attention", torch.zeros(B, 2, S, 8), None, mask)
    seen_BRS = _mask_of_rows(run, is_causal=True, like=torch.zeros(1))[:, 0] == 0
    key_S, row_BR1 = torch.arange(S), rows_BR[..., None]
    near_BRS = (key_S <= row_BR1) & (key_S > row_BR1 - 4)
    assert torch.equal(seen_BRS, near_BRS & PADDED[:, None].bool())


def test_hooks_that_replace_keys_and_values_act_on_all_rows_and_rest_on_the_read_ones() -> None:
    from components.backbones import family_of

    model, rows_BR = backbone("llama").train(), torch.tensor([[12], [8]])
    key, value = (torch.randn(B, 3, 16) for _ in range(2))
    results = []
    for one, options in ((model, {}), (reading(model, "llama"), {"read_rows": rows_BR})):
        with family_of(one).replaced_keys_and_values(one.layers[-1], key, value):
            results.append(answers(one, rows_BR, PADDED, **options))
        assert not one.layers[-1].self_attn.k_proj._forward_hooks
    check_same(*results)


def test_only_the_read_rows_meet_queries_output_and_feed_forward() -> None:
    model, rows_BR = reading(backbone("llama"), "llama").train(), torch.tensor([[12], [8]])
    layer, met = model.layers[-1], {}
    for name in ("self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.o_proj"):
        _count(layer.get_submodule(name), name, met)
    _count(layer.mlp.gate_proj, "mlp", met)
    answers(model, rows_BR, None, read_rows=rows_BR)
    assert met["self_attn.k_proj"] == met["self_attn.v_proj"] == B * S + B
    assert met["self_attn.q_proj"] == 2 * B
    assert met["self_attn.o_proj"] == met["mlp"] == B


def _count(module: Any, name: str, met: dict[str, int]) -> None:
    forward = module.forward

    def counted(rows: Tensor) -> Tensor:
        met[name] = met.get(name, 0) + rows.shape[0] * rows.shape[1]
        return forward(rows)

    module.forward = counted


def test_rows_that_are_not_read_are_zero_and_without_the_argument_all_are_computed() -> None:
    model, rows_BR = backbone("llama").eval(), torch.tensor([[12], [8]])
    twin, given = reading(model, "llama"), torch.randn(B, S, D)
    hidden = twin(inputs_embeds=given, read_rows=rows_BR).last_hidden_state
    assert int((hidden.abs().sum(-1) > 0).sum()) == rows_BR.numel()
    whole = model(inputs_embeds=given).last_hidden_state
    assert torch.equal(twin(inputs_embeds=given).last_hidden_state, whole)
    layer = twin.layers[-1]
    assert takes_read_rows(layer)
    uninstall_forward(layer)
    assert not takes_read_rows(layer) and "forward" not in vars(layer)


def test_shards_of_zero_3_are_left_to_the_whole_layer() -> None:
    layer = reading(backbone("llama"), "llama").layers[-1]
    layer.mlp.up_proj.weight.ds_id = 7
    assert not takes_read_rows(layer)


def test_bf16_stays_bf16_and_close() -> None:
    model, rows_BR = backbone("llama").train(), torch.tensor([[12], [8]])
    low = reading(model, "llama").to(torch.bfloat16)
    given = torch.randn(B, S, D)
    found = low(inputs_embeds=given.bfloat16(), read_rows=rows_BR).last_hidden_state
    expected = model(inputs_embeds=given).last_hidden_state
    places = torch.arange(B)[:, None], rows_BR
    assert found.dtype == torch.bfloat16
    assert (found[places].float() - expected[places]).abs().mean() < 0.05
