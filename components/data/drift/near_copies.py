"""Documents that are nearly the same: MinHash over words in sequence (datasketch)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.data.drift.quotations import sequences_of

if TYPE_CHECKING:
    from datasketch import MinHash

SIMILAR = 0.8
"""Jaccard similarity of the sets of word sequences from which two documents count as copies."""
PERMUTATIONS = 128


def near_copies(texts: Sequence[str], among: Sequence[str]) -> list[int | None]:
    """For each of `texts` the index of the first (nearly) equal text in `among`, followed by those
    of `texts` before it; None where there is none.
    """
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=SIMILAR, num_perm=PERMUTATIONS)
    hashes = [_hash(text) for text in among]
    for number, each in enumerate(hashes):
        index.insert(number, each)
    found: list[int | None] = []
    for text in texts:
        each = _hash(text)
        close = [
            int(other) for other in index.query(each) if each.jaccard(hashes[int(other)]) >= SIMILAR
        ]
        found.append(min(close, default=None))
        index.insert(len(hashes), each)
        hashes.append(each)
    return found


def _hash(text: str) -> "MinHash":
    from datasketch import MinHash

    made = MinHash(num_perm=PERMUTATIONS)
    made.update_batch([each.encode("utf-8", "surrogatepass") for each in sequences_of(text)])
    return made
