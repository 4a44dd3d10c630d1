"""Documents that are nearly the same: MinHash over words in sequence (datasketch)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasketch import MinHash

SIMILAR = 0.8
"""Jaccard similarity of the sets of word sequences from which two documents count as copies."""
WORDS_IN_SEQUENCE = 3
PERMUTATIONS = 128


def near_copies(
    texts: Sequence[str], among: Sequence[str], *, itself: bool = False
) -> list[int | None]:
    """For each of `texts` the index of a (nearly) equal one in `among`, None where there is none.
    `itself`: `among` is `texts`, and only an earlier one counts.
    """
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=SIMILAR, num_perm=PERMUTATIONS)
    hashes_of_among = [_hash(text) for text in among]
    if not itself:
        for number, each in enumerate(hashes_of_among):
            index.insert(number, each)
    found: list[int | None] = []
    for number, each in enumerate(hashes_of_among if itself else map(_hash, texts)):
        close = [
            int(other)
            for other in index.query(each)
            if each.jaccard(hashes_of_among[int(other)]) >= SIMILAR
        ]
        found.append(min(close, default=None))
        if itself:
            index.insert(number, each)
    return found


def _hash(text: str) -> "MinHash":
    from datasketch import MinHash

    words = text.split()
    last = max(1, len(words) - WORDS_IN_SEQUENCE + 1)
    sequences = {" ".join(words[start : start + WORDS_IN_SEQUENCE]) for start in range(last)}
    made = MinHash(num_perm=PERMUTATIONS)
    made.update_batch([sequence.encode("utf-8", "surrogatepass") for sequence in sequences])
    return made
