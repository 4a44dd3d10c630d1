"""Texts that a language model learns to go on with: a prompt and its completion, a text alone, or a
conversation whose last turn is the completion. Read from rows, checked, made token ids.

The facts a newcomer gets wrong: prompt and completion are tokenised apart, so that what is learnt
begins with the very token that is asked for when the model answers; and too long a prompt loses its
beginning, because its end says what to do.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.data.documents import Example, Problem, Row
from components.data.lookalikes import is_blank, shown
from components.data.settings import ColumnsConfig
from components.data.template import leading_ids, plain_ids
from components.data.validation import encoding_fault, examples_of, id_of, text_of
from components.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONVERSATION_FIX = (
    'give a list of {"role", "content"} whose last one is of the role assistant, or map the right '
    "column with data.columns.messages"
)
Messages = tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """One valid document: of a conversation its `messages`, else prompt (may be empty) and
    completion.
    """

    id: str
    prompt: str
    completion: str
    messages: Messages
    file: str
    row: int

    @property
    def content(self) -> str:
        if self.messages:
            return "\n".join(f"{each['role']}: {each['content']}" for each in self.messages)
        return self.prompt + self.completion

    @property
    def stratum(self) -> str:
        return ""

    @property
    def target(self) -> int:
        """Where the completion begins, which `content` does not say."""
        return len(self.prompt)


def completions(
    rows: Iterable[Row | Problem], columns: ColumnsConfig
) -> tuple[list[Example], list[Problem]]:
    """Checks each row on its own. Raises `DataError` where no row at all has a column of any of the
    three forms.
    """
    return examples_of(rows, lambda row: _completion(row, columns), {})


def _completion(row: Row, columns: ColumnsConfig) -> Completion | Problem:
    identity = id_of(row, columns.id)
    if columns.messages in row.values:
        found = _messages(row.values[columns.messages])
        if found is None:
            problem = f"column '{shown(columns.messages)}' holds no conversation"
            return Problem("no_conversation", row.file, row.number, problem, CONVERSATION_FIX)
        texts = {
            f"{columns.messages} {number}": each["content"] for number, each in enumerate(found)
        }
        made = Completion(identity, "", "", found, row.file, row.number)
        return encoding_fault(row, texts) or made
    if columns.completion not in row.values:
        text = text_of(row, columns.text)
        if isinstance(text, Problem):
            return text
        made = Completion(identity, "", text, (), row.file, row.number)
        return encoding_fault(row, {columns.text: text}) or made
    prompt, completion = text_of(row, columns.prompt), text_of(row, columns.completion)
    if isinstance(prompt, Problem):
        return prompt
    if isinstance(completion, Problem):
        return completion
    made = Completion(identity, prompt, completion, (), row.file, row.number)
    return encoding_fault(row, {columns.prompt: prompt, columns.completion: completion}) or made


def _messages(value: object) -> Messages | None:
    """The turns of a conversation; None where it is none, or ends with somebody else's turn."""
    if not isinstance(value, list) or len(value) < 2:
        return None
    for each in value:
        if not isinstance(each, dict) or not {"role", "content"} <= set(each):
            return None
        if not all(isinstance(each[name], str) for name in ("role", "content")):
            return None
    if value[-1]["role"] != "assistant" or is_blank(value[-1]["content"]):
        return None
    return tuple({"role": each["role"], "content": each["content"]} for each in value)


@dataclass(frozen=True)
class Tokens:
    """Token ids of a document; those from `prompt_tokens` on are learnt, at least one."""

    ids: list[int]
    prompt_tokens: int
    full_length: int


def tokens_of(
    document: Completion, tokenizer: "PreTrainedTokenizerBase", *, max_tokens: int
) -> Tokens:
    """A document cut to `max_tokens`: its prompt from the front, special tokens before it kept;
    then its completion from behind. Raises ConfigError for a conversation and a tokenizer without a
    chat template.
    """
    lead, prompt, completion = _parts(document, tokenizer)
    full = len(lead) + len(prompt) + len(completion)
    # The first token of all is told by nobody.
    before = max(1, len(lead))
    completion = completion[: max_tokens - before]
    room = max_tokens - len(lead) - len(completion)
    prompt = prompt[max(0, len(prompt) - room) :]
    return Tokens(lead + prompt + completion, max(1, len(lead) + len(prompt)), full)


def _parts(
    document: Completion, tokenizer: "PreTrainedTokenizerBase"
) -> tuple[list[int], list[int], list[int]]:
    """Special tokens before, prompt, and completion with what ends it."""
    if not document.messages:
        end = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        return (
            leading_ids(tokenizer),
            plain_ids(document.prompt, tokenizer) if document.prompt else [],
            plain_ids(document.completion, tokenizer) + end,
        )
    prompt = conversation(document.messages[:-1], tokenizer, answer=True)
    whole = conversation(document.messages, tokenizer, answer=False)
    if not whole.startswith(prompt):
        raise DataError(
            f"{document.file} row {document.row}: by the tokenizer's chat template the assistant's "
            "turn changes what comes before it, so that it cannot be told from the prompt. Give "
            "prompt and completion instead."
        )
    return [], plain_ids(prompt, tokenizer), plain_ids(whole[len(prompt) :], tokenizer)


def prompt_ids(
    text: str, tokenizer: "PreTrainedTokenizerBase", *, chat: bool, max_tokens: int
) -> list[int]:
    """A prompt that is answered: as in training, cut from the front to `max_tokens`. `chat`: the
    text is a user's turn.
    """
    if chat:
        turn = ({"role": "user", "content": text},)
        lead, ids = [], plain_ids(conversation(turn, tokenizer, answer=True), tokenizer)
    else:
        lead, ids = leading_ids(tokenizer), plain_ids(text, tokenizer)
    return lead + ids[max(0, len(ids) - (max_tokens - len(lead))) :]


def conversation(
    messages: Sequence[Mapping[str, str]], tokenizer: "PreTrainedTokenizerBase", *, answer: bool
) -> str:
    """Turns as the tokenizer's chat template writes them, with `answer` up to where the assistant
    begins. Raises ConfigError where the tokenizer has none.
    """
    if tokenizer.chat_template is None:
        raise ConfigError(
            "data.columns.messages: the backbone's tokenizer has no chat template. Give prompt and "
            "completion, or a backbone that was trained on conversations."
        )
    turns: Any = [dict(each) for each in messages]
    written = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer)
    assert isinstance(written, str), json.dumps(turns)[:100]
    return written


def check_form(documents: Sequence[Completion], *, chat: bool) -> None:
    """Raise DataError for a conversation where `data.chat` says that there are none, and the other
    way round: prompts would be answered in another form than they were learnt in.
    """
    for each in documents:
        if bool(each.messages) is not chat:
            found = "a conversation" if each.messages else "no conversation"
            raise DataError(
                f"{each.file} row {each.row}: holds {found}, and data.chat is {str(chat).lower()}. "
                f"Set it to {str(not chat).lower()}, or map the right columns with data.columns."
            )
