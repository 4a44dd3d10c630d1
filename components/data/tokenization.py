"""Texts to token ids, cut to `max_tokens`, with what was cut counted exactly.

The tokenizer's own template decides about special tokens (BERT's two, Llama's one, or none). The
full length comes from the tokenizer's overflow pieces, so a long document is tokenised once.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHARACTERS_PER_CALL = 8_000_000
"""Bounds the memory of the tokenizer's own records, about 100 bytes per token."""

CHARACTERS_PER_TOKEN = 16
"""More characters than tokens of real text ever have on average."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One document: its ids (at most max_tokens, special tokens included) and how many tokens it
    has in full.
    """

    input_ids: NDArray[np.int32]
    full_length: int


def encode(
    texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", *, max_tokens: int
) -> Iterator[list[Encoded]]:
    """Yields the documents in order, in chunks. Uses all cores that the process may use. Raises
    `ConfigError` for a tokenizer that cannot do it.
    """
    special = tokenizer.num_special_tokens_to_add(pair=False)
    check_fast(tokenizer)
    if max_tokens <= special:
        raise ConfigError(
            f"data.max_tokens: {max_tokens} leaves no room beside {special} special tokens; give "
            f"at least {special + 1}"
        )
    os.environ.setdefault(
        "TOKENIZERS_PARALLELISM", "true"
    )  # the default, said aloud: otherwise every later fork prints a warning
    for chunk in chunked_by_characters(texts):
        batch = tokenizer(
            chunk,
            truncation=True,
            max_length=max_tokens,
            padding=False,
            return_token_type_ids=False,
            return_attention_mask=False,
        )
        assert batch.encodings is not None
        yield [
            Encoded(
                np.asarray(encoding.ids, dtype=np.int32),
                len(encoding) + sum(len(piece) - special for piece in encoding.overflowing),
            )
            for encoding in batch.encodings
        ]


def check_fast(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise ConfigError for a tokenizer without a fast version, which alone knows places."""
    if not tokenizer.is_fast:
        raise ConfigError(
            "backbone.name_or_path: its tokenizer has no fast version; give a backbone with a "
            "tokenizer.json"
        )


def has_tokens(tokenizer: "PreTrainedTokenizerBase") -> Callable[[str, int], bool]:
    """A quick test whether a text has at least so many tokens: only its start is tokenised."""

    def has(text: str, count: int) -> bool:
        start = text[: CHARACTERS_PER_TOKEN * count]
        return (
            len(
                tokenizer(start, truncation=True, max_length=count, add_special_tokens=False)[
                    "input_ids"
                ]
            )
            >= count
        )

    return has


def chunked_by_characters(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in order, in lists that the tokenizer takes at once."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        if chunk and characters + len(text) > CHARACTERS_PER_CALL:
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += len(text)
    if chunk:
        yield chunk
