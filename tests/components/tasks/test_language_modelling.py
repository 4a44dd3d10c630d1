"""Language modelling: loss and answers are those of the whole language model, over the tokens of
completions alone.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from components.adapters import (
    LanguageModellingHeadConfig,
    LoraConfig,
    PrefixPropagationConfig,
    PrefixTuningConfig,
    adapt,
    load_adapter,
    save_adapter,
)
from components.backbones import BackboneConfig, load_backbone
from components.config import ExperimentConfig, validate
from components.data.documents import Problem, Row
from components.data.settings import ColumnsConfig
from components.errors import ArtifactError, ConfigError, DataError
from components.inference.generation import cached_steps, caches, completed, rerun_steps
from components.tasks.completions import Completion, check_form, completions, tokens_of
from components.tasks.language_modelling import LANGUAGE_MODELLING, per_token
from tests.conftest import build_tiny_decoder, build_tiny_longformer
from tests.toy import make_experiment, make_tokenizer

# Float32 sums in another order, over two layers.
TOLERANCE = 1e-5


def language_model() -> Any:
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(build_tiny_decoder(pad_token_id=1, initializer_range=0.3).config).eval()


@pytest.fixture
def backbone(tmp_path: Path) -> Any:
    language_model().save_pretrained(tmp_path / "backbone")
    source = BackboneConfig(
        source="local", name_or_path=str(tmp_path / "backbone"), family="decoder"
    )
    return load_backbone(source, cache_path=tmp_path)


def document(prompt: str, completion: str) -> Completion:
    return Completion("1", prompt, completion, (), "x.jsonl", 1)


def batch(side: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Three documents of 5, 9 and 7 tokens padded on a side, and their ids with -100 where nothing
    is learnt.
    """
    torch.manual_seed(1)
    lengths, prompts = (5, 9, 7), torch.tensor([2, 6, 1])
    ids, mask = torch.full((3, 9), 1), torch.zeros(3, 9, dtype=torch.long)
    learnt = torch.full((3, 9), -100)
    for row, (length, prompt) in enumerate(zip(lengths, prompts.tolist(), strict=True)):
        start = 0 if side == "right" else 9 - length
        ids[row, start : start + length] = torch.randint(4, 90, (length,))
        mask[row, start : start + length] = 1
        learnt[row, start + prompt : start + length] = ids[row, start + prompt : start + length]
    return {"input_ids": ids, "attention_mask": mask, "prompt_tokens": prompts}, learnt


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_loss_is_that_of_the_whole_language_model(backbone: Any, side: str) -> None:
    """A fresh LoRA changes nothing."""
    model = adapt(backbone, LoraConfig(rank=2), LanguageModellingHeadConfig()).eval()
    inputs, learnt = batch(side)
    with torch.no_grad():
        found = model(**inputs, labels=inputs["prompt_tokens"])
        whole, total = language_model(), 0.0
        for row in range(3):
            real = inputs["attention_mask"][row].bool()
            ids, targets = inputs["input_ids"][row][real], learnt[row][real]
            logits = whole(input_ids=ids[None]).logits[0, :-1]
            loss = torch.nn.functional.cross_entropy(logits, targets[1:], reduction="sum")
            assert found.logits[row, 0] == pytest.approx(float(loss), abs=1e-4)
            assert found.logits[row, 1] == int((targets[1:] != -100).sum())
            total += float(loss)
    assert float(found.loss) == pytest.approx(total / float(found.logits[:, 1].sum()), abs=1e-5)


@pytest.mark.parametrize(
    "method", [PrefixPropagationConfig(prefix_length=3, init_std=0.5), LoraConfig(rank=2)]
)
def test_the_adapter_alone_is_trained_and_stored(
    method: Any, backbone: Any, tmp_path: Path
) -> None:
    model = adapt(backbone, method, LanguageModellingHeadConfig())
    inputs, _ = batch("right")
    model(**inputs, labels=inputs["prompt_tokens"]).loss.backward()
    trained = model.trainable_parameters()
    assert all(name.startswith("adapter.") for name in trained)
    assert any(bool((each.grad != 0).any()) for each in trained.values())
    folder = save_adapter(model.eval(), tmp_path / "adapter")
    with torch.no_grad():
        expected = model(**inputs).logits
        assert torch.equal(load_adapter(backbone, folder)(**inputs).logits, expected)


