"""Documents: read, validated, tokenised once, memory-mapped, batched. Nothing heavier than numpy is
imported before it is needed.
"""

from components.data.batching import (
    collate,
    epoch_steps,
    evaluation_batches,
    padding_share,
    split_step,
    stratified_subset,
)
from components.data.prepared import (
    DataReport,
    PreparedData,
    SplitReport,
    TokenizedSplit,
    open_prepared,
)
from components.data.settings import DataConfig
from components.data.sources import SOURCES

__all__ = [
    "SOURCES",
    "DataConfig",
    "DataReport",
    "PreparedData",
    "SplitReport",
    "TokenizedSplit",
    "collate",
    "epoch_steps",
    "evaluation_batches",
    "open_prepared",
    "padding_share",
    "split_step",
    "stratified_subset",
]
