"""All windows in one call of scaled_dot_product_attention: equal to the loop over blocks without
dropout, and with it a fair draw over the keys that a row sees.

Not covered: the kernels that a GPU takes for this call (here it is CPU's); pipelines/research/
benchmark/gpu.py compares them on a GPU.
"""

import pytest
import torch
from torch import Tensor

from components.backbones.longformer import fast_attention
from components.backbones.longformer.attention_plan import AttentionPlan
from components.backbones.longformer.banded_attention import banded_attention
from components.backbones.longformer.windowed_attention import windowed_attention
from tests.components.backbones.longformer.fast_twin import (
    CASES,
    embeddings,
    fast_twin,
    longformer,
    masks,
    outputs_and_gradient,
)

HEADS, WIDTH = 3, 24
WINDOWS = (4, 70)


def plan_of(case: str, window: int, dtype: torch.dtype = torch.float32) -> AttentionPlan:
    batch, rows, padding, global_rows = CASES[case]
    attention_BS, global_BS = masks(batch, rows, padding=padding, global_rows=global_rows)
    return AttentionPlan(
        attention_BS * (global_BS + 1.0) - 1, one_sided_window=window, block_size=64, dtype=dtype
    )


def tensors(plan: AttentionPlan, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = [(*plan.is_padding_BS.shape, WIDTH)] * 3 + [(len(plan.global_places[0]), WIDTH)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def results(attend, plan: AttentionPlan, given: list[Tensor]) -> list[Tensor]:
    output = attend(*given, plan=plan, num_heads=HEADS, dropout=0.0)
    weights = torch.sin(torch.arange(output.numel())).view_as(output).to(output.dtype)
    return [output, *torch.autograd.grad((output * weights).sum(), given, allow_unused=True)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "-"))
def test_one_call_equals_the_loop_over_blocks_forward_and_backward(case: str, window: int) -> None:
    plan = plan_of(case, window)
    given = tensors(plan)
    blocks, windows = (
        results(attend, plan, given) for attend in (banded_attention, windowed_attention)
    )
    for expected, found in zip(blocks, windows, strict=True):
        if expected is None or not expected.numel():
            assert found is None or not found.any()
            continue
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_holes_in_the_mask_and_documents_of_padding_alone_stay_finite_and_unseen() -> None:
    attention_BS, global_BS = masks(2, 150, padding=(3, 150), global_rows=((0, 60), ()))
    attention_BS[0, [5, 6, 33, 130]] = 0
    plan = AttentionPlan(
        attention_BS * (global_BS + 1.0) - 1, one_sided_window=9, block_size=64, dtype=torch.float32
    )
    given = tensors(plan)
    blocks, windows = (
        results(attend, plan, given) for attend in (banded_attention, windowed_attention)
    )
    for expected, found in zip(blocks, windows, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    assert not any(tensor[1].any() for tensor in windows[:4])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_is_close_to_float32_and_finite(dtype: torch.dtype) -> None:
    case = "padded to different lengths"
    exact = results(windowed_attention, plan_of(case, 4), tensors(plan_of(case, 4)))
    low = results(windowed_attention, plan_of(case, 4), tensors(plan_of(case, 4), dtype))
    for expected, found in zip(exact, low, strict=True):
        assert found.isfinite().all()
        assert (found.float() - expected).abs().mean() < 3e-2 * expected.abs().mean()


def drawn(plan: AttentionPlan, given: list[Tensor], *, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    output: Tensor = windowed_attention(*given, plan=plan, num_heads=HEADS, dropout=0.3)
    return output


def test_dropout_is_unbiased() -> None:
    plan, draws = plan_of("prefix and first token", 4), 600
    given = [tensor.detach() for tensor in tensors(plan)]
    calm = windowed_attention(*given, plan=plan, num_heads=HEADS, dropout=0.0)
    sample = torch.stack([drawn(plan, given, seed=seed) for seed in range(draws)])
    error = sample.std(0) / draws**0.5
    assert ((sample.mean(0) - calm).abs() < 6 * error + 1e-6).all()
    local = ~(plan.is_padding_BS | plan.is_global_BS)
    assert (sample.std(0)[local] > 0).all()


def test_dropout_leaves_global_rows_and_padding_alone() -> None:
    plan = plan_of("padded to different lengths", 4)
    given = tensors(plan)
    output = drawn(plan, given)
    assert torch.equal(output[plan.global_places], given[3])
    assert not output[plan.is_padding_BS].any()


def test_a_key_that_is_not_seen_has_no_part_under_dropout_either() -> None:
    plan = plan_of("padded to different lengths", 4)
    given = tensors(plan)
    before = drawn(plan, given)
    changed = [tensor.detach().clone() for tensor in given]
    for tensor in changed[1:3]:
        tensor[plan.is_padding_BS] = 1e3
        tensor[0, 20:] += 5.0  # nearer than 4 rows: 16 and later
    after = drawn(plan, changed)
    assert torch.equal(after[0, :16], before[0, :16])
    assert torch.equal(after[1:], before[1:])


def test_gradient_under_dropout_is_that_of_the_drawn_mask() -> None:
    plan = plan_of("prefix and first token", 4, torch.float64)
    given = [tensor.detach().double().requires_grad_() for tensor in tensors(plan)]
    assert torch.autograd.gradcheck(
        lambda *parts: drawn(plan, list(parts)), tuple(given), fast_mode=True
    )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_that_takes_the_one_call_equals_stock(
    checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fast_attention.LOCAL_KERNELS, "blocks", windowed_attention)
    stock = longformer().train()
    fast = fast_twin(stock)
    if checkpointing:
        fast.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    batch, rows, padding, global_rows = CASES["padded to different lengths"]
    given = masks(batch, rows, padding=padding, global_rows=global_rows)
    expected, found = (
        outputs_and_gradient(model, embeddings(batch, rows), *given) for model in (stock, fast)
    )
    for left, right in zip(expected, found, strict=True):
        torch.testing.assert_close(right, left, atol=1e-5, rtol=1e-5)
