"""Multiple choice (WikiHop) against a naive dense float64 reference, and what must not change its
answers: batching, padding, saving, the attention's implementation.

Questions here have several chunks, different numbers of candidates and candidates of different
lengths. Windows are 8 tokens. Tolerance 1e-5: float32 against float64 over two layers.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.adapters import (
    HEADS,
    ClassificationHeadConfig,
    MultipleChoiceHeadConfig,
    PrefixPropagationConfig,
    PrefixTuningConfig,
    adapt,
    load_adapter,
    save_adapter,
)
from components.adapters.methods import ADAPTER_CONFIGS
from components.backbones import backbone_shape
from components.errors import ArtifactError, ConfigError
from components.inference import classify
from components.planning.trained_parameters import trainable_parameters
from components.tasks.question_chunks import (
    SPECIAL_TOKENS,
    cut,
)
from tests.components.adapters.harness import build
from tests.components.adapters.method_models import (
    BACKBONE_TYPES,
    METHODS,
    PARAMETERS,
    D,
)
from tests.components.adapters.question_models import (
    LABELS,
    QUESTIONS,
    TOLERANCE,
    VOCABULARY,
    batch,
    check_against_dense,
    dense_scores,
    new,
    scale_of,
)
from tests.toy import make_tokenizer


def test_every_task_names_itself_and_its_head() -> None:
    assert all(task.name == task.head.task == name for name, task in HEADS.items())


@pytest.mark.parametrize("method", [method for method in METHODS if method != "lora"])
def test_every_method_equals_the_naive_dense_reference(method: str) -> None:
    check_against_dense(new(method))


@pytest.mark.parametrize(
    "method", ["prefix_propagation", "prefix_tuning", "propagation_and_prefix_tuning"]
)
def test_prefix_longer_than_the_window_equals_the_naive_dense_reference(method: str) -> None:
    check_against_dense(new(method, prefix_length=13))


@pytest.mark.parametrize("method", METHODS)
def test_trained_are_the_method_the_score_and_four_embeddings(method: str) -> None:
    """As in the paper's release, the token type embedding stays frozen in this task."""
    model = new(method)
    shape = backbone_shape(model.backbone.config.to_dict())
    with_prefix = ADAPTER_CONFIGS[method].trains_with_prefix
    own = PARAMETERS[method]("longformer") - (BACKBONE_TYPES if with_prefix else 0)
    planned = trainable_parameters(
        shape, model.adapter_config, num_labels=2, task="multiple_choice"
    )
    assert model.num_trainable_parameters() == planned == own + 5 * D
    assert {name for name in model.trainable_parameters() if name.startswith("head.")} == {
        "head.special_tokens.weight",
        "head.score.weight",
    }
    model.train()(**batch(QUESTIONS), labels=LABELS).loss.backward()
    trained = model.trainable_parameters()
    assert all(parameter.grad is not None for parameter in trained.values())
    assert [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and name not in trained
    ] == []


def test_a_step_leaves_every_row_of_the_vocabulary_as_it_was() -> None:
    model = new()
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    special = model.head.special_tokens.weight.detach().clone()
    optimizer = torch.optim.AdamW(
        list(model.trainable_parameters().values()), lr=0.1, weight_decay=0.1
    )
    for _ in range(2):
        optimizer.zero_grad()
        model.train()(**batch(QUESTIONS), labels=LABELS).loss.backward()
        optimizer.step()
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items()
    )
    assert bool((model.head.special_tokens.weight != special).any(dim=1).all())


@pytest.mark.parametrize(
    "method", ["prefix_propagation", "prefix_tuning", "kernel_propagation", "lora"]
)
def test_batch_of_three_equals_three_batches_of_one_and_padding_changes_nothing(
    method: str,
) -> None:
    model = new(method).eval()
    with torch.no_grad():
        together = model(**batch(QUESTIONS)).logits
        wide, left = (
            model(**batch(QUESTIONS, wide=9)).logits,
            model(**batch(QUESTIONS, left=True)).logits,
        )
        alone = [model(**batch([each])).logits[0] for each in QUESTIONS]
    for row, single in zip(together, alone, strict=True):
        torch.testing.assert_close(row[: len(single)], single, atol=TOLERANCE, rtol=1e-5)
    torch.testing.assert_close(wide, together, atol=TOLERANCE, rtol=1e-5)
    torch.testing.assert_close(left, together, atol=TOLERANCE, rtol=1e-5)


