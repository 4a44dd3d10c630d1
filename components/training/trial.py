"""One trial: train one adapter on the session's backbone, evaluate, checkpoint, report.

Laws that hold here and are tested (tests/components/training): ZeRO 0 == 1 == 2 == 3; world size 1
== 2; (micro 4, accumulate 1) == (1, 4); resumed == uninterrupted; gradient checkpointing on == off.
They hold because a step is a set of documents whatever its cutting, and because order and dropout
are functions of (seed, epoch, step, rank).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from components.config import TrainConfig
from components.data.prepared import PreparedData
from components.training.checkpoint import load_checkpoint, resume_key
from components.training.loop import Diverged, Loop
from components.training.micro_batch import Steps, driven_alone
from components.training.outcomes import Outcome, Progress, Report, Wanted
from components.training.recent_steps import RECENT_STEPS
from components.training.session import Session


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended. `best` are the artifact tensors of its best evaluation; `reason` says why
    it ended, for a person. A training that "left" is no outcome: it goes on elsewhere, from its
    checkpoint.
    """

    outcome: Outcome | Literal["left"]
    reason: str
    progress: Progress
    best: Mapping[str, torch.Tensor]
    trainable_parameters: int


def run_trial(
    session: Session,
    data: PreparedData,
    config: TrainConfig,
    *,
    checkpoint_folder: Path,
    report: Callable[[Report], None] = lambda _: None,
    wanted: Callable[[], Wanted] = lambda: "steps",
    resume: bool = False,
    ranks: int | None = None,
) -> TrialResult:
    """Train one adapter from its start, or from its checkpoint with `resume`. Called by every rank
    of the session's world together.

    `report` is called on rank 0 after each evaluation (with `resume` first for those that the
    checkpoint remembers) and must not wait; `wanted` is asked on rank 0 between steps. A loss that
    is not finite ends the trial as `diverged`; the session serves the next one. `ranks`: by which
    the documents of a step are counted where there may be fewer ranks than that (None: as many as
    there are). Raises ArtifactError where the checkpoint to resume is broken or belongs to another
    configuration.
    """
    return driven_alone(
        trial_steps(
            session,
            data,
            config,
            checkpoint_folder=checkpoint_folder,
            report=report,
            wanted=wanted,
            resume=resume,
            ranks=ranks,
        )
    )


def trial_steps(
    session: Session,
    data: PreparedData,
    config: TrainConfig,
    *,
    checkpoint_folder: Path,
    report: Callable[[Report], None],
    wanted: Callable[[], Wanted],
    resume: bool,
    ranks: int | None,
) -> Steps[TrialResult]:
    """The same as a generator of micro-batches, for whoever drives several side by side. It must
    be driven to its end: what it trains in the session is given back there.
    """
    counted = ranks or session.world.size
    key = resume_key(config, data.fingerprint, world_size=counted)
    start = load_checkpoint(checkpoint_folder, resume_key=key) if resume else None
    with session.engine(config, data.labels, parameters=start.parameters if start else None) as (
        model,
        engine,
    ):
        loop = Loop(session, data, config, model, engine, checkpoint_folder, counted)
        RECENT_STEPS.begin(loop.name)
        try:
            if start is not None:
                yield from loop.restore(start, report)
            outcome, reason = yield from loop.train(report, wanted)
        except Diverged as error:
            outcome, reason = "diverged", str(error)
        RECENT_STEPS.end(loop.name)
        return TrialResult(
            outcome=outcome,
            reason=reason,
            progress=loop.progress,
            best=loop.best,
            trainable_parameters=loop.trainable_parameters,
        )
