"""Classification by label words: a document in a prompt, and for each class the word that would
follow it. The logits are the frozen language-model head's, so that the adapter alone is trained.

A task of its own and no form of classification's head, because the prompt changes what a document
is: its tokens, the data's fingerprint and what `predict` reads. All else is classification's.
The fact a newcomer gets wrong: of a word its first token alone is read, behind the end of the
template, so that words must differ in it (`first_tokens`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from components.backbones.family import BackboneFamily
from components.data.columns import listed
from components.data.documents import Example
from components.data.lookalikes import shown
from components.data.prepared import TokenizedDocument
from components.data.settings import DataConfig
from components.data.template import Template, encode_in, plain_ids, template_fault
from components.data.tokenization import Encoded
from components.errors import ArtifactError, ConfigError
from components.settings import Texts
from components.tasks.classification import (
    Classification,
    ClassificationHeadConfig,
)
from components.tasks.labelled_text import labelled_documents
from components.tasks.task import HeadConfig, HeadForm, Sequences, TaskHeadConfig

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from components.tasks.heads.head import Head


class LabelWordsHeadConfig(ClassificationHeadConfig):
    """Classes with the words that stand for them. Nothing of the head is trained, so that it has no
    dropout either.
    """

    task: ClassVar[str] = "label_words"
    pooling: Literal["last"] = "last"
    """The row that is read: the last one, of the text or of a suffix behind it."""
    label_words: Texts
    """Word of each class, in the order of the logits."""
    token_ids: tuple[int, ...]
    """First token of each word: the rows of the language-model head that are kept."""

    @model_validator(mode="after")
    def _words_match(self) -> "LabelWordsHeadConfig":
        if not len(self.label_words) == len(self.token_ids) == self.num_labels:
            raise ValueError(
                f"num_labels is {self.num_labels}, with {len(self.label_words)} label_words and "
                f"{len(self.token_ids)} token_ids; make them agree"
            )
        if len(set(self.token_ids)) < self.num_labels:
            raise ValueError("token_ids holds one twice; give each class a first token of its own")
        return self


class LabelWords(Classification):
    """See Task. What is not said here is that of classification."""

    name = "label_words"
    words = "classification by label words"
    head: type[TaskHeadConfig] = LabelWordsHeadConfig

    def tokenized(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: "PreTrainedTokenizerBase",
        config: DataConfig,
    ) -> Iterator[list[TokenizedDocument]]:
        template = Template.of(config.template)
        first_tokens(labels, config.label_words or {}, template, tokenizer)

        def encode(texts: Sequence[str]) -> Iterator[list[Encoded]]:
            return encode_in(template, texts, tokenizer, max_tokens=config.max_tokens)

        return labelled_documents(examples, labels, encode)

    def cutting(self, config: DataConfig) -> Mapping[str, object]:
        return {
            "template": str(Template.of(config.template)),
            "label_words": dict(config.label_words or {}),
        }

    def uncut(self, cutting: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: cutting[name] for name in ("template", "label_words") if cutting.get(name)}
        return {"task": self.name, **own}

    def head_config(
        self,
        section: HeadConfig,
        labels: tuple[str, ...],
        *,
        data: DataConfig,
        tokenizer: "PreTrainedTokenizerBase",
    ) -> LabelWordsHeadConfig:
        words = data.label_words or {}
        return LabelWordsHeadConfig(
            num_labels=len(labels),
            labels=labels,
            label_words=tuple(words.get(label, label) for label in labels),
            token_ids=first_tokens(labels, words, Template.of(data.template), tokenizer),
        )

    def build_head(self, config: Any, backbone: "nn.Module", dropout: float) -> "Head":
        from components.tasks.heads.label_words import build

        return build(config, backbone)

    def head_parameters(self, hidden: int, *, num_labels: int, form: HeadForm) -> int:
        return 0

    def incompatibility(self, family: BackboneFamily, pooling: str | None) -> str | None:
        if family.rows_see_all_text:
            return (
                "data.task label_words reads what a causal decoder's language-model head says of "
                f"the next word, and a {family.name} has none: set backbone.family to decoder, or "
                "data.task to classification"
            )
        if pooling != "last":
            return (
                f"head.pooling {pooling} is not where the next word is told: set it to last for "
                "data.task label_words"
            )
        return None

    def encoded(
        self,
        asked: Sequence[str],
        tokenizer: "PreTrainedTokenizerBase",
        *,
        max_tokens: int,
        cutting: Mapping[str, Any],
    ) -> list[Sequences]:
        template = _stored_template(cutting)
        chunks = encode_in(template, asked, tokenizer, max_tokens=max_tokens)
        return [[each.input_ids.tolist()] for chunk in chunks for each in chunk]


def _stored_template(cutting: Mapping[str, Any]) -> Template:
    """The template that an adapter was trained with. Raises ArtifactError where it has none."""
    template = cutting.get("template")
    if not isinstance(template, str):
        raise ArtifactError(
            "The adapter was trained for label words, and its adapter_config.json holds no "
            "training.template. Write the template there that its documents stood in."
        )
    if fault := template_fault(template):
        raise ArtifactError(f"adapter_config.json: training.template: {fault}.")
    return Template.of(template)


def first_tokens(
    labels: Sequence[str],
    label_words: Mapping[str, str],
    template: Template,
    tokenizer: "PreTrainedTokenizerBase",
) -> tuple[int, ...]:
    """First token of each label's word, behind the end of the template; a space stands between the
    two unless one of them brings white space.

    Raises ConfigError: a word for a label that no document has, two labels whose words begin with
    the same token (both are named), a word that the tokenizer does not know or that changes the
    template's last token.
    """
    strangers = [label for label in label_words if label not in labels]
    if strangers:
        raise ConfigError(
            f"data.label_words: no training document has the label '{shown(strangers[0])}'. The "
            f"labels: {listed(labels)}."
        )
    end = plain_ids(template.after, tokenizer)
    found: dict[int, str] = {}
    for label in labels:
        word = label_words.get(label, label)
        token = _first_token(label, word, template.after, end, tokenizer)
        if token in found:
            raise ConfigError(
                f"data.label_words: the words of the labels '{shown(found[token])}' and "
                f"'{shown(label)}' begin with the same token "
                f"({shown(repr(tokenizer.decode([token])))}), by which they cannot be told apart. "
                "Give one of them another word."
            )
        found[token] = label
    return tuple(found)


def _first_token(
    label: str, word: str, after: str, end: list[int], tokenizer: "PreTrainedTokenizerBase"
) -> int:
    space = "" if after[-1:].isspace() or word[:1].isspace() else " "
    ids = plain_ids(after + space + word, tokenizer)
    if ids[: len(end)] != end or len(ids) == len(end):
        raise ConfigError(
            f"data.template: its end and the word '{shown(word)}' of the label '{shown(label)}' "
            "become one token, so that no row stands before the word. End the template in a "
            "character that is no space, for example a colon."
        )
    if ids[len(end)] == tokenizer.unk_token_id:
        raise ConfigError(
            f"data.label_words: the tokenizer does not know the word '{shown(word)}' of the label "
            f"'{shown(label)}'. Give it another word."
        )
    return ids[len(end)]


LABEL_WORDS = LabelWords()