def test_a_prefix_s_gradient_is_that_of_whole_logits(backbone: Any) -> None:
    method = PrefixPropagationConfig(prefix_length=3, init_std=0.5)
    model = adapt(backbone, method, LanguageModellingHeadConfig())
    inputs, learnt = batch("right")
    (parameter,) = model.trainable_parameters().values()
    model(**inputs, labels=inputs["prompt_tokens"]).loss.backward()
    assert parameter.grad is not None
    found, parameter.grad = parameter.grad.clone(), None
    contribution = model.contribution(batch_size=3)
    hidden = model.hidden_states(contribution, inputs["input_ids"], inputs["attention_mask"])
    logits = language_model().lm_head(hidden[:, 3:-1])
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), learnt[:, 1:].flatten()).backward()
    assert float(found.abs().max()) > 1e-4
    torch.testing.assert_close(found, parameter.grad, atol=1e-6, rtol=1e-4)


PROMPT = [0, 10, 11, 12, 13]


@pytest.mark.parametrize(
    "method",
    [
        PrefixPropagationConfig(prefix_length=3, init_std=0.5),
        PrefixTuningConfig(prefix_length=3, init_std=0.5),
        LoraConfig(rank=2),
    ],
)
def test_what_is_written_from_a_cache_is_what_reading_anew_writes(
    method: Any, backbone: Any
) -> None:
    model = adapt(backbone, method, LanguageModellingHeadConfig()).eval()
    assert caches(model) is isinstance(method, PrefixPropagationConfig)
    anew, tokens = rerun_steps(model, PROMPT), [20, 21, 22, 23]
    with torch.inference_mode():
        expected = [next(anew), *(anew.send(token) for token in tokens)]
        if caches(model):
            cached = cached_steps(model, PROMPT)
            found = [next(cached), *(cached.send(token) for token in tokens)]
            torch.testing.assert_close(
                torch.cat(found), torch.cat(expected), atol=TOLERANCE, rtol=TOLERANCE
            )
        # The prefix is seen: without it other states come out.
        plain = adapt(backbone, LoraConfig(rank=2), LanguageModellingHeadConfig()).eval()
        without = next(rerun_steps(plain, PROMPT))
    assert isinstance(method, LoraConfig) or not torch.allclose(without, expected[0], atol=1e-2)


def test_an_untrained_adapter_writes_what_the_language_model_writes(backbone: Any) -> None:
    model = adapt(backbone, LoraConfig(rank=2), LanguageModellingHeadConfig()).eval()
    with torch.inference_mode():
        found = completed(model, PROMPT, end=None, most=6)
        whole = language_model().generate(
            torch.tensor([PROMPT]), max_new_tokens=6, do_sample=False, eos_token_id=None
        )
        assert found == whole[0, len(PROMPT) :].tolist()
        assert completed(model, PROMPT, end=found[2], most=6) == found[: found.index(found[2])]


