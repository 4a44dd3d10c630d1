"""From a multiple-choice question to chunks of token ids, as the paper has it for WikiHop:

    <s> [question] q [/question] [ent] candidate [/ent] [ent] candidate [/ent] ...  </s> support
    </s> </s> support </s> ...

What is longer than max_tokens is cut into chunks, each of which starts with the whole first part
(question and candidates) and goes on with the next piece of the supports: a cut of the token
stream, wherever it falls.
The fact a newcomer gets wrong: the four special tokens are in no vocabulary. Their ids here are
negative, index - 4; a model puts its own trained embeddings there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.errors import ConfigError
from components.tasks.questions import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL_TOKENS = ("[question]", "[/question]", "[ent]", "[/ent]")
QUESTION, QUESTION_END, ENTITY, ENTITY_END = (
    index - len(SPECIAL_TOKENS) for index in range(len(SPECIAL_TOKENS))
)

Ids = NDArray[np.int32]

CLOSED_UP = (
    (" .", "."),
    (" ,", ","),
    (" !", "!"),
    (" ?", "?"),
    ("( ", "("),
    (" )", ")"),
    (" 's", "'s"),
)
"""The data set's texts come with spaces around punctuation; the release closes these up before it
tokenises.
"""


def chunks_of(
    tokenizer: "PreTrainedTokenizerBase",
    question: Question,
    *,
    max_tokens: int,
    max_chunks: int | None = None,
) -> list[Ids]:
    """A question's chunks. Raises ConfigError where question and candidates leave no room for
    supports.
    """
    first = first_part(tokenizer, question.query, question.candidates)
    return cut(
        first,
        second_part(tokenizer, question.supports),
        max_tokens=max_tokens,
        max_chunks=max_chunks,
    )


def first_part(tokenizer: "PreTrainedTokenizerBase", query: str, candidates: Sequence[str]) -> Ids:
    """Ids of `<s>`, question and candidates: what every chunk starts with, and in Longformer the
    global rows.
    """
    question_ids, *candidate_ids = _ids(tokenizer, [query, *candidates])
    parts = [_start(tokenizer), QUESTION, *question_ids, QUESTION_END]
    for ids in candidate_ids:
        parts += [ENTITY, *ids, ENTITY_END]
    return np.asarray(parts, dtype=np.int32)


def second_part(tokenizer: "PreTrainedTokenizerBase", supports: Sequence[str]) -> Ids:
    """Ids of the supports, one after the other, each between two separators."""
    separator = _separator(tokenizer)
    parts: list[int] = []
    for ids in _ids(tokenizer, list(supports)):
        parts += [separator, *ids, separator]
    return np.asarray(parts, dtype=np.int32)


def cut(first: Ids, second: Ids, *, max_tokens: int, max_chunks: int | None = None) -> list[Ids]:
    """Chunks of at most `max_tokens` ids: `first` whole in each, `second` cut into consecutive
    pieces; at most `max_chunks`, the rest is left out.

    All chunks but the last have exactly `max_tokens`. Raises ConfigError where `first` leaves no
    room.
    """
    room = max_tokens - len(first)
    if room < 1:
        raise ConfigError(
            f"question and candidates take {len(first)} tokens, and data.max_tokens is "
            f"{max_tokens}: no room is left for the supports. Give at least {len(first) + 1}."
        )
    pieces = [second[start : start + room] for start in range(0, max(1, len(second)), room)]
    return [np.concatenate([first, piece]) for piece in pieces[:max_chunks]]


def closed_up(text: str) -> str:
    """The text without spaces before punctuation and without repeated white space."""
    for spaced, close in CLOSED_UP:
        text = text.replace(spaced, close)
    return " ".join(text.split())


def _ids(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    encoded = tokenizer(
        [closed_up(text) for text in texts],
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _start(tokenizer: "PreTrainedTokenizerBase") -> int:
    return _special_id(tokenizer, "cls_token_id", "bos_token_id")


def _separator(tokenizer: "PreTrainedTokenizerBase") -> int:
    return _special_id(tokenizer, "sep_token_id", "eos_token_id")


def _special_id(tokenizer: "PreTrainedTokenizerBase", *names: str) -> int:
    found = next((value for name in names if (value := getattr(tokenizer, name)) is not None), None)
    if found is None:
        raise ConfigError(
            f"backbone.name_or_path: its tokenizer has neither {' nor '.join(names)}, which "
            "multiple choice needs. Choose another backbone."
        )
    return int(found)
