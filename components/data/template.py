"""A document inside a prompt: text before it and after it, which is never cut.

The facts a newcomer gets wrong: the whole is tokenised at once, as somebody who typed it would get
it, so that where a document is cut is found by its characters; and special tokens that a tokenizer
puts behind a text are left out, because what follows the template is the model's to say.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.data.tokenization import Encoded, check_fast, chunked_by_characters
from components.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACE = "{text}"
DEFAULT_TEMPLATE = f"{PLACE}\n\nLabel:"


def template_fault(template: str) -> str | None:
    """What is wrong with a template, with the fix; None: nothing."""
    if template.count(PLACE) != 1:
        return (
            f"the template {template[:60]!r} holds {PLACE} {template.count(PLACE)} times; write it "
            f"once, where the document stands, for example {DEFAULT_TEMPLATE!r}"
        )
    if not template.partition(PLACE)[2].strip():
        return (
            f"the template {template[:60]!r} ends with the document; write after it what asks for "
            f"the answer, for example {DEFAULT_TEMPLATE!r}"
        )
    return None


@dataclass(frozen=True)
class Template:
    """What stands before a document and what after it."""

    before: str
    after: str

    @classmethod
    def of(cls, template: str | None) -> "Template":
        """Of a setting that `template_fault` has nothing against; null is the default."""
        before, _, after = (template or DEFAULT_TEMPLATE).partition(PLACE)
        return cls(before, after)

    def __str__(self) -> str:
        return f"{self.before}{PLACE}{self.after}"

    def around(self, text: str) -> str:
        """The prompt of a document."""
        return f"{self.before}{text}{self.after}"


def encode_in(
    template: Template,
    texts: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_tokens: int,
) -> Iterator[list[Encoded]]:
    """Yields the documents' prompts in order, in chunks: at most `max_tokens` ids each, of which
    the document's end is cut off; full lengths are those of whole prompts.

    Raises ConfigError where the template leaves no room, and for a tokenizer that is not fast.
    """
    check_fast(tokenizer)
    lead = leading_ids(tokenizer)
    own = len(lead) + len(plain_ids(template.around(""), tokenizer))
    if own >= max_tokens:
        raise ConfigError(
            f"data.max_tokens: {max_tokens} leaves no room for a document beside the {own} tokens "
            f"of data.template; give more than {own}"
        )
    for chunk in chunked_by_characters(texts):
        prompts = _encodings([template.around(text) for text in chunk], tokenizer)
        yield [
            Encoded(
                np.asarray(
                    lead + _fitted(template, text, whole, tokenizer, max_tokens - len(lead)),
                    dtype=np.int32,
                ),
                len(lead) + len(whole),
            )
            for text, whole in zip(chunk, prompts, strict=True)
        ]


def _fitted(
    template: Template, text: str, whole: Any, tokenizer: "PreTrainedTokenizerBase", room: int
) -> list[int]:
    """At most `room` ids: of the whole prompt, or of one with the start of the text alone. Cutting
    may join or split the tokens around it, so that what comes out is counted again.
    """
    if len(whole) <= room:
        return list(whole.ids)
    start = len(template.before)
    ends = [end for _, end in whole.offsets if start < end <= start + len(text)]
    kept = len(ends) - (len(whole) - room)
    while kept > 0:
        ids = plain_ids(template.around(text[: ends[kept - 1] - start]), tokenizer)
        if len(ids) <= room:
            return ids
        kept -= len(ids) - room
    return plain_ids(template.around(""), tokenizer)


def plain_ids(text: str, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Token ids of a text without special tokens."""
    (encoding,) = _encodings([text], tokenizer)
    return list(encoding.ids)


def leading_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The special tokens that the tokenizer puts before a text."""
    encoded = tokenizer("a", truncation=False, return_special_tokens_mask=True)
    mask = encoded["special_tokens_mask"]
    count = mask.index(0) if 0 in mask else 0
    return list(encoded["input_ids"][:count])


def _encodings(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> list[Any]:
    # verbose: a prompt is longer than the model reads before it is cut, which is no news.
    batch = tokenizer(
        texts, add_special_tokens=False, truncation=False, padding=False, verbose=False
    )
    assert batch.encodings is not None
    return batch.encodings
