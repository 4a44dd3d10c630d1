"""The loop of one training as a generator of micro-batches (micro_batch.py): optimizer steps,
evaluations, checkpoints, reports.

A step is a set of documents whatever its cutting, and order and dropout are functions of (seed,
epoch, step, rank): the laws of trial.py hold because of that.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from components.backbones.readers import RandomState
from components.config import TrainConfig
from components.config.steps import evaluation_steps, steps_per_epoch, total_steps
from components.data.batching import epoch_steps, split_step
from components.data.prepared import PreparedData, TokenizedSplit
from components.tasks import task_named
from components.training.checkpoint import Checkpoint, resume_key, save_checkpoint
from components.training.checks import Checks
from components.training.engine import Engine, set_moments, whole_moments, whole_parameters
from components.training.evaluation import outputs_asked
from components.training.kept_states import kept_states
from components.training.lr_schedule import lr_factor
from components.training.micro_batch import MicroBatch, Steps
from components.training.outcomes import WANTED, Outcome, Progress, Report, Wanted
from components.training.recent_steps import RECENT_STEPS, Step
from components.training.session import Session
from components.training.system_metrics import SystemMeter

Array = np.ndarray[Any, Any]
Tell = Callable[[Report], None]
Ended = tuple[Outcome | Literal["left"], str]
"""Outcome and reason."""


BEFORE_ALL_PARTS = -1
"""Part of a step that trains nothing."""


class Diverged(Exception):
    """The loss is no number any more."""


class Loop:
    """The state of one running training on one rank; its methods that ask for micro-batches are
    generators.
    """

    def __init__(
        self,
        session: Session,
        data: PreparedData,
        config: TrainConfig,
        model: Any,
        engine: Engine,
        checkpoint_folder: Path,
        ranks: int,
    ) -> None:
        self.session, self.data, self.config, self.model, self.engine = (
            session,
            data,
            config,
            model,
            engine,
        )
        self.task, self.folder = task_named(config.data.task), checkpoint_folder
        self.ranks, self.name = ranks, str(checkpoint_folder)
        training = config.training
        self.course = (
            data.fingerprint,
            config.seed,
            ranks,
            training.micro_batch_size,
            training.gradient_accumulation_steps,
            training.tokens_per_batch,
        )
        self.trainable_parameters = model.num_trainable_parameters()
        self.states = kept_states(session, config, model, data)
        self.progress = Progress()
        self.random = RandomState(session.world.device)
        self.meter = SystemMeter(session.world.device)
        self.checks = Checks(every_step=session.world.device.type == "cpu")
        self.best: dict[str, torch.Tensor] = {}
        self.train_split, validation = data.splits["train"], data.splits["validation"]
        count = config.training.evaluation_documents
        self.validation_rows = (
            np.arange(len(validation))
            if count is None
            else self.task.subset(validation, count, config.data.split_seed)
        )
        sizes = {"num_documents": len(self.train_split), "world_size": ranks}
        self.total_steps = total_steps(config, **sizes)
        self.evaluation_steps = evaluation_steps(config, **sizes)
        self.loss_sum, self.loss_terms = (
            torch.zeros((), dtype=torch.float64, device=session.world.device),
            0,
        )

    def restore(self, checkpoint: Checkpoint, report: Tell) -> Steps[None]:
        """Continue where the checkpoint stands: parameters are in place already, here come moments,
        counters and the best adapter so far.
        """
        self.progress, self.best = checkpoint.progress, dict(checkpoint.best)
        if self.session.world.is_main:
            self.loss_sum += checkpoint.loss_sum
            self.loss_terms += checkpoint.loss_terms
            for index, metrics in enumerate(self.progress.history, start=1):
                done = int(metrics["step"]) == self.total_steps
                report(
                    Report(
                        index,
                        int(metrics["step"]),
                        metrics,
                        is_best=index == self.progress.best_evaluation,
                        done=done,
                        trainable_parameters=self.trainable_parameters,
                    )
                )
        if self.progress.step < self.total_steps:
            yield from self._materialise_optimizer_state()
            set_moments(self.engine, checkpoint.moments, step=checkpoint.progress.step)

    def _materialise_optimizer_state(self) -> Steps[None]:
        """One step with zero gradients and learning rate 0: AdamW's state exists afterwards and no
        parameter has moved.
        """
        self.engine.set_learning_rates(0.0)
        yield from self._backward(np.zeros(1, dtype=np.int64), weight=0.0, part=BEFORE_ALL_PARTS)
        self.engine.deepspeed.step()

    def train(self, report: Tell, wanted: Callable[[], Wanted]) -> Steps[Ended]:
        """Run the remaining steps; returns outcome and reason."""
        clock, before = time.monotonic(), self.progress.seconds
        for step, rows in self._remaining_steps():
            yield from self._optimizer_step(step, rows)
            evaluate = self.progress.step in self.evaluation_steps
            asked = self._check(step, wanted) if evaluate or self.checks.due(step) else "steps"
            where = f"step {self.progress.step} of {self.total_steps}"
            if asked == "stop":
                return "stopped", f"told to stop after {where}"
            if evaluate:
                yield from self._evaluate(report, clock, before)
            if asked == "leave" and self.progress.step < self.total_steps:
                if not evaluate:
                    self._keep_for_later(clock, before)
                return "left", f"left its place after {where}"
        return "completed", f"all {self.total_steps} steps done"

    def _remaining_steps(self) -> Iterator[tuple[int, Array]]:
        batch = self.config.training.batch_size(self.ranks)
        per_epoch = steps_per_epoch(
            self.config, num_documents=len(self.train_split), world_size=self.ranks
        )
        step = self.progress.step
        while step < self.total_steps:
            epoch = step // per_epoch
            steps = epoch_steps(
                self.train_split.lengths, train_batch_size=batch, seed=self.config.seed, epoch=epoch
            )
            for rows in steps[step % per_epoch : per_epoch]:
                if step < self.total_steps:
                    yield step, rows
                    step += 1

    def _optimizer_step(self, step: int, rows: Array) -> Steps[None]:
        training, world, started = self.config.training, self.session.world, time.monotonic()
        loss_before, terms_before = self.loss_sum.clone(), self.loss_terms
        torch.manual_seed(dropout_seed(self.config.seed, step, world.rank))
        self.random = RandomState(world.device)
        micro_batches = split_step(
            rows,
            self.train_split.lengths,
            world_size=world.size,
            micro_batch_size=training.micro_batch_size,
            tokens_per_batch=training.tokens_per_batch,
        )[world.rank]
        weight = world.size / self.task.terms(self.train_split, rows)
        for part, chosen in enumerate(micro_batches):
            # DeepSpeed averages over ranks, so a term's weight is world size / terms of the whole
            # step. A rank without documents left takes part with weight 0.
            yield from self._backward(
                chosen if len(chosen) else rows[:1],
                weight=weight if len(chosen) else 0.0,
                part=part,
            )
        factor = lr_factor(
            step,
            total_steps=self.total_steps,
            warmup_ratio=self.config.optimizer.warmup_ratio,
            lr_schedule=self.config.optimizer.lr_schedule,
        )
        self.engine.set_learning_rates(factor)
        self.engine.deepspeed.step()
        tokens = int(self.train_split.tokens[rows].sum())
        self.progress = replace(self.progress, step=step + 1, tokens=self.progress.tokens + tokens)
        rate = self.engine.optimizer.param_groups[0]["lr"]
        seconds = time.monotonic() - started
        RECENT_STEPS.note(
            self.name,
            Step(step + 1, time.time(), seconds, tokens, rate, loss=None),
            loss_sum=self.loss_sum - loss_before,
            terms=self.loss_terms - terms_before,
        )

    def _backward(self, rows: Array, *, weight: float, part: int) -> Steps[None]:
        split, pad = self.train_split, self.session.pad_token_id
        batch = self.task.batch(split, rows, pad_token_id=pad)
        batch = {name: tensor.to(self.session.world.device) for name, tensor in batch.items()}
        labels = batch.pop("labels")
        answer = yield self._micro_batch("train", rows, batch, labels, weight=weight, part=part)
        if weight:
            assert answer.loss is not None
            self.loss_sum += answer.loss
            self.loss_terms += self.task.terms(split, rows)

    def _micro_batch(
        self,
        split: str,
        rows: Array,
        inputs: Mapping[str, torch.Tensor],
        labels: torch.Tensor,
        *,
        weight: float | None,
        part: int,
    ) -> MicroBatch:
        evaluates = weight is None
        return MicroBatch(
            model=self.model,
            engine=self.engine,
            task=self.task,
            documents=(self.data.fingerprint, split, rows.tobytes()),
            inputs=inputs,
            labels=labels,
            states=self.states,
            weight=weight,
            random=self.random,
            course=self.course,
            place=(self.progress.step, 0 if evaluates else 1, part),
        )

    def _check(self, step: int, wanted: Callable[[], Wanted]) -> Wanted:
        """Ask on all ranks at once whether the loss is still finite and what is wanted."""
        world = self.session.world
        not_finite = 0.0 if bool(torch.isfinite(self.loss_sum)) else 1.0
        asked, to_next, now = 0.0, 0.0, time.monotonic()
        if world.is_main:
            asked, to_next = WANTED.index(wanted()), self.checks.steps_to_next(step, now)
        any_not_finite, asked, to_next = world.max([not_finite, asked, to_next])
        self.checks.made(step, now, steps_to_next=int(to_next))
        if any_not_finite:
            raise Diverged(
                f"the training loss is not finite at step {step + 1} (learning rate "
                f"{self.engine.optimizer.param_groups[0]['lr']:.3g}); lower "
                "optimizer.learning_rate"
            )
        return WANTED[int(asked)]

    def _keep_for_later(self, clock: float, before: float) -> None:
        """A checkpoint between two evaluations, with what the next one is to report."""
        world = self.session.world
        seconds = world.broadcast(before + time.monotonic() - clock)
        self.progress = replace(self.progress, seconds=seconds)
        loss_sum, terms = world.sum([float(self.loss_sum), float(self.loss_terms)])
        self._save(whole_parameters(self.engine), loss_sum=loss_sum, loss_terms=int(terms))

    def _outputs(self, validation: TokenizedSplit) -> Steps[Array]:
        """What the task keeps of the answers to the validation documents."""
        asking = outputs_asked(
            validation,
            self.validation_rows,
            task=self.task,
            config=self.config.training,
            world=self.session.world,
            pad_token_id=self.session.pad_token_id,
        )
        try:
            part, asked = 0, next(asking)
            while True:
                answer = yield self._micro_batch("validation", *asked, weight=None, part=part)
                part, asked = part + 1, asking.send(answer.logits)
        except StopIteration as ended:
            outputs: Array = ended.value
            return outputs

    def _evaluate(self, report: Tell, clock: float, before: float) -> Steps[None]:
        session = self.session
        loss_sum, terms = session.world.sum([float(self.loss_sum), float(self.loss_terms)])
        self.loss_sum.zero_()
        self.loss_terms = 0
        validation = self.data.splits["validation"]
        outputs = yield from self._outputs(validation)
        if not np.isfinite(outputs).all():
            raise Diverged(
                f"validation outputs are not finite after step {self.progress.step}; lower "
                "optimizer.learning_rate"
            )
        measured = self.task.measured(outputs, validation, self.validation_rows)
        seconds = session.world.broadcast(before + time.monotonic() - clock)
        metrics = self._metrics(measured, seconds, train_loss=loss_sum / terms)
        is_best = self._is_best(metrics)
        parameters = whole_parameters(self.engine)
        evaluation = self.progress.evaluations + 1
        if is_best:
            self.best = self.model.artifact_tensors(parameters)
            self.progress = replace(self.progress, best_evaluation=evaluation, best_metrics=metrics)
        self.progress = replace(
            self.progress,
            evaluations=evaluation,
            seconds=seconds,
            history=(*self.progress.history, metrics),
        )
        self._save(parameters)
        if session.world.is_main:
            done = self.progress.step == self.total_steps
            step, trained = self.progress.step, self.trainable_parameters
            report(Report(evaluation, step, metrics, is_best, done, trained))

    def _metrics(
        self, measured: Mapping[str, float], seconds: float, *, train_loss: float
    ) -> dict[str, float]:
        return {
            "train/loss": train_loss,
            "train/learning_rate": self.engine.optimizer.param_groups[0]["lr"],
            **{f"validation/{name}": value for name, value in measured.items()},
            "step": float(self.progress.step),
            "epoch": self._epochs(),
            "tokens": float(self.progress.tokens),
            "seconds": seconds,
            "tokens_per_second": self.progress.tokens / seconds,
            **self.meter.read(),
        }

    def _epochs(self) -> float:
        """Passes over the training documents so far."""
        return self.progress.step / steps_per_epoch(
            self.config,
            num_documents=len(self.train_split),
            world_size=self.ranks,
        )

    def _is_best(self, metrics: Mapping[str, float]) -> bool:
        name, best = self.config.training.metric, self.progress.best_metrics
        if not best:
            return True
        return (
            metrics[name] > best[name]
            if self.config.training.mode == "max"
            else metrics[name] < best[name]
        )

    def _save(
        self,
        parameters: Mapping[str, torch.Tensor],
        *,
        loss_sum: float = 0.0,
        loss_terms: int = 0,
    ) -> None:
        moments = whole_moments(self.engine)
        if self.session.world.is_main:
            checkpoint = Checkpoint(
                self.progress,
                resume_key(self.config, self.data.fingerprint, world_size=self.ranks),
                parameters,
                moments,
                self.best,
                loss_sum=loss_sum,
                loss_terms=loss_terms,
            )
            save_checkpoint(self.folder, checkpoint)


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """Seed of torch's generator for one optimizer step on one rank, so that a resumed trial draws
    what an uninterrupted one draws.
    """
    return int(
        np.random.SeedSequence([seed & 0xFFFFFFFF, step, rank]).generate_state(1, dtype=np.uint64)[
            0
        ]
        >> 1
    )
