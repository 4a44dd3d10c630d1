"""Ask the live model about a split: every rank takes its share, every rank gets everything."""

from collections.abc import Generator
from typing import Any

import numpy as np
import torch

from components.config.training import TrainingConfig
from components.data.batching import evaluation_batches
from components.data.prepared import TokenizedSplit
from components.tasks import Task
from components.tasks.outputs import gathered
from components.training.pulse import PULSE
from components.training.state_store import StateStore
from components.training.world import World

Array = np.ndarray[Any, Any]


def split_outputs(
    model: Any,
    split: TokenizedSplit,
    rows: Array,
    *,
    task: Task,
    config: TrainingConfig,
    world: World,
    pad_token_id: int,
    states: StateStore | None = None,
) -> Array:
    """What the task keeps of the model's answers, (N, C) float32, for the documents `rows` of a
    split in their order, on every rank.

    `model`: the engine (it gathers ZeRO-3 shards) or an AdaptedModel. Called by all ranks together;
    a rank without documents left still takes part. `states`: of the documents, where they are kept.
    """
    asking = outputs_asked(
        split, rows, task=task, config=config, world=world, pad_token_id=pad_token_id
    )
    model.eval()
    try:
        _, batch, _ = next(asking)
        while True:
            if states is not None:
                batch["states"] = states.states(batch["input_ids"], batch["attention_mask"])
            with torch.no_grad():
                logits_BC = model(**batch).logits
            PULSE.beat()
            _, batch, _ = asking.send(logits_BC)
    except StopIteration as ended:
        outputs: Array = ended.value
    model.train()
    return outputs


def outputs_asked(
    split: TokenizedSplit,
    rows: Array,
    *,
    task: Task,
    config: TrainingConfig,
    world: World,
    pad_token_id: int,
) -> Generator[tuple[Array, dict[str, Any], torch.Tensor], torch.Tensor, Array]:
    """The same, asked for batch by batch: yields the documents, what the model takes of them and
    their labels, and is sent the logits.
    """
    lengths = split.lengths[rows]
    batches = evaluation_batches(
        lengths,
        world_size=world.size,
        rank=world.rank,
        micro_batch_size=config.micro_batch_size,
        tokens_per_batch=config.tokens_per_batch,
    )
    own: list[tuple[Array, Array]] = []
    for chosen in batches:
        asked = rows[chosen] if len(chosen) else rows[:1]
        batch = task.batch(split, asked, pad_token_id=pad_token_id)
        batch = {name: tensor.to(world.device) for name, tensor in batch.items()}
        labels = batch.pop("labels")
        logits_BC = yield asked, batch, labels
        if len(chosen):
            own.append((chosen, task.outputs(logits_BC, labels)))
    parts = [part for rank_parts in world.gather(own) for part in rank_parts]
    return gathered(parts, len(rows))
