"""Settings of the documents: the section `data`, with one section for each source."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from components.data.template import template_fault
from components.settings import Config, FilePath, PositiveInt, Seed

Generated = Annotated[PositiveInt, Field(le=1_000_000)]
"""Documents that are made before a search starts."""


class ColumnsConfig(Config):
    """Which columns of the source hold what."""

    text: str = "text"
    """Column of the document."""
    label: str = "label"
    """Column of the class (text or integer)."""
    prompt: str = "prompt"
    """Of task language_modelling: column of what is given."""
    completion: str = "completion"
    """Column of what follows it, which is learnt; without it the text alone is."""
    messages: str = "messages"
    """Column of conversations, `[{"role": "user", "content": ...}, {"role": "assistant", ...}]`, of
    which the last turn is learnt; with `data.chat`.
    """
    id: str | None = "id"
    """Column of a unique id; null or absent in the data: ids are made from file name and row
    number.
    """

    @property
    def mapped(self) -> tuple[str, ...]:
        """Names of the columns of labelled texts."""
        return self._with_id(self.text, self.label)

    def read_for(self, task: str) -> tuple[str, ...]:
        """Names of all columns that are read for a task."""
        if task != "language_modelling":
            return self.mapped
        return self._with_id(self.text, self.prompt, self.completion, self.messages)

    def _with_id(self, *names: str) -> tuple[str, ...]:
        return names if self.id is None else (*names, self.id)


class FilesConfig(Config):
    """Local files, one per split: .jsonl, .jsonl.gz, .csv, .csv.gz or .parquet."""

    train: FilePath
    """Path of the training documents."""
    validation: FilePath | None = None
    """Path of the validation documents; null carves them from train."""
    test: FilePath | None = None
    """Path of the test documents; null carves them from train."""


class HubConfig(Config):
    """A data set on the hub."""

    name: str
    """Data set id."""
    config_name: str | None = None
    """Configuration of the data set; null takes the default one."""
    revision: str | None = None
    """Commit, tag or branch."""
    train: str = "train"
    """Name of the training split."""
    validation: str | None = None
    """Name of the validation split; null carves it from train."""
    test: str | None = None
    """Name of the test split; null carves it from train."""


class InstalledSourceConfig(Config):
    """Source files of installed libraries as documents; the label is the library."""

    libraries: Annotated[tuple[str, ...], Field(min_length=2)]
    """Import names of installed packages: the classes."""
    min_tokens: PositiveInt = 1000
    """Documents shorter than this many tokens are left out."""
    documents_per_library: PositiveInt = 60
    """At most this many documents per class, over all splits."""

    @model_validator(mode="after")
    def _distinct(self) -> "InstalledSourceConfig":
        if len(set(self.libraries)) < len(self.libraries):
            raise ValueError("libraries names one twice; name each once")
        return self


class QangarooConfig(Config):
    """Multiple-choice questions with supporting documents, in the form of WikiHop's release: JSON
    files (.json, .json.gz) that hold one list of records.
    """

    train: FilePath
    """Path of the training questions: [{"id", "query", "answer", "candidates": [...], "supports":
    [...]}, ...].
    """
    validation: FilePath | None = None
    """Path of the validation questions; null carves them from train."""
    test: FilePath | None = None
    """Path of the test questions; null carves them from train."""
    max_chunks: PositiveInt | None = None
    """Keep at most this many chunks of max_tokens per question, and leave the rest of its supports
    out; null keeps all.
    """


class NeedleConfig(Config):
    """Generated documents in which one short passage, the needle, decides the label
    (components/data/needle.py).
    """

    lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (512, 1024)
    """Lengths of training and validation documents in tokens, special tokens included, taken in
    turn; a document is at most one sentence shorter. At most data.max_tokens.
    """
    test_lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    """Lengths of test documents; null: as `lengths`."""
    depths: Annotated[tuple[Annotated[float, Field(ge=0.0, le=1.0)], ...], Field(min_length=1)] = (
        0.0,
        0.25,
        0.5,
        0.75,
        1.0,
    )
    """Where the needle stands, taken in turn: 0 is the start of the document, 1 its end."""
    sentences: Annotated[int, Field(ge=1, le=4)] = 1
    """Sentences of a needle, and of a distractor."""
    labels: Annotated[int, Field(ge=2, le=6)] = 4
    """Number of classes."""
    distractors: Annotated[int, Field(ge=0, le=10_000)] = 3
    """Passages of the needle's form about other subjects, at random places of every document."""
    train_documents: Generated = 400
    """Documents of the training split. Splits whose size is a multiple of lengths x depths x labels
    are balanced exactly.
    """
    validation_documents: Generated = 40
    """Documents of the validation split."""
    test_documents: Generated = 160
    """Documents of the test split."""


class LettersConfig(Config):
    """Generated letters of customers: which department do they complain to?
    (components/data/letters.py)
    """

    tokens: PositiveInt = 128
    """Length of a letter in tokens, special ones included; it is at most one sentence shorter."""
    labels: Annotated[int, Field(ge=3, le=4)] = 4
    """Number of departments. With two of them no letter would leave one out."""
    train_documents: Generated = 960
    """Letters of the training split. Multiples of labels x (labels - 1) are balanced exactly."""
    validation_documents: Generated = 96
    """Letters of the validation split."""
    test_documents: Generated = 240
    """Letters of the test split."""


