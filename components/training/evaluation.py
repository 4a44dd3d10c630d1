"""Evaluate the live model on a split: every rank takes its share, every rank gets the same metrics."""

from typing import Any

import numpy as np
import torch

from components.config.schema import TrainingConfig
from components.data.batching import collate, evaluation_batches
from components.data.prepared import TokenizedSplit
from components.evaluation import classification_metrics, softmax
from components.training.world import World

Array = np.ndarray[Any, Any]


def split_logits(model: Any, split: TokenizedSplit, rows: Array, *, config: TrainingConfig, world: World, pad_token_id: int) -> Array:
    """Logits (N, C) float32 of the documents `rows` of a split, in their order, on every rank.

    `model`: the engine (it gathers ZeRO-3 shards) or an AdaptedModel. Called by all ranks together; a rank without documents left still takes part.
    """
    lengths = split.lengths[rows]
    batches = evaluation_batches(
        lengths, world_size=world.size, rank=world.rank, micro_batch_size=config.micro_batch_size, tokens_per_batch=config.tokens_per_batch
    )
    model.eval()
    own: list[tuple[Array, Array]] = []
    with torch.no_grad():
        for chosen in batches:
            batch = collate(split, rows[chosen] if len(chosen) else rows[:1], pad_token_id=pad_token_id)
            logits_BC = model(input_ids=batch["input_ids"].to(world.device), attention_mask=batch["attention_mask"].to(world.device)).logits
            if len(chosen):
                own.append((chosen, logits_BC.float().cpu().numpy()))
    model.train()
    parts = [part for rank_parts in world.gather(own) for part in rank_parts]
    logits = np.empty((len(rows), parts[0][1].shape[1]), dtype=np.float32)
    for chosen, values in parts:
        logits[chosen] = values
    return logits


def metrics_of(logits: Array, label_ids: Array, *, prefix: str) -> dict[str, float]:
    """All classification metrics of the logits, each named `<prefix>/<metric>`."""
    return {f"{prefix}/{name}": value for name, value in classification_metrics(softmax(logits), label_ids).items()}
