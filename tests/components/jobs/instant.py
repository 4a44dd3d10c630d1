"""Workers of a slot that train nothing: every job ends at once, after `EVALUATIONS` evaluations.

A module of its own, because a slot's actor imports it, and neither it nor what it imports may load
torch: what a test measures is Tune, the trainable, the slots and the delivery of events.
"""

import random
import sys
import time
from typing import TYPE_CHECKING

import ray

from components.jobs.events import Evaluated, Trained
from components.jobs.job import SlotSettings
from components.jobs.slot_worker import Outbox
from components.training.outcomes import Progress, Report

if TYPE_CHECKING:
    from ray.actor import ActorHandle

EVALUATIONS = 2


def run_instantly(settings: SlotSettings, slot: "ActorHandle") -> None:
    """Serve a slot in its own process. A job's metric is its learning rate, by which a result can
    be
    told from another one's.
    """
    draw = random.Random(0)
    ray.get(slot.workers_placed.remote(1))
    while True:
        is_open, assignment = ray.get(slot.take.remote())
        assert "torch" not in sys.modules
        if not is_open:
            return
        if assignment is None:
            continue
        outbox, job = Outbox(slot, assignment.id), assignment.job
        value = job.config.optimizer.learning_rate
        history = []
        for number in range(1, EVALUATIONS + 1):
            time.sleep(draw.choice((0.0, 0.0, 0.005)))
            metrics = {"validation/accuracy": value, "gradient_norm": 0.5, "step": float(number)}
            history.append(metrics)
            outbox.send(
                Evaluated(
                    job.id,
                    Report(
                        number,
                        number,
                        metrics,
                        is_best=number == 1,
                        done=number == EVALUATIONS,
                        trainable_parameters=1,
                    ),
                )
            )
        progress = Progress(EVALUATIONS, 1, 1.0, EVALUATIONS, 1, history[0], tuple(history))
        outbox.send(Trained(job.id, "completed", "all steps done", progress, 1, None))
        outbox.wait_until_sent()
