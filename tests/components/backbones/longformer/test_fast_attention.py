"""Laws of the fast Longformer attention: equal to the stock implementation, in outputs at every
real row and in gradients, whatever the padding and the global rows.

Not covered: FlexAttention on a GPU (its plan and mask are checked against the dense definition on
the CPU), and speed (pipelines/research/benchmark).
Tolerance: 1e-5 in float32 after three layers, as issue and design ask; 3e-2 in bf16, whose unit
roundoff is 4e-3.
"""

import copy
import gc

import pytest
import torch
from torch import Tensor

from components.backbones.longformer.attention_plan import AttentionPlan
from components.backbones.longformer.banded_attention import banded_attention
from components.backbones.longformer.fast_attention import (
    fast_attention_available,
    install_fast_attention,
    takes_output_rows,
    uninstall_fast_attention,
)
from components.backbones.longformer.flex_attention import (
    FLEX_BLOCK_SIZE,
    block_mask,
    flex_local_attention,
)
from tests.components.backbones.longformer.fast_twin import (
    CASES,
    WINDOW,
    embeddings,
    fast_twin,
    longformer,
    masks,
    outputs_and_gradient,
)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "-"))
def test_fast_attention_equals_stock_attention(case: str, training: bool) -> None:
    batch, rows, padding, global_rows = CASES[case]
    stock = longformer().train(training)
    attention_BS, global_BS = masks(batch, rows, padding=padding, global_rows=global_rows)
    expected = outputs_and_gradient(stock, embeddings(batch, rows), attention_BS, global_BS)
    found = outputs_and_gradient(fast_twin(stock), embeddings(batch, rows), attention_BS, global_BS)
    for name, left, right in zip(("hidden states", "gradient"), expected, found, strict=True):
        torch.testing.assert_close(
            right, left, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_holes_in_the_attention_mask_equal_stock() -> None:
    stock = longformer()
    attention_BS, global_BS = masks(2, 64, padding=(0, 6), global_rows=((0, 1), (2, 30)))
    attention_BS[0, [5, 6, 33]] = 0
    attention_BS[1, :2] = 0  # padded on the left
    for left, right in zip(
        *(
            outputs_and_gradient(model, embeddings(2, 64), attention_BS, global_BS)
            for model in (stock, fast_twin(stock))
        ),
        strict=True,
    ):
        torch.testing.assert_close(right, left, atol=1e-5, rtol=1e-5)


def test_gradients_of_weights_equal_stock() -> None:
    stock = longformer().requires_grad_(True)
    fast = fast_twin(stock)
    attention_BS, global_BS = masks(2, 40, padding=(0, 9), global_rows=((0, 1, 9), (0,)))
    for model in (stock, fast):
        outputs_and_gradient(model, embeddings(2, 40), attention_BS, global_BS)
    expected = {
        name: parameter.grad
        for name, parameter in stock.named_parameters()
        if parameter.grad is not None
    }
    found = {
        name: parameter.grad
        for name, parameter in fast.named_parameters()
        if parameter.grad is not None
    }
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        scale = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(
            found[name] / scale,
            gradient / scale,
            atol=1e-5,
            rtol=1e-5,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_a_hook_on_a_projection_sees_the_whole_sequence() -> None:
    stock = longformer()
    attention_BS, global_BS = masks(2, 40, padding=(0, 9), global_rows=((0, 1), (0, 1)))
    plain, _ = outputs_and_gradient(stock, embeddings(2, 40), attention_BS, global_BS)
    results = []
    for model, rows_axis in (
        (stock, 0),
        (fast_twin(stock), 1),
    ):  # the stock attention projects (S, B, D)
        for layer in model.encoder.layer:
            for projection in (layer.attention.self.key_global, layer.attention.self.value_global):
                projection.register_forward_hook(
                    lambda _module, _inputs, output, axis=rows_axis: output.roll(1, dims=axis)
                )
        results.append(outputs_and_gradient(model, embeddings(2, 40), attention_BS, global_BS))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(right, left, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(results[0][0], plain)


def test_padding_does_not_reach_real_rows_and_gradients_stay_finite() -> None:
    fast = fast_twin(longformer())
    attention_BS, global_BS = masks(
        2, 40, padding=(9, 40), global_rows=((0, 1), ())
    )  # the second example is padding only: a dummy of zero weight
    first = embeddings(2, 40)
    second = torch.where(attention_BS[..., None].bool(), first, first * -7 + 3)
    results = [
        outputs_and_gradient(fast, given, attention_BS, global_BS) for given in (first, second)
    ]
    torch.testing.assert_close(results[0][0], results[1][0], atol=0, rtol=0)
    assert all(tensor.isfinite().all() for result in results for tensor in result)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "rows",
    [((0,), (0,)), ((3, 0), (0, 2)), ((39,), (20,))],
    ids=["prefix", "global-rows", "local-rows"],
)
def test_rows_asked_for_equal_the_whole_and_nothing_else_is_computed(
    rows: tuple[tuple[int, ...], ...], checkpointing: bool
) -> None:
    stock = longformer().train()
    fast = fast_twin(stock)
    if checkpointing:
        fast.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    attention_BS, global_BS = masks(2, 40, padding=(0, 9), global_rows=((0, 1, 2, 3), (0, 1, 2, 3)))
    rows_BR = torch.tensor(rows)
    results = []
    for model, extra in ((stock, {}), (fast, {"output_rows": rows_BR})):
        given_BSD = embeddings(2, 40).requires_grad_(True)
        hidden_BSD = model(
            inputs_embeds=given_BSD,
            attention_mask=attention_BS,
            global_attention_mask=global_BS,
            **extra,
        ).last_hidden_state
        asked_BRD = hidden_BSD[torch.arange(2)[:, None], rows_BR]
        asked_BRD.square().sum().backward()
        results.append((asked_BRD.detach(), given_BSD.grad))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(
            right, left, atol=2e-5, rtol=1e-5
        )  # squares double the gradient, and its error
    assert int((hidden_BSD.abs().sum(-1) > 0).sum()) == rows_BR.numel()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_equals_banded_attention() -> None:
    generator = torch.Generator().manual_seed(9)
    query, key, value = (torch.randn(2, 300, 32, generator=generator) for _ in range(3))
    attention_BS, global_BS = masks(2, 300, padding=(0, 130), global_rows=((0, 1, 290), (0,)))
    plan = AttentionPlan(
        attention_BS * (global_BS + 1.0) - 1,
        one_sided_window=20,
        block_size=64,
        dtype=torch.float32,
    )
    global_ND = torch.randn(4, 32, generator=generator)
    banded, flex = (
        attend(query, key, value, global_ND, plan=plan, num_heads=2, dropout=0.0)
        for attend in (banded_attention, flex_local_attention)
    )
    torch.testing.assert_close(flex, banded, atol=1e-5, rtol=1e-5)
    mask = block_mask(plan)
    seen = torch.stack(
        [
            mask.mask_mod(index, None, torch.arange(300)[:, None], torch.arange(300)[None])
            for index in range(2)
        ]
    )
    index, row, key = seen.nonzero(as_tuple=True)
    assert mask.to_dense()[index, 0, row // FLEX_BLOCK_SIZE, key // FLEX_BLOCK_SIZE].all(), (
        "every block that holds a seen key is visited"
    )


def test_gradient_checkpointing_changes_nothing() -> None:
    plain = fast_twin(longformer(attention_probs_dropout_prob=0.2)).train()
    recomputed = fast_twin(longformer(attention_probs_dropout_prob=0.2)).train()
    recomputed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    attention_BS, global_BS = masks(2, 40, padding=(0, 9), global_rows=((0, 1, 9), (0,)))
    results = []
    for model in (plain, recomputed):
        torch.manual_seed(3)
        results.append(outputs_and_gradient(model, embeddings(2, 40), attention_BS, global_BS))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(right, left, atol=0, rtol=0)


def test_bf16_is_close_to_float32() -> None:
    model = longformer()
    attention_BS, global_BS = masks(2, 40, padding=(0, 9), global_rows=((0, 1, 9), (0,)))
    expected, _ = outputs_and_gradient(model, embeddings(2, 40), attention_BS, global_BS)
    low = fast_twin(model).to(torch.bfloat16)
    found, gradient = outputs_and_gradient(
        low, embeddings(2, 40).bfloat16(), attention_BS, global_BS
    )
    assert found.dtype == torch.bfloat16 and gradient.isfinite().all()
    assert (found.float() - expected).abs().mean() < 3e-2 * expected.abs().mean()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _ = outputs_and_gradient(fast_twin(model), embeddings(2, 40), attention_BS, global_BS)
    assert (cast.float() - expected).abs().mean() < 3e-2 * expected.abs().mean()


def test_attention_dropout_is_unbiased_and_as_wide_as_the_stock_one() -> None:
    stock = longformer(
        num_hidden_layers=1, attention_window=[WINDOW], attention_probs_dropout_prob=0.3
    )
    fast = fast_twin(stock)
    attention_BS, global_BS = masks(1, 24, padding=(2,), global_rows=((0, 1),))
    calm_BSD = fast.eval()(
        inputs_embeds=embeddings(1, 24),
        attention_mask=attention_BS,
        global_attention_mask=global_BS,
    ).last_hidden_state
    moments = []
    given = {
        "inputs_embeds": embeddings(1, 24).expand(400, -1, -1),
        "attention_mask": attention_BS.expand(400, -1),
        "global_attention_mask": global_BS.expand(400, -1),
    }
    captured: list[Tensor] = []
    for model in (stock.train(), fast.train()):
        torch.manual_seed(11)
        attention = model.encoder.layer[0].attention.self
        handle = attention.register_forward_hook(
            lambda *call: captured.append(call[-1][0].detach())
        )
        model(**given)
        handle.remove()
        draws_BSD = captured.pop()[:, :22]
        moments.append((draws_BSD.mean(0), draws_BSD.std(0)))
    (stock_mean, stock_std), (fast_mean, fast_std) = moments
    error = stock_std / 400**0.5
    assert ((fast_mean - stock_mean).abs() < 7 * error + 1e-6).all()
    assert ((fast_std - stock_std).abs() < 0.35 * stock_std + 1e-6).all()
    assert calm_BSD.isfinite().all()


def test_gradient_under_dropout_is_that_of_the_drawn_mask() -> None:
    fast = (
        fast_twin(
            longformer(
                num_hidden_layers=1, attention_window=[WINDOW], attention_probs_dropout_prob=0.3
            )
        )
        .double()
        .train()
    )
    attention_BS, global_BS = masks(1, 12, padding=(1,), global_rows=((0, 5),))

    def hidden(given_BSD: Tensor) -> Tensor:
        torch.manual_seed(2)
        return fast(
            inputs_embeds=given_BSD, attention_mask=attention_BS, global_attention_mask=global_BS
        ).last_hidden_state[:, :11]

    assert torch.autograd.gradcheck(
        hidden, embeddings(1, 12).double().requires_grad_(True), fast_mode=True
    )


def test_a_deep_copy_is_fast_and_uses_its_own_weights() -> None:
    first = fast_twin(longformer())
    second = copy.deepcopy(first)
    for parameter in second.parameters():
        parameter.data.mul_(0.5)
    stock = copy.deepcopy(second)
    uninstall_fast_attention(stock)
    attention_BS, global_BS = masks(1, 20, padding=(3,), global_rows=((0,),))
    expected, _ = outputs_and_gradient(stock, embeddings(1, 20), attention_BS, global_BS)
    found, _ = outputs_and_gradient(second, embeddings(1, 20), attention_BS, global_BS)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert takes_output_rows(second)


def test_outputs_besides_the_last_hidden_state_equal_stock() -> None:
    stock = longformer()
    given = dict(
        zip(
            ("attention_mask", "global_attention_mask"),
            masks(1, 24, padding=(0,), global_rows=((0, 1),)),
            strict=True,
        )
    )
    expected, found = (
        model(input_ids=torch.arange(2, 26)[None], output_hidden_states=True, **given)
        for model in (stock, fast_twin(stock))
    )
    for left, right in zip(expected.hidden_states, found.hidden_states, strict=True):
        torch.testing.assert_close(right, left, atol=1e-5, rtol=1e-5)
    plain = fast_twin(stock)(input_ids=torch.arange(2, 26)[None], return_dict=False, **given)
    torch.testing.assert_close(plain[0], expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="uninstall_fast_attention"):
        fast_twin(stock)(input_ids=torch.arange(2, 26)[None], output_attentions=True)


def test_uninstall_gives_the_stock_model_back_and_plans_do_not_pile_up() -> None:
    def plans() -> int:
        gc.collect()
        return sum(type(found).__name__ == "AttentionPlan" for found in gc.get_objects())

    model, before = longformer(), plans()
    methods = {name: module.forward for name, module in model.named_modules()}
    assert fast_attention_available(model) and not fast_attention_available(torch.nn.Linear(2, 2))
    install_fast_attention(model)
    attention_BS, global_BS = masks(1, 20, padding=(0,), global_rows=((0,),))
    for _ in range(3):
        model(
            inputs_embeds=embeddings(1, 20),
            attention_mask=attention_BS,
            global_attention_mask=global_BS,
        )
    assert plans() <= before  # graphs of other tests may hold theirs, and let go of them meanwhile
    assert takes_output_rows(model)
    uninstall_fast_attention(model)
    assert not takes_output_rows(model)
    assert {name: module.forward for name, module in model.named_modules()} == methods
