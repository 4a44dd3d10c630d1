"""What a model puts out for the documents of a split, gathered from batches."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Outputs = NDArray[np.float32]
"""(N, C): one row per document. What the columns are, the task says."""

NO_CANDIDATE = -1e30
"""Logit beyond a question's own candidates: its probability is 0 at every temperature, and it is
finite in float32, also divided by a temperature of 0.05.
"""


def gathered(parts: Sequence[tuple[NDArray[np.integer], Outputs]], num_rows: int) -> Outputs:
    """One array (num_rows, C) of batches of outputs, each with the rows it belongs to; where
    batches
    differ in width, as those of questions do, the rest holds NO_CANDIDATE.
    """
    outputs_NC = np.full(
        (num_rows, max(values.shape[1] for _, values in parts)), NO_CANDIDATE, dtype=np.float32
    )
    for rows, values in parts:
        outputs_NC[rows, : values.shape[1]] = values
    return outputs_NC


def candidate_counts(outputs_NC: Outputs) -> NDArray[np.int64]:
    """Number of candidates (N,) of each question, also where a temperature has divided the
    outputs.
    """
    counts_N: NDArray[np.int64] = (outputs_NC > NO_CANDIDATE / 100).sum(axis=1)
    return counts_N
