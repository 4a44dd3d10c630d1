"""Texts that are asked about: rows of a file with a text each, and their token ids."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.columns import listed
from components.data.documents import Row
from components.data.files import READERS, read_rows
from components.data.lookalikes import is_blank, shown
from components.data.validation import encoding_fault, id_of
from components.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from components.tasks.task import Sequences

TEXT_SUFFIXES = tuple(f"{suffix}{packed}" for suffix in READERS for packed in ("", ".gz"))


def text_inputs(path: Path, *, text_column: str, id_column: str) -> Iterator[tuple[str, str]]:
    """(id, text) of every row; the first bad row raises DataError."""
    for row in read_rows(str(path), "input", (text_column, id_column)):
        if not isinstance(row, Row):
            raise DataError(str(row))
        text, identity = _text(row, text_column), id_of(row, id_column)
        fault = encoding_fault(row, {text_column: text, id_column: identity})
        if fault is not None:
            raise DataError(str(fault))
        yield identity, text


def _text(row: Row, column: str) -> str:
    place = f"{row.file} row {row.number}"
    if column not in row.values:
        raise DataError(
            f"{place}: no column '{shown(column)}'; the columns are {listed(row.columns)}. Name "
            "the right one with --text-column."
        )
    text: Any = row.values[column]
    if not isinstance(text, str) or is_blank(text):
        raise DataError(
            f"{place}: column '{shown(column)}' holds "
            f"{'no text' if not isinstance(text, str) else 'an empty text'}. Give it a text, or "
            "delete the row."
        )
    return text


def truncated(
    texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", *, max_tokens: int
) -> "list[Sequences]":
    """Each text as one sequence of at most `max_tokens` ids, special tokens included."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), truncation=True, max_length=max_tokens, return_attention_mask=False
    )["input_ids"]
    return [[ids] for ids in encoded]