PROMPT = ("template", "label_words")
"""Settings of what a document stands in."""
OF_ONE_TASK = {
    "template": "label_words",
    "label_words": "label_words",
    "chat": "language_modelling",
}
"""Setting that one task alone reads -> the task."""


def default_task(data: Mapping[str, Any]) -> str:
    """The task of documents whose settings name none, from the sections of `data`."""
    return "classification" if data.get("qangaroo") is None else "multiple_choice"


class DataConfig(Config):
    """The documents. Exactly one source is given: `files`, `hub`, `installed_source`, `letters`,
    `needle` or `qangaroo`.
    """

    files: FilesConfig | None = None
    """Local files."""
    hub: HubConfig | None = None
    """A hub data set."""
    installed_source: InstalledSourceConfig | None = None
    """Offline task made from the source code of installed libraries."""
    letters: LettersConfig | None = None
    """Generated letters, for which counting words is right half the time."""
    needle: NeedleConfig | None = None
    """Generated task whose deciding passage stands at a chosen depth of documents of a chosen
    length.
    """
    qangaroo: QangarooConfig | None = None
    """Multiple-choice questions (WikiHop)."""
    task: str = Field(default_factory=default_task)
    """What is learnt from the documents (components/tasks). Left out: what the source is made for,
    multiple_choice of `qangaroo`, classification of every other.
    """
    columns: ColumnsConfig = ColumnsConfig()
    """Column mapping of `files` and `hub`."""
    template: str | None = None
    r"""Of task label_words: the prompt that a document stands in, `{text}` in its place, such as
    `"{text}\n\nTopic:"`. A document is cut so that the rest of it fits into max_tokens, and the
    word that would follow is the answer. Null: `"{text}\n\nLabel:"`.
    """
    label_words: dict[str, str] | None = None
    """Of task label_words: label -> the word that stands for it, told from the others by its first
    token: `{rec.autos: cars, sci.space: space}`. Labels that are left out, all of them with null,
    stand for themselves.
    """
    chat: bool = False
    """Of task language_modelling: documents are conversations (`columns.messages`), written by the
    tokenizer's chat template, and a prompt that is answered is a user's turn.
    """
    max_new_tokens: PositiveInt = 128
    """Of task language_modelling: the most tokens of an answer; prompts are cut from the front to
    max_tokens less these.
    """
    on_invalid: Literal["fail", "drop"] = "fail"
    """What to do with invalid rows: stop with the first ones named, or drop and report them."""
    max_tokens: PositiveInt = 1024
    """Documents are truncated to this many tokens, special tokens included, prefix excluded. A
    multiple-choice question is cut into chunks of at most so many.
    """
    validation_from: Literal["train", "test"] = "train"
    """Which split validation is carved from where the source has none; `test` needs a source with
    test documents.
    """
    validation_fraction: Annotated[float, Field(gt=0.0, le=0.5)] = 0.15
    """Share of that split carved for validation where the source has none (stratified,
    deterministic).
    """
    test_fraction: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.15
    """Share of train carved for test where the source has none (stratified, deterministic)."""
    max_documents: PositiveInt | None = None
    """Keep at most this many documents per split (stratified, deterministic); null keeps all."""
    split_seed: Seed = 10
    """Seed of carving and capping."""

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        sources = ("files", "hub", "installed_source", "letters", "needle", "qangaroo")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of {', '.join(sources)}; got {', '.join(given) or 'none'}"
            )
        return self

    @model_validator(mode="after")
    def _prompt_is_one(self) -> "DataConfig":
        for name, task in OF_ONE_TASK.items():
            if getattr(self, name) not in (None, False) and self.task != task:
                raise ValueError(
                    f"{name} is read by task {task} alone, and task is {self.task}; remove it, or "
                    f"set data.task to {task}"
                )
        if self.task == "language_modelling" and self.max_new_tokens >= self.max_tokens:
            raise ValueError(
                f"max_new_tokens {self.max_new_tokens} leaves nothing of max_tokens "
                f"{self.max_tokens} for a prompt; lower it, or raise max_tokens"
            )
        if self.template is not None and (fault := template_fault(self.template)):
            raise ValueError(f"template: {fault}")
        for label, word in (self.label_words or {}).items():
            if not word.strip():
                raise ValueError(f"label_words: the word of label {label!r} is empty; give it one")
        return self

    @model_validator(mode="after")
    def _letters_fit(self) -> "DataConfig":
        if self.letters is not None and self.letters.tokens > self.max_tokens:
            raise ValueError(
                f"letters has documents of {self.letters.tokens} tokens, which max_tokens "
                f"{self.max_tokens} would cut; raise data.max_tokens"
            )
        return self

    @model_validator(mode="after")
    def _needles_fit(self) -> "DataConfig":
        longest = (
            max((*self.needle.lengths, *(self.needle.test_lengths or ())))
            if self.needle is not None
            else 0
        )
        if longest > self.max_tokens:
            raise ValueError(
                f"needle has documents of {longest} tokens, which max_tokens {self.max_tokens} "
                "would cut; raise data.max_tokens"
            )
        return self
