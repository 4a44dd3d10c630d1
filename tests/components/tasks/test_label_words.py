"""Label words: the logits are those that the whole language model gives the words behind the
prompt, and what is not the language model's own is classification's.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from components.adapters import (
    LabelWordsHeadConfig,
    LoraConfig,
    PrefixPropagationConfig,
    adapt,
    load_adapter,
    save_adapter,
)
from components.backbones import BackboneConfig, load_backbone
from components.config import DataConfig, ExperimentConfig, validate
from components.data.template import Template
from components.errors import ArtifactError, ConfigError
from components.inference import classify
from components.tasks import TASKS, HeadConfig, prepare
from components.tasks.label_words import LABEL_WORDS, first_tokens
from tests.conftest import build_tiny_decoder, build_tiny_longformer
from tests.toy import LABELS, make_experiment, make_tokenizer

TEMPLATE = "{text} w1 w2"
# Float32 sums in another order, over two layers.
TOLERANCE = 1e-5


def language_model(**changes: Any) -> Any:
    """A tiny Llama with a language-model head of its own."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    config = build_tiny_decoder(pad_token_id=1, initializer_range=0.3, **changes).config
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The checkpoint of `language_model` with the toy tokenizer."""
    language_model().save_pretrained(tmp_path / "backbone")
    make_tokenizer(tmp_path / "backbone")
    return tmp_path / "backbone"


def backbone_in(folder: Path) -> Any:
    config = BackboneConfig(source="local", name_or_path=str(folder), family="decoder")
    return load_backbone(config, cache_path=folder)


def settings(tokenizer: Any, **changes: Any) -> LabelWordsHeadConfig:
    values = {"files": {"train": "x.jsonl"}, "task": "label_words", "template": TEMPLATE}
    data = validate(DataConfig, values | changes)
    return LABEL_WORDS.head_config(HeadConfig(), LABELS, data=data, tokenizer=tokenizer)


def prompts(tokenizer: Any, *, side: str = "right") -> dict[str, Tensor]:
    """Three prompts of different lengths without </s>, padded."""
    texts = ["w3", "w4 w5 w6 w7 w8", "w9 w10"]
    (rows,) = zip(
        *LABEL_WORDS.encoded(texts, tokenizer, max_tokens=64, cutting={"template": TEMPLATE}),
        strict=True,
    )
    tokenizer.padding_side = side
    padded: Any = tokenizer.pad({"input_ids": list(rows)}, return_tensors="pt")
    return {name: padded[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("side", ["right", "left"])
def test_an_untrained_adapter_answers_as_the_whole_language_model(folder: Path, side: str) -> None:
    """A fresh LoRA changes nothing."""
    tokenizer = make_tokenizer(folder)
    model = adapt(backbone_in(folder), LoraConfig(rank=2), settings(tokenizer)).eval()
    batch = prompts(tokenizer, side=side)
    with torch.no_grad():
        found = model(**batch).logits
        whole = language_model()
        for row, (ids, mask) in enumerate(zip(*batch.values(), strict=True)):
            alone = ids[mask.bool()][None]
            assert alone[0, 0] == tokenizer.bos_token_id and alone[0, -1] != tokenizer.eos_token_id
            last = whole(input_ids=alone).logits[0, -1]
            words = tokenizer.convert_tokens_to_ids(list(LABELS))
            torch.testing.assert_close(found[row], last[words], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize(
    "method",
    [
        PrefixPropagationConfig(prefix_length=3, init_std=0.5),
        PrefixPropagationConfig(prefix_length=3, init_std=0.5, placement="suffix"),
        LoraConfig(rank=2),
    ],
)
def test_the_adapter_alone_is_trained_and_stored(method: Any, folder: Path, tmp_path: Path) -> None:
    tokenizer, backbone = make_tokenizer(folder), backbone_in(folder)
    model = adapt(backbone, method, settings(tokenizer))
    trained = model.trainable_parameters()
    assert trained and all(name.startswith("adapter.") for name in trained)
    batch = prompts(tokenizer)
    model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    assert any(bool((each.grad != 0).any()) for each in trained.values())
    saved = save_adapter(model.eval(), tmp_path / "adapter")
    with torch.no_grad():
        expected = model(**batch).logits
        again = load_adapter(backbone_in(folder), saved)
        assert torch.equal(again(**batch).logits, expected)
    assert again.head_config == model.head_config


def test_of_a_suffix_the_last_row_is_read(folder: Path) -> None:
    """Which sees the prompt: two prompts that differ in their first word have different answers."""
    tokenizer = make_tokenizer(folder)
    method = PrefixPropagationConfig(prefix_length=2, init_std=0.5, placement="suffix")
    model = adapt(backbone_in(folder), method, settings(tokenizer)).eval()
    whole = language_model()
    batch = prompts(tokenizer)
    with torch.no_grad():
        logits = model(**batch).logits
        states = model.read_text(batch["input_ids"], batch["attention_mask"])
        hidden = model._behind_text(model.contribution(batch_size=3), states)
        words = tokenizer.convert_tokens_to_ids(list(LABELS))
        expected = whole.lm_head(hidden[:, -1])[:, words]
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert not torch.allclose(logits[0], logits[1])


def test_words_are_told_apart_by_their_first_token_or_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)

    def tokens(template: str = TEMPLATE, **words: str) -> tuple[int, ...]:
        return first_tokens(LABELS, words, Template.of(template), tokenizer)

    assert tokens() == tuple(tokenizer.convert_tokens_to_ids(list(LABELS)))
    assert tokens(alpha="w7 w8")[0] == tokenizer.convert_tokens_to_ids("w7")
    with pytest.raises(ConfigError, match=r"labels 'alpha' and 'gamma' begin with the same token"):
        tokens(alpha="w7 w8", gamma="w7 w9")
    with pytest.raises(ConfigError, match=r"no training document has the label 'delta'.*alpha, b"):
        tokens(delta="w7")
    with pytest.raises(ConfigError, match=r"does not know the word 'ship' of the label 'beta'"):
        tokens(beta="ship")


def test_a_template_that_runs_into_the_word_is_refused() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(
        models.BPE({"T": 0, ":": 1, "\u0120": 2, "s": 3, "\u0120s": 4}, [("\u0120", "s")])
    )
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    assert first_tokens(("s",), {}, Template.of("{text}T:"), tokenizer) == (4,)
    with pytest.raises(ConfigError, match=r"its end and the word 's' of the label 's' become one"):
        first_tokens(("s",), {}, Template.of("{text}T: "), tokenizer)


def experiment(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return make_experiment(
        tmp_path,
        language_model(),
        **{"data.task": "label_words", "data.template": TEMPLATE, "head.pooling": "last"} | changes,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head.pooling": "mean"}, "head.pooling mean is not where the next word is told: set it"),
        (
            {"adapter": {"method": "head_only"}},
            "head_only trains the head alone, and that of class",
        ),
        ({"backbone.family": "longformer"}, "a longformer has none: set backbone.family to decode"),
    ],
)
def test_what_cannot_be_is_refused_at_load_time(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(ExperimentConfig, experiment(tmp_path, **changes))


def test_an_encoder_is_refused_by_adapt(tmp_path: Path) -> None:
    head = settings(make_tokenizer(tmp_path))
    with pytest.raises(ConfigError, match=r"data\.task label_words reads what a causal decoder"):
        adapt(build_tiny_longformer(), PrefixPropagationConfig(), head)


def test_a_backbone_without_the_head_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    build_tiny_decoder(pad_token_id=1).save_pretrained(tmp_path)
    tokenizer = make_tokenizer(tmp_path)
    from components.errors import BackboneError

    with pytest.raises(BackboneError, match="has no language-model head"):
        adapt(backbone_in(tmp_path), LoraConfig(), settings(tokenizer))


def test_template_and_words_are_part_of_the_data_s_fingerprint(tmp_path: Path) -> None:
    values = experiment(tmp_path)
    tokenizer = make_tokenizer(tmp_path / "backbone")
    forms: list[dict[str, Any]] = [
        {},
        {"template": "{text} w1 w3"},
        {"label_words": {"alpha": "w50"}},
    ]
    found = {
        prepare(
            validate(DataConfig, values["data"] | form),
            tokenizer,
            tokenizer_id="toy",
            cache_path=tmp_path / "cache",
        ).fingerprint
        for form in forms
    }
    assert len(found) == len(forms)


def test_labels_whose_words_collide_leave_no_cache_behind(tmp_path: Path) -> None:
    values = experiment(tmp_path, **{"data.label_words": {"alpha": "w7", "beta": "w7"}})
    with pytest.raises(ConfigError, match=r"'alpha' and 'beta' begin with the same token"):
        prepare(
            validate(DataConfig, values["data"]),
            make_tokenizer(tmp_path / "backbone"),
            tokenizer_id="toy",
            cache_path=tmp_path / "cache",
        )
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_an_artifact_without_its_template_answers_nothing(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    with pytest.raises(ArtifactError, match=r"holds no training\.template"):
        LABEL_WORDS.encoded(["w3"], tokenizer, max_tokens=64, cutting={})
    with pytest.raises(ArtifactError, match=r"training\.template: .* ends with the document"):
        LABEL_WORDS.encoded(["w3"], tokenizer, max_tokens=64, cutting={"template": "w1 {text}"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_ids": [4, 4, 5]}, "holds one twice"),
        ({"token_ids": [4, 5]}, "make them agree"),
        ({"token_ids": [4, 5, 5000]}, "token 5000 is beyond the 101 rows"),
        ({"pooling": "mean"}, "head.pooling|pooling"),
    ],
)
def test_an_edited_artifact_is_refused(
    change: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    tokenizer = make_tokenizer(folder)
    model = adapt(backbone_in(folder), LoraConfig(rank=2), settings(tokenizer))
    saved = save_adapter(model, tmp_path / "adapter")
    path = saved / "adapter_config.json"
    config = json.loads(path.read_text())
    config["head"] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match=message):
        load_adapter(backbone_in(folder), saved)


def test_python_users_give_the_template_beside_the_texts(folder: Path) -> None:
    tokenizer = make_tokenizer(folder)
    model = adapt(backbone_in(folder), LoraConfig(rank=2), settings(tokenizer))
    cutting = {"template": TEMPLATE}
    texts = ["w3", "w4 w5 w6"]
    found = classify(model, tokenizer, texts, max_tokens=64, cutting=cutting)
    assert found.shape == (2, 3) and found.sum(axis=1) == pytest.approx(1.0)
    assert TASKS["label_words"] is LABEL_WORDS
