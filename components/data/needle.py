"""A generated task in which one short passage decides: which kind of thing did the harbour office
receive?

The needle, a few sentences in a row, stands at a chosen depth of a document of a chosen length,
among filler and distractors of its own form (other receivers, things of no label). Everything
follows from the settings and the split seed, document by document: raising the number of documents
leaves the earlier ones as they are. Training, validation and test documents are drawn apart, and no
two are equal. The fact a newcomer gets wrong: the length is one of tokens, so the same settings
give other texts under another tokenizer.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from components.data import needle_words
from components.data.documents import SPLITS, Row, SplitName
from components.data.settings import DataConfig, NeedleConfig
from components.errors import ConfigError

HasTokens = Callable[[str, int], bool]
VERSION = 1
"""Raise it when the same settings give other documents."""
RESERVED_TOKENS = 4
"""Room for the special tokens that a tokenizer adds (BERT's two)."""
FEWEST_TOKENS_PER_SENTENCE = 4


@dataclass(frozen=True)
class NeedlePlace:
    """What is known of a document: the length it was made for (tokens) and the depth of its needle
    (0 at the start, 1 at the end).
    """

    length: int
    depth: float


def state(config: DataConfig) -> object:
    """The version of the words and the rules; the settings are part of the cache key anyway."""
    return VERSION


def read(config: DataConfig, has_tokens: HasTokens) -> dict[SplitName, list[Row]]:
    """All three splits. Raises `ConfigError` for a length that needle and distractors alone
    exceed.
    """
    needle = config.needle
    assert needle is not None
    counts: dict[SplitName, int] = {
        "train": needle.train_documents,
        "validation": needle.validation_documents,
        "test": needle.test_documents,
    }
    return {
        split: [
            _document(needle, split, index, config.split_seed, has_tokens)
            for index in range(counts[split])
        ]
        for split in SPLITS
    }


def needle_place(document_id: str) -> NeedlePlace:
    """Length and depth that a document's id tells."""
    _, _, length, depth = document_id.split("/")
    return NeedlePlace(int(length), float(depth))


def _document(
    config: NeedleConfig, split: SplitName, index: int, seed: int, has_tokens: HasTokens
) -> Row:
    """Lengths change fastest, then depths, then labels, so that every cell of a whole round is
    filled once.
    """
    lengths = config.test_lengths or config.lengths if split == "test" else config.lengths
    label = list(needle_words.ITEMS)[index // (len(lengths) * len(config.depths)) % config.labels]
    place = NeedlePlace(
        lengths[index % len(lengths)], config.depths[index // len(lengths) % len(config.depths)]
    )
    draw = random.Random(f"{VERSION}/{seed}/{split}/{index}")
    identity = f"{split}/{index}/{place.length}/{place.depth:g}"
    text = _text(draw, label, place, config, has_tokens)
    return Row("needle", index + 1, {"id": identity, "text": text, "label": label})


def _text(
    draw: random.Random, label: str, place: NeedlePlace, config: NeedleConfig, has_tokens: HasTokens
) -> str:
    """The longest text of whole sentences that is no longer than the place says."""
    extra = [
        (
            place.depth,
            _passage(draw, needle_words.RECEIVER, needle_words.ITEMS[label], config.sentences),
        )
    ]
    for _ in range(config.distractors):
        receiver = draw.choice(needle_words.OTHER_RECEIVERS)
        extra.append(
            (draw.random(), _passage(draw, receiver, needle_words.OTHER_ITEMS, config.sentences))
        )
    filler = [_filler(draw) for _ in range(place.length // FEWEST_TOKENS_PER_SENTENCE)]

    def fits(count: int) -> bool:
        return not has_tokens(_joined(filler[:count], extra), place.length - RESERVED_TOKENS + 1)

    if not fits(0):
        raise ConfigError(
            f"data.needle: {place.length} tokens are too few for the needle and "
            f"{config.distractors} distractors; raise lengths or lower distractors or sentences"
        )
    low, high = 0, len(filler)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return _joined(filler[:low], extra)


def _joined(filler: Sequence[str], extra: Sequence[tuple[float, str]]) -> str:
    """Filler with the other passages at their depths. The needle comes first in `extra`, so that of
    two at the same place it keeps the end it was asked for.
    """
    sentences = [(position + 0.5, 1, sentence) for position, sentence in enumerate(filler)]
    (depth, needle), *others = extra
    inner = [(share * len(filler), 1, sentence) for share, sentence in others]
    end = -1 if depth == 0.0 else 2 if depth == 1.0 else 1
    return " ".join(
        sentence
        for _, _, sentence in sorted(
            [*sentences, *inner, (depth * len(filler), end, needle)], key=lambda each: each[:2]
        )
    )


def _passage(draw: random.Random, receiver: str, items: Sequence[str], sentences: int) -> str:
    """Sentences of different forms about different things."""
    forms, named = (draw.sample(some, sentences) for some in (needle_words.NEEDLES, items))
    return " ".join(
        form.format(receiver=receiver, item=item) for form, item in zip(forms, named, strict=True)
    )


def _filler(draw: random.Random) -> str:
    return draw.choice(needle_words.FILLER).format(
        **{name: draw.choice(words) for name, words in needle_words.SLOTS.items()}
    )
