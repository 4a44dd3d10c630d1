"""Documents that hold (nearly) all of another one: word for word, quoted line by line, in other
case, with other punctuation or with more round it. Exact, by word sequences.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

WORDS_IN_SEQUENCE = 3
HELD = 0.8
"""Share of a document's word sequences from which another document holds it."""
FEWEST = 10
"""Word sequences of a document below which the other one must be as short: a line of thanks stands
in many texts.
"""
WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words of a text as copies are compared by: case and punctuation aside."""
    return WORD.findall(text.casefold()) or text.split()


def sequences_of(text: str) -> set[str]:
    """Every three words in a row; of a shorter text all of it."""
    words = words_of(text)
    last = max(1, len(words) - WORDS_IN_SEQUENCE + 1)
    return {" ".join(words[start : start + WORDS_IN_SEQUENCE]) for start in range(last)}


def held_documents(texts: Sequence[str], whole: Sequence[str]) -> list[int | None]:
    """For each of `texts` the index of the document of `whole` that it holds most of; None where it
    holds none.
    """
    sizes: list[int] = []
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(whole):
        sequences = sequences_of(text)
        sizes.append(len(sequences))
        for sequence in sequences:
            holders[sequence].append(number)
    return [_held(sequences_of(text), sizes, holders) for text in texts]


def _held(
    sequences: set[str], sizes: Sequence[int], holders: defaultdict[str, list[int]]
) -> int | None:
    shared = Counter(number for each in sequences if each in holders for number in holders[each])
    best, share = None, 0.0
    for number, count in sorted(shared.items()):
        size = sizes[number]
        if size < FEWEST:  # as short as itself: all that either has counts
            size = max(size, len(sequences))
        if count >= HELD * size and count / size > share:
            best, share = number, count / size
    return best