def test_sliding_windows_read_anew(tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    values = build_tiny_decoder(pad_token_id=1).config.to_dict()
    kept = {name: values[name] for name in ("vocab_size", "hidden_size", "intermediate_size")}
    torch.manual_seed(0)
    config = MistralConfig(
        **kept, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, sliding_window=4
    )
    MistralForCausalLM(config).save_pretrained(tmp_path)
    source = BackboneConfig(source="local", name_or_path=str(tmp_path), family="decoder")
    loaded = load_backbone(source, cache_path=tmp_path)
    method = PrefixPropagationConfig(prefix_length=3)
    assert not caches(adapt(loaded, method, LanguageModellingHeadConfig()))


def test_a_prompt_loses_its_beginning_and_a_completion_its_end(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    given = document("w1 w2 w3 w4", "w5 w6")
    words = tokenizer.convert_ids_to_tokens

    def cut(most: int) -> tuple[list[str], int]:
        found = tokens_of(given, tokenizer, max_tokens=most)
        assert found.full_length == 8
        return words(found.ids), found.prompt_tokens

    assert cut(8) == (["<s>", "w1", "w2", "w3", "w4", "w5", "w6", "</s>"], 5)
    assert cut(6) == (["<s>", "w3", "w4", "w5", "w6", "</s>"], 3)
    assert cut(4) == (["<s>", "w5", "w6", "</s>"], 1)
    assert cut(3) == (["<s>", "w5", "w6"], 1)
    text = tokens_of(document("", "w5 w6"), tokenizer, max_tokens=8)
    assert (words(text.ids), text.prompt_tokens) == (["<s>", "w5", "w6", "</s>"], 1)
    (asked,) = LANGUAGE_MODELLING.encoded(
        ["w1 w2 w3 w4"], tokenizer, max_tokens=6, cutting={"max_new_tokens": 3}
    )
    assert words(asked[0]) == ["<s>", "w3", "w4"]


CHAT = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}" + (
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def test_of_a_conversation_the_last_turn_is_learnt(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    turns = ({"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2 w3"})
    given = Completion("1", "", "", turns, "x.jsonl", 4)
    with pytest.raises(ConfigError, match="tokenizer has no chat template"):
        tokens_of(given, tokenizer, max_tokens=20)
    tokenizer.chat_template = CHAT
    found = tokens_of(given, tokenizer, max_tokens=20)
    learnt = tokenizer.convert_ids_to_tokens(found.ids[found.prompt_tokens :])
    assert learnt == ["w2", "w3"]
    (asked,) = LANGUAGE_MODELLING.encoded(
        ["w1"], tokenizer, max_tokens=20, cutting={"max_new_tokens": 3, "chat": True}
    )
    assert asked[0] == found.ids[: found.prompt_tokens]
    with pytest.raises(DataError, match=r"row 4: holds a conversation, and data\.chat is false"):
        check_form([given], chat=False)
    with pytest.raises(DataError, match=r"holds no conversation, and data\.chat is true"):
        check_form([document("w1", "w2")], chat=True)


def read(*records: dict[str, Any]) -> tuple[list[Any], list[Problem]]:
    rows = [Row("x.jsonl", number, each) for number, each in enumerate(records, start=1)]
    return completions(rows, ColumnsConfig())


def test_rows_of_three_forms_are_read_and_others_are_named() -> None:
    turns = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]
    documents, problems = read(
        {"prompt": "w1", "completion": " w2"}, {"text": "w3"}, {"messages": turns, "id": "seven"}
    )
    assert not problems
    assert [(each.prompt, each.completion, len(each.messages)) for each in documents] == [
        ("w1", " w2", 0),
        ("", "w3", 0),
        ("", "", 2),
    ]
    assert [each.id for each in documents] == ["x.jsonl:1", "x.jsonl:2", "seven"]
    _, problems = read(
        {"prompt": "w1", "completion": " "},
        {"completion": "w2"},
        {"title": "w3"},
        {"messages": turns[:1]},
        {"messages": [*turns, {"role": "user", "content": "w3"}]},
        {"messages": "w1"},
    )
    assert [each.reason for each in problems] == [
        "empty_text",
        "missing_column",
        "missing_column",
        *["no_conversation"] * 3,
    ]
    assert "data.columns.messages" in str(problems[-1])


def test_perplexity_is_of_tokens_not_of_documents() -> None:
    import numpy as np

    found = per_token(np.array([[2.0, 1.0], [3.0, 9.0]], dtype=np.float32))
    assert found["nll"] == pytest.approx(0.5)
    assert found["perplexity"] == pytest.approx(math.exp(0.5))
    assert (found["num_tokens"], found["num_documents"]) == (10.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter.placement": "suffix"}, "adapter.placement suffix is for classification; use pr"),
        ({"adapter": {"method": "head_only"}}, "that of language modelling is not trained"),
        ({"backbone.family": "longformer"}, "language_modelling needs a causal decoder"),
        ({"data.max_new_tokens": 64}, "max_new_tokens 64 leaves nothing of max_tokens 64"),
        ({"training.metric": "validation/accuracy"}, "accuracy is not measured for data.task lang"),
    ],
)
def test_what_cannot_be_is_refused_at_load_time(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    base = {
        "data.task": "language_modelling",
        "data.max_new_tokens": 8,
        "training.metric": "validation/nll",
    }
    values = make_experiment(tmp_path, language_model(), **base | changes)
    with pytest.raises(ConfigError, match=message):
        validate(ExperimentConfig, values)


def test_adapt_refuses_what_it_cannot_take(backbone: Any) -> None:
    head = LanguageModellingHeadConfig()
    with pytest.raises(ConfigError, match="needs a causal decoder"):
        adapt(build_tiny_longformer(), PrefixPropagationConfig(), head)
    with pytest.raises(ConfigError, match=r"adapter\.placement suffix is for classification"):
        adapt(backbone, PrefixPropagationConfig(placement="suffix"), head)


def test_an_artifact_that_does_not_say_how_much_to_write_answers_nothing(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    for given in (None, 0, 64, "8", True):
        with pytest.raises(ArtifactError, match=r"training\.max_new_tokens is"):
            LANGUAGE_MODELLING.encoded(
                ["w1"],
                tokenizer,
                max_tokens=64,
                cutting=json.loads(json.dumps({"max_new_tokens": given})),
            )
