"""A generated task for which counting words is not enough: which department has to answer?

A customer writes about two articles of two departments, praises one and complains about the other;
the label is the department of the complaint. Both are named in the same forms and equally often,
so the words tell between which two departments it is, and nothing more: a bag of words can be
right half the time. Everything follows from the settings and the split seed, document by document.
The fact a newcomer gets wrong: the length is one of tokens, so the same settings give other texts
under another tokenizer.
"""

import random
from collections.abc import Callable, Sequence
from itertools import permutations

from components.data import letter_words
from components.data.documents import SPLITS, Row, SplitName
from components.data.settings import DataConfig, LettersConfig
from components.errors import ConfigError

HasTokens = Callable[[str, int], bool]
VERSION = 1
"""Raise it when the same settings give other documents."""
RESERVED_TOKENS = 4
"""Room for the special tokens that a tokenizer adds (BERT's two)."""
REMARK_SHARE = 0.5


def state(config: DataConfig) -> object:
    """The version of the words and the rules; the settings are part of the cache key anyway."""
    return VERSION


def read(config: DataConfig, has_tokens: HasTokens) -> dict[SplitName, list[Row]]:
    """All three splits. Raises `ConfigError` for a length that the two articles alone exceed."""
    settings = config.letters
    assert settings is not None
    counts: dict[SplitName, int] = {
        "train": settings.train_documents,
        "validation": settings.validation_documents,
        "test": settings.test_documents,
    }
    return {
        split: [
            _document(settings, split, index, config.split_seed, has_tokens)
            for index in range(counts[split])
        ]
        for split in SPLITS
    }


def _document(
    settings: LettersConfig, split: SplitName, index: int, seed: int, has_tokens: HasTokens
) -> Row:
    """Ordered pairs of departments are taken in turn: one complained about, one praised."""
    departments = list(letter_words.ARTICLES)[: settings.labels]
    pairs = sorted(permutations(departments, 2), key=lambda pair: departments.index(pair[1]))
    blamed, praised = pairs[index % len(pairs)]
    draw = random.Random(f"{VERSION}/{seed}/{split}/{index}")
    passages = [
        _passage(draw, blamed, letter_words.COMPLAINTS, letter_words.MORE_COMPLAINT),
        _passage(draw, praised, letter_words.PRAISES, letter_words.MORE_PRAISE),
    ]
    draw.shuffle(passages)
    text = _letter(draw, passages, settings.tokens, has_tokens)
    values = {"id": f"{split}/{index}", "text": text, "label": blamed}
    return Row("letters", index + 1, values)


def _passage(
    draw: random.Random, department: str, first: Sequence[str], second: Sequence[str]
) -> str:
    """Introduction, perhaps a remark, and two sentences of praise or of complaint."""
    article = draw.choice(letter_words.ARTICLES[department])
    forms = [draw.choice(letter_words.INTRODUCTIONS)]
    if draw.random() < REMARK_SHARE:
        forms.append(draw.choice(letter_words.REMARKS))
    forms += [draw.choice(first), draw.choice(second)]
    return " ".join(_filled(draw, form, article) for form in forms)


def _letter(
    draw: random.Random, passages: Sequence[str], tokens: int, has_tokens: HasTokens
) -> str:
    """Both passages at random places of as much small talk as there is room for."""
    parts = list(passages)
    if has_tokens(" ".join(parts), tokens - RESERVED_TOKENS + 1):
        raise ConfigError(
            f"data.letters.tokens: {tokens} tokens are too few for what is said about two "
            "articles; raise it to 128 or more"
        )
    for _ in range(tokens):  # a sentence is a token at least
        sentence = _filled(draw, draw.choice(letter_words.SMALL_TALK), "")
        longer = list(parts)
        longer.insert(draw.randint(0, len(parts)), sentence)
        if has_tokens(" ".join(longer), tokens - RESERVED_TOKENS + 1):
            return " ".join(parts)
        parts = longer
    raise ConfigError(
        "backbone.name_or_path: its tokenizer makes no tokens of the words of data.letters; choose "
        "another backbone"
    )


def _filled(draw: random.Random, form: str, article: str) -> str:
    slots = {name: draw.choice(words) for name, words in letter_words.SLOTS.items()}
    return form.format(article=article, **slots)
