"""What an adapter has to beat on the same test documents, each at its best on validation data.

It stands beside the demo because a figure without them says nothing: where counting words is as
good,
nobody needs an adapter, and where the head alone is as good, nobody needs the prefix.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config import ExperimentConfig, TrainConfig, resolved
from components.settings import set_path, validate

if TYPE_CHECKING:
    from components.tasks.labelled_text import LabelledText

INVERSE_REGULARIZATIONS = (1.0, 10.0, 100.0)
HEAD_LEARNING_RATES = (1e-3, 3e-3, 1e-2)
HEAD_EPOCHS = 20


@dataclass(frozen=True)
class Score:
    """One line of the table: right answers among all test documents."""

    name: str
    right: int
    documents: int


def majority(splits: Mapping[Any, Sequence["LabelledText"]]) -> Score:
    """Always the most frequent label of the training documents."""
    ((label, _),) = Counter(document.label for document in splits["train"]).most_common(1)
    right = sum(document.label == label for document in splits["test"])
    return Score("majority", right, len(splits["test"]))


def bag_of_words(splits: Mapping[Any, Sequence["LabelledText"]]) -> Score:
    """TF-IDF of words and logistic regression; its regularisation is chosen on validation data."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(sublinear_tf=True).fit([each.text for each in splits["train"]])
    words = {
        name: vectorizer.transform([each.text for each in split]) for name, split in splits.items()
    }
    labels = {name: [each.label for each in split] for name, split in splits.items()}
    models = [
        LogisticRegression(C=inverse, max_iter=2000).fit(words["train"], labels["train"])
        for inverse in INVERSE_REGULARIZATIONS
    ]
    best = max(models, key=lambda model: model.score(words["validation"], labels["validation"]))
    answers = best.predict(words["test"])
    right = sum(answer == label for answer, label in zip(answers, labels["test"], strict=True))
    return Score("bag of words", right, len(answers))


def head_alone(config: ExperimentConfig, *, cache_path: Path) -> Score:
    """Method head_only with the experiment's head, at its own best rate and number of epochs."""
    from components.backbones import tokenizer_id
    from components.tasks import prepare
    from components.training import frozen_head
    from components.training.session import open_session
    from components.training.world import join_world

    values = resolved(config.train_config())
    for path, value in (("adapter", {"method": "head_only"}), ("zero.stage", 0)):
        set_path(values, path, value)
    settings = validate(TrainConfig, values)
    session = open_session(settings, join_world(), cache_path=cache_path)
    identity = tokenizer_id(config.backbone)
    data = prepare(config.data, session.tokenizer, tokenizer_id=identity, cache_path=cache_path)
    best = frozen_head.head_alone(
        session,
        data,
        settings,
        batch_size=config.train_batch_size,
        learning_rates=HEAD_LEARNING_RATES,
        epochs=HEAD_EPOCHS,
    )
    test = data.splits["test"]
    right = int((best.test_logits.argmax(axis=1) == test.label_ids).sum())
    name = f"head alone (rate {best.learning_rate:g}, epoch {best.epoch})"
    return Score(name, right, len(test))
