"""What an adapter has to beat, on documents whose answers are known."""

from components.data.settings import DataConfig, LettersConfig
from components.data.sources import source_of
from components.tasks.labelled_text import LabelledText, labelled_texts
from pipelines.local_cluster.baselines import Score, bag_of_words, majority
from pipelines.local_cluster.demo import table

COIN = 0.6
"""Above a fair coin by more than chance gives on 240 letters (p < .002)."""


def documents(texts: dict[str, str], count: int) -> list[LabelledText]:
    return [
        LabelledText(f"{label}{index}", f"{text} {index}", label, "here", index)
        for label, text in texts.items()
        for index in range(count)
    ]


def test_majority_is_that_of_the_training_documents() -> None:
    train = documents({"a": "x"}, 3) + documents({"b": "y"}, 2)
    test = documents({"a": "x"}, 1) + documents({"b": "y"}, 3)
    assert majority({"train": train, "test": test}) == Score("majority", 1, 4)


def test_a_bag_of_words_finds_what_words_tell() -> None:
    texts = {"a": "quiet rain", "b": "loud thunder"}
    splits = {name: documents(texts, 5) for name in ("train", "validation", "test")}
    assert bag_of_words(splits) == Score("bag of words", 10, 10)


def test_a_bag_of_words_tosses_a_coin_on_letters() -> None:
    settings = LettersConfig(train_documents=480, validation_documents=48, test_documents=240)
    config = DataConfig(letters=settings)
    source = source_of(config)
    rows = source.read(config, lambda text, count: len(text.split()) >= count)
    columns = source.columns(config)
    splits = {split: labelled_texts(each, columns)[0] for split, each in rows.items()}
    score = bag_of_words(splits)
    assert score.right / score.documents < COIN


def test_the_table_has_a_line_with_an_interval_for_each() -> None:
    head, *lines = table((Score("majority", 60, 240), Score("demo version 1", 235, 240)))
    assert "95% interval" in head
    assert lines[0].split() == ["majority", "0.250", "0.199", "to", "0.308", "240"]
    assert "0.979" in lines[1]
