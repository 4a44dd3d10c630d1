"""What must not change an adapted model's answers: padding, batching, gradient checkpointing, other
adapters on the same backbone.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from components.adapters import (
    AdaptedModel,
    ClassificationHeadConfig,
    PrefixPropagationConfig,
    adapt,
)
from components.errors import BackboneError
from components.inference import classify
from components.tasks.heads.classification import pool
from tests.components.adapters.harness import (
    build,
    check_same_gradients,
    documents,
    left_padded,
    randomise,
    without_and_with_checkpointing,
)
from tests.conftest import build_tiny_decoder, build_tiny_longformer
from tests.toy import make_tokenizer

# Float32 sums in another order (other batch shapes reach other matrix kernels).
ROUNDING = 1e-5
BACKBONES = ("longformer", "llama", "qwen3")


def adapted(
    kind: str, pooling: Any = "mean", *, prefix_length: int = 5, **changes: Any
) -> AdaptedModel:
    model = adapt(
        build(kind, **changes),
        PrefixPropagationConfig(prefix_length=prefix_length),
        ClassificationHeadConfig(num_labels=3, pooling=pooling),
    )
    randomise(model)
    return model.eval()


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("kind", BACKBONES)
def test_padded_equals_unpadded_and_batch_equals_single(kind: str, pooling: Any) -> None:
    model = adapted(kind, pooling)
    texts, ids, mask = documents(model.backbone.config.pad_token_id)
    with torch.no_grad():
        single = torch.cat([model(torch.tensor([text])).logits for text in texts])
        right = model(ids, mask).logits
        wide = model(
            torch.nn.functional.pad(ids, (0, 9), value=model.backbone.config.pad_token_id),
            torch.nn.functional.pad(mask, (0, 9)),
        ).logits
    torch.testing.assert_close(right, single, atol=ROUNDING, rtol=0)
    torch.testing.assert_close(wide, single, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "longformer"])
def test_left_padded_equals_right_padded(kind: str) -> None:
    model = adapted(kind, "cls" if kind == "longformer" else "last")
    texts, ids, mask = documents(model.backbone.config.pad_token_id)
    left_ids, left_mask = left_padded(texts, model.backbone.config.pad_token_id)
    with torch.no_grad():
        torch.testing.assert_close(
            model(left_ids, left_mask).logits, model(ids, mask).logits, atol=ROUNDING, rtol=0
        )


@pytest.mark.filterwarnings("ignore:head.pooling")
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_prefix_rows_of_a_decoder_do_not_depend_on_the_text(kind: str) -> None:
    """Under a causal mask they come before it: pooling them answers the same for every document. A
    Longformer's do see it.
    """
    _, ids, mask = documents(0)
    with torch.no_grad():
        logits = adapted(kind, "prefix")(ids, mask).logits
        seeing = adapted("longformer", "prefix")(ids, mask).logits
    torch.testing.assert_close(logits[0], logits[1], atol=ROUNDING, rtol=0)
    assert float((seeing[0] - seeing[1]).abs().max()) > 0.01


@pytest.mark.parametrize("kind", BACKBONES)
def test_gradient_checkpointing_changes_nothing(kind: str) -> None:
    check_same_gradients(without_and_with_checkpointing(lambda: adapted(kind)), rtol=1e-6)


def test_a_mask_of_truth_values_is_a_mask() -> None:
    for kind in BACKBONES:
        model = adapted(kind, "cls" if kind == "longformer" else "last")
        _, ids, mask = documents(model.backbone.config.pad_token_id)
        with torch.no_grad():
            assert torch.equal(model(ids, mask.bool()).logits, model(ids, mask).logits)


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_document_longer_than_the_positions_is_refused_and_padding_is_not(kind: str) -> None:
    model = adapted(kind, max_position_embeddings=40)
    usable = model.usable_positions
    ids, mask = torch.full((1, usable + 9), 7), torch.ones(1, usable + 9, dtype=torch.long)
    ids[0, usable - 5 :], mask[0, usable - 5 :] = model.backbone.config.pad_token_id, 0
    model(ids, mask)
    with pytest.raises(
        BackboneError, match=rf"data.max_tokens {usable - 4} \+ adapter.prefix_length 5"
    ):
        model(ids[:, :1].expand(1, usable - 4))


def test_a_row_that_cannot_see_the_document_is_told() -> None:
    with pytest.warns(
        UserWarning, match=r"head\.pooling prefix reads a row that comes before the document"
    ):
        adapt(
            build_tiny_decoder(),
            PrefixPropagationConfig(),
            ClassificationHeadConfig(num_labels=2, pooling="prefix"),
        )


@pytest.mark.filterwarnings("ignore:head.pooling")
def test_dropout_is_drawn_per_example() -> None:
    model = adapt(
        build_tiny_decoder(),
        PrefixPropagationConfig(prefix_length=4, dropout=0.5),
        ClassificationHeadConfig(num_labels=2, pooling="prefix"),
    )
    randomise(model)
    logits = model.train()(torch.tensor([[7, 8, 9], [7, 8, 9]])).logits
    assert not torch.equal(logits[0], logits[1])
    evaluated = model.eval()(torch.tensor([[7, 8, 9], [7, 8, 9]])).logits
    torch.testing.assert_close(evaluated[0], evaluated[1], atol=ROUNDING, rtol=0)


POOLED = {
    "prefix": [[0.0, 1.0], [10.0, 11.0]],
    "cls": [[4.0, 5.0], [16.0, 17.0]],
    "last": [[6.0, 7.0], [18.0, 19.0]],
    "mean": [[5.0, 6.0], [17.0, 18.0]],
}


@pytest.mark.parametrize("pooling", POOLED)
def test_pooling_takes_the_named_row(pooling: str) -> None:
    """Two documents of two tokens beside one padding row; the first is padded on the right, the
    second on the left; two prefix rows.
    """
    hidden = torch.arange(20.0).view(2, 5, 2)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    torch.testing.assert_close(
        pool(hidden, mask, prefix_length=2, pooling=pooling), torch.tensor(POOLED[pooling])
    )


def test_mean_pooling_of_a_long_bf16_document_is_exact() -> None:
    """Above 256 rows bf16 cannot count: the sum and the number of rows are float32."""
    hidden = torch.ones(1, 3001, 4, dtype=torch.bfloat16)
    pooled = pool(hidden, torch.ones(1, 3000, dtype=torch.long), prefix_length=1, pooling="mean")
    torch.testing.assert_close(pooled.float(), torch.ones(1, 4), atol=0, rtol=0)


def test_classify_keeps_the_order_and_equals_the_live_model(tmp_path: Any) -> None:
    tokenizer, model = make_tokenizer(tmp_path), adapted("longformer", "prefix")
    texts = ["alpha w1 w2", "w3 " * 50, "beta", "gamma w4 w5 w6 w7"]
    together = classify(model, tokenizer, texts, max_tokens=40, batch_size=3)
    assert together.shape == (4, 3) and together.dtype == np.float32
    with torch.no_grad():
        for row, text in enumerate(texts):
            ids = torch.tensor([tokenizer(text, truncation=True, max_length=40)["input_ids"]])
            np.testing.assert_allclose(
                together[row], torch.softmax(model(ids).logits[0], -1).numpy(), atol=1e-6
            )
    reversed_order = classify(model, tokenizer, texts[::-1], max_tokens=40, batch_size=4)
    np.testing.assert_allclose(reversed_order[::-1], together, atol=1e-6)
    cooler = classify(model, tokenizer, texts, max_tokens=40, temperature=4.0)
    assert cooler.max() < together.max() and (cooler.argmax(1) == together.argmax(1)).all()
    assert classify(model, tokenizer, [], max_tokens=40).shape == (0, 3)
    tokenizer.pad_token = None
    np.testing.assert_allclose(
        classify(model, tokenizer, texts, max_tokens=40, batch_size=3), together, atol=ROUNDING
    )


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_text_without_a_token_has_an_answer_alone_and_in_company(
    kind: str, tmp_path: Path
) -> None:
    model, tokenizer = adapted(kind, "mean"), make_tokenizer(tmp_path)
    tokenizer.backend_tokenizer.post_processor = None  # no special tokens either
    alone, among = (
        classify(model, tokenizer, texts, max_tokens=40)[-1] for texts in ([""], ["apple pear", ""])
    )
    np.testing.assert_allclose(alone, among, atol=ROUNDING)


def test_bf16_backbone_trains_float32_parameters() -> None:
    model = adapt(
        build_tiny_longformer().bfloat16(),
        PrefixPropagationConfig(prefix_length=4),
        ClassificationHeadConfig(num_labels=2),
    )
    _, ids, mask = documents(1)
    model(ids, mask, torch.tensor([0, 1])).loss.backward()
    assert {parameter.dtype for parameter in model.trainable_parameters().values()} == {
        torch.float32
    }
    gradients = [parameter.grad for parameter in model.trainable_parameters().values()]
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)


def test_too_long_a_prefix_and_an_unknown_backbone_are_refused() -> None:
    head = ClassificationHeadConfig(num_labels=2)
    with pytest.raises(BackboneError, match=r"adapter\.prefix_length 138"):
        adapt(build_tiny_longformer(), PrefixPropagationConfig(prefix_length=138), head)
    bert = BertModel(
        BertConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            vocab_size=9,
        )
    )
    with pytest.raises(
        BackboneError,
        match=r"No backbone family reads 'bert' models. Known model types: longformer, llama",
    ):
        adapt(bert, PrefixPropagationConfig(), head)
