"""Documents in a prompt: the template is whole whatever the document, and nothing is cut that
fits.
"""

import random
from pathlib import Path
from typing import Any

import pytest

from components.config import DataConfig, validate
from components.data.preparation import cache_key
from components.data.template import Template, encode_in, leading_ids, plain_ids
from components.errors import ConfigError
from tests.toy import WORDS, make_tokenizer

TEMPLATE = Template.of("About: {text}\n\nTopic:")


@pytest.fixture(scope="module")
def pieces() -> Any:
    """A byte-level BPE whose merges cross spaces, with <s> before a text and </s> behind it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["About: the ships \u00fcber ice\n\nTopic: space"] * 4, trainer)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


def texts(count: int) -> list[str]:
    draw = random.Random(0)
    words = ["the", "ships", "\u00fcber", "ice", "\u5929", "Topic", "x" * 9, "\n"]
    return [" ".join(draw.choices(words, k=draw.randint(1, 60))) for _ in range(count)]


def encoded(tokenizer: Any, *, max_tokens: int, count: int = 40) -> list[Any]:
    chunks = encode_in(TEMPLATE, texts(count), tokenizer, max_tokens=max_tokens)
    return [each for chunk in chunks for each in chunk]


def test_a_prompt_that_fits_is_tokenised_as_a_whole(pieces: Any) -> None:
    for text, found in zip(texts(40), encoded(pieces, max_tokens=10_000), strict=True):
        expected = pieces(f"About: {text}\n\nTopic:")["input_ids"][:-1]  # without </s>
        assert found.input_ids.tolist() == expected
        assert found.full_length == len(expected)


@pytest.mark.parametrize("max_tokens", [24, 25, 31, 40, 60])
def test_the_template_stays_whole_and_no_more_is_cut_than_must_be(
    pieces: Any, max_tokens: int
) -> None:
    cut = 0
    for text, found in zip(texts(40), encoded(pieces, max_tokens=max_tokens), strict=True):
        ids = found.input_ids.tolist()
        assert len(ids) <= max_tokens
        assert ids[0] == 0 and 1 not in ids
        prompt = pieces.decode(ids[1:])
        assert prompt.startswith("About: ") and prompt.endswith("\n\nTopic:")
        body = prompt.removeprefix("About: ").removesuffix("\n\nTopic:")
        # A cut inside a character of several tokens loses all of it.
        assert text.startswith(body)
        if found.full_length > max_tokens:
            cut += 1
            # Of one character at most are several tokens lost, and no token joins more than one.
            assert len(ids) > max_tokens - 4
        else:
            assert body == text
    assert cut > 5


def test_leading_special_tokens_are_kept_and_those_behind_are_not(
    pieces: Any, tmp_path: Path
) -> None:
    assert leading_ids(pieces) == [0]
    assert leading_ids(make_tokenizer(tmp_path)) == [0]
    assert plain_ids("", pieces) == []


def test_a_template_that_leaves_no_room_is_refused(pieces: Any) -> None:
    own = 1 + len(plain_ids("About: \n\nTopic:", pieces))
    with pytest.raises(ConfigError, match=rf"{own} leaves no room .* the {own} tokens of data\.t"):
        encoded(pieces, max_tokens=own)
    assert all(len(each.input_ids) <= own + 1 for each in encoded(pieces, max_tokens=own + 1))


def data(**settings: Any) -> DataConfig:
    return validate(DataConfig, {"files": {"train": "x.jsonl"}, "task": "label_words"} | settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "Topic:"}, r"holds \{text\} 0 times; write it once"),
        ({"template": "{text} {text}:"}, r"holds \{text\} 2 times"),
        ({"template": "Topic: {text} \n"}, "ends with the document; write after it"),
        ({"label_words": {"a": " "}}, "the word of label 'a' is empty"),
        (
            {"template": "{text}:", "task": "classification"},
            "template is read by task label_words alone, and task is classification",
        ),
    ],
)
def test_settings_of_a_prompt_that_cannot_be_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        data(**settings)


def test_another_template_is_another_cache(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(f'{{"text": "{WORDS[0]}", "label": "a"}}\n')
    forms: list[dict[str, Any]] = [{}, {"template": "{text}:"}, {"label_words": {"a": "b"}}]
    keys = {cache_key(data(files={"train": str(file)}, **form), "t") for form in forms}
    assert len(keys) == 3