def test_score_of_chunks_is_the_sum_of_the_chunks_scores_in_any_order() -> None:
    model, chunks = new().eval(), QUESTIONS[2]
    assert len(chunks) > 1
    with torch.no_grad():
        whole = model(**batch([chunks])).logits[0]
        parts = sum(model(**batch([[chunk]])).logits[0] for chunk in chunks)
        backwards = model(**batch([chunks[::-1]])).logits[0]
    torch.testing.assert_close(whole, parts, atol=TOLERANCE, rtol=1e-5)
    torch.testing.assert_close(backwards, whole, atol=TOLERANCE, rtol=1e-5)


def test_without_an_index_each_sequence_is_a_question_and_both_special_ids_agree() -> None:
    model = new().eval()
    inputs = batch([QUESTIONS[0][:1], QUESTIONS[1][:1]])
    written_out = torch.where(
        inputs["input_ids"] < 0, inputs["input_ids"] + VOCABULARY + 4, inputs["input_ids"]
    )
    with torch.no_grad():
        expected = model(**inputs).logits
        assert torch.equal(model(written_out, inputs["attention_mask"]).logits, expected)


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_loaded_equals_live_bit_for_bit(method: str, tmp_path: Path) -> None:
    model = new(method).eval()
    with torch.no_grad():
        expected = model(**batch(QUESTIONS)).logits
        save_adapter(model, tmp_path / "adapter")
        torch.manual_seed(99)
        loaded = load_adapter(build("longformer"), tmp_path / "adapter")
        assert torch.equal(loaded(**batch(QUESTIONS)).logits, expected)
    assert (
        loaded.head_config == MultipleChoiceHeadConfig()
        and loaded.adapter_config == model.adapter_config
    )
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["head"] == {
        "task": "multiple_choice"
    }


@pytest.mark.parametrize("method", ["prefix_propagation", "prefix_tuning", "kernel_propagation"])
def test_gradient_checkpointing_changes_nothing(method: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = new(method).train()
        if checkpointing:
            model.backbone.activation_checkpointing_enable(
                activation_checkpointing_kwargs={"use_reentrant": False}
            )
        model(**batch(QUESTIONS), labels=LABELS).loss.backward()
        gradients.append(
            {name: parameter.grad for name, parameter in model.trainable_parameters().items()}
        )
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-7, rtol=1e-5, msg=name)


def test_bf16_backbone_trains_float32_parameters() -> None:
    model = new(backbone=build("longformer").bfloat16())
    out = model.train()(**batch(QUESTIONS), labels=LABELS)
    out.loss.backward()
    assert out.logits.dtype == torch.float32
    assert {parameter.dtype for parameter in model.trainable_parameters().values()} == {
        torch.float32
    }
    gradients = [parameter.grad for parameter in model.trainable_parameters().values()]
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)


@pytest.mark.parametrize("max_tokens", [20, 21, 33, 200])
def test_chunks_repeat_the_first_part_and_hold_every_token_of_the_supports_once(
    max_tokens: int,
) -> None:
    first, second = np.arange(-4, 12), np.arange(100, 161)
    chunks = cut(first, second, max_tokens=max_tokens)
    assert (
        all(len(chunk) == max_tokens for chunk in chunks[:-1])
        and 16 < len(chunks[-1]) <= max_tokens
    )
    assert all(np.array_equal(chunk[:16], first) for chunk in chunks)
    assert np.array_equal(np.concatenate([chunk[16:] for chunk in chunks]), second)
    assert len(cut(first, second, max_tokens=max_tokens, max_chunks=1)) == 1
    with pytest.raises(
        ConfigError, match=r"take 16 tokens, and data.max_tokens is 16.*at least 17"
    ):
        cut(first, second, max_tokens=16)


