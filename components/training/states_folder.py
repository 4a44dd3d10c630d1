"""Where a cache keeps states of documents, and under which name each one's lie; without torch."""

import hashlib
from typing import Any

import numpy as np

STATES_FOLDER = "states"
DESCRIPTION = "states.json"
"""In a folder of states: what they depend on beside the tokens."""
Ids = np.ndarray[Any, Any]


def document_key(ids: Ids) -> str:
    """Of a document's token ids."""
    return hashlib.sha256(np.ascontiguousarray(ids, dtype=np.int64).tobytes()).hexdigest()
