"""The head alone, at its best: the frozen backbone is asked once, and heads learn from its rows.

The same head, starting values, documents of a step and schedule as `adapter.method: head_only`,
which gives the same adapter (tests/components/training/test_frozen_head.py) but asks the backbone
in every epoch. The fact a newcomer gets wrong: a head wants many epochs where a prefix wants one,
so a control that is trained as long as the prefix is no control.
Shapes: N documents, D hidden, C classes.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.adapters import adapt
from components.adapters.methods.head_only import HeadOnlyConfig
from components.config import TrainConfig
from components.data.batching import epoch_steps, evaluation_batches
from components.data.prepared import PreparedData, TokenizedSplit
from components.tasks.classification import CLASSIFICATION
from components.training.engine import adamw
from components.training.lr_schedule import lr_factor
from components.training.session import Session


@dataclass(frozen=True)
class HeadAlone:
    """The best head by validation accuracy, and its answers to the test documents.

    `test_logits` (N, C); `epoch` counts from 1, of as many as were asked for.
    """

    learning_rate: float
    epoch: int
    validation_accuracy: float
    test_logits: np.ndarray[Any, Any]


def head_alone(
    session: Session,
    data: PreparedData,
    config: TrainConfig,
    *,
    batch_size: int,
    learning_rates: Sequence[float],
    epochs: int,
) -> HeadAlone:
    """Train a head at every rate, ask it after every epoch. For one process below ZeRO stage 3.

    `batch_size`: documents of an optimizer step; head, seed, data and schedule are `config`'s.
    """
    assert session.world.size == 1 and session.config.zero.stage < 3
    torch.manual_seed(config.seed)
    head = CLASSIFICATION.head_config(
        config.head, data.labels, data=config.data, tokenizer=session.tokenizer
    )
    model = adapt(session.backbone, HeadOnlyConfig(), head)
    rows = {
        name: _pooled(model, split, session, batch_size=batch_size)
        for name, split in data.splits.items()
    }
    labels = {name: torch.from_numpy(split.label_ids.copy()) for name, split in data.splits.items()}
    best: HeadAlone | None = None
    for rate in learning_rates:
        steps = [
            epoch_steps(
                data.splits["train"].lengths,
                train_batch_size=batch_size,
                seed=config.seed,
                epoch=epoch,
            )
            for epoch in range(epochs)
        ]
        trained = _Training(copy.deepcopy(model.head), config, rate, sum(map(len, steps)))
        for epoch, chosen in enumerate(steps, start=1):
            for batch in chosen:
                trained.step(rows["train"][batch], labels["train"][batch])
            answers = trained.logits(rows["validation"]).argmax(dim=1)
            accuracy = float((answers == labels["validation"]).float().mean())
            if best is None or accuracy > best.validation_accuracy:
                best = HeadAlone(rate, epoch, accuracy, trained.logits(rows["test"]).numpy())
    assert best is not None, "no learning rate or no epoch was given"
    return best


def _pooled(model: Any, split: TokenizedSplit, session: Session, *, batch_size: int) -> Tensor:
    """What the head is given of every document: (N, D)."""
    seen: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, given: seen.append(given[0].float()))
    rows_ND: list[tuple[int, Tensor]] = []
    model.eval()
    with torch.no_grad():
        for chosen in evaluation_batches(
            split.lengths, world_size=1, rank=0, micro_batch_size=batch_size
        ):
            batch = CLASSIFICATION.batch(split, chosen, pad_token_id=session.pad_token_id)
            batch.pop("labels")
            model(**{name: tensor.to(session.world.device) for name, tensor in batch.items()})
            rows_ND += zip(chosen.tolist(), seen.pop().cpu(), strict=True)
    hook.remove()
    return torch.stack([row for _, row in sorted(rows_ND, key=lambda each: each[0])])


class _Training:
    """One head at one rate."""

    def __init__(
        self, head: nn.Module, config: TrainConfig, learning_rate: float, total_steps: int
    ) -> None:
        self.head, self.settings, self.rate = head.cpu(), config.optimizer, learning_rate
        groups = [{"params": list(head.parameters()), "lr": learning_rate}]
        self.optimizer = adamw(groups, self.settings)
        self.total_steps, self.done = total_steps, 0

    def step(self, rows_ND: Tensor, labels_N: Tensor) -> None:
        self.head.train()
        self.optimizer.zero_grad()
        torch.nn.functional.cross_entropy(self.head(rows_ND), labels_N).backward()
        if self.settings.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.head.parameters(), self.settings.max_gradient_norm)
        factor = lr_factor(
            self.done,
            total_steps=self.total_steps,
            warmup_ratio=self.settings.warmup_ratio,
            lr_schedule=self.settings.lr_schedule,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.rate
        self.optimizer.step()
        self.done += 1

    def logits(self, rows_ND: Tensor) -> Tensor:
        self.head.eval()
        with torch.no_grad():
            return self.head(rows_ND)