def test_folder_written_by_hand(tmp_path: Path) -> None:
    """Names and shapes as components/adapters/README.md gives them; a reparametrised prefix by its
    own tensors too.
    """
    draw = torch.Generator().manual_seed(11)

    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw) * 0.3

    own = {"head.special_tokens.weight": tensor(4, D), "head.score.weight": tensor(1, D)}
    folders = {
        "plain": ("prefix_propagation", {"adapter.prefix": tensor(2, 11, D)}),
        "network": (
            "prefix_propagation",
            {
                "adapter.reparametrization.embedding": tensor(11, D),
                "adapter.reparametrization.down.weight": tensor(6, D),
                "adapter.reparametrization.down.bias": tensor(6),
                "adapter.reparametrization.up.weight": tensor(2 * D, 6),
                "adapter.reparametrization.up.bias": tensor(2 * D),
            },
        ),
        "both": (
            "propagation_and_prefix_tuning",
            {
                "adapter.prefix": tensor(2, 11, D),
                "adapter.prefix_key": tensor(2, 11, D),
                "adapter.prefix_value": tensor(2, 11, D),
            },
        ),
    }
    for name, (method, adapter) in folders.items():
        (tmp_path / name).mkdir()
        config = {
            "format": 1,
            "method": method,
            "prefix_length": 11,
            "backbone": {"family": "longformer"},
            "head": {"task": "multiple_choice"},
        }
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config))
        save_file(adapter | own, tmp_path / name / "adapter_model.safetensors")
        model = load_adapter(build("longformer"), tmp_path / name)
        assert set(model.trainable_parameters()) == set(adapter | own)
        leaves = {key: value.double() for key, value in (adapter | own).items()}
        if name == "network":
            hidden = torch.tanh(
                leaves["adapter.reparametrization.embedding"]
                @ leaves["adapter.reparametrization.down.weight"].T
                + leaves["adapter.reparametrization.down.bias"]
            )
            flat = (
                hidden @ leaves["adapter.reparametrization.up.weight"].T
                + leaves["adapter.reparametrization.up.bias"]
            )
            leaves["adapter.prefix"] = torch.stack([flat[:, :D], flat[:, D:]])
        expected = dense_scores(model, QUESTIONS, leaves)
        with torch.no_grad():
            found = model(**batch(QUESTIONS)).logits
        for row, scores in zip(found, expected, strict=True):
            torch.testing.assert_close(
                row[: len(scores)].double(), scores, atol=TOLERANCE * scale_of(scores), rtol=0
            )


def test_folder_with_a_token_type_embedding_uses_it(tmp_path: Path) -> None:
    save_adapter(new(), tmp_path / "adapter")
    path, name = (
        tmp_path / "adapter" / "adapter_model.safetensors",
        "backbone.embeddings.token_type_embeddings.weight",
    )
    types = torch.full((1, D), 0.25)
    save_file(load_file(path) | {name: types}, path)
    loaded = load_adapter(build("longformer"), tmp_path / "adapter")
    assert torch.equal(loaded.trainable_parameters()[name], types)


def test_refusals_name_the_fix(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"in a decoder they cannot see them; use backbone.family longformer"
    ):
        adapt(build("llama"), PrefixPropagationConfig(), MultipleChoiceHeadConfig())
    with pytest.raises(ConfigError, match=r"adapter.released_indexing .* remove it"):
        adapt(
            build("longformer"),
            PrefixTuningConfig(released_indexing=True),
            MultipleChoiceHeadConfig(),
        )
    model = new()
    with pytest.raises(ValueError, match=r"at least one \[ent\] \(id 103 or -2\)"):
        model(torch.tensor([[0, 5, 6]]))
    inputs = batch(QUESTIONS)
    with pytest.raises(
        ValueError, match=r"every chunk of a question must repeat all of its candidates"
    ):
        model(
            inputs["input_ids"],
            inputs["attention_mask"],
            example_index=torch.zeros_like(inputs["example_index"]),
        )
    with pytest.raises(ValueError, match=r"Leave it out"):
        adapt(
            build("longformer"), PrefixPropagationConfig(), ClassificationHeadConfig(num_labels=2)
        )(torch.tensor([[0, 5]]), example_index=torch.tensor([0]))
    with pytest.raises(ValueError, match="multiple choice: it classifies no texts"):
        classify(model, make_tokenizer(tmp_path / "tokenizer"), ["text"], max_tokens=9)
    save_adapter(model, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(path.read_text().replace('"multiple_choice"', '"ranking"'))
    with pytest.raises(
        ArtifactError,
        match=(
            r"task 'ranking', which this version does not know. Known: classification, .*"
            r"multiple_choice"
        ),
    ):
        load_adapter(build("longformer"), tmp_path / "adapter")
    assert SPECIAL_TOKENS == ("[question]", "[/question]", "[ent]", "[/ent]")
