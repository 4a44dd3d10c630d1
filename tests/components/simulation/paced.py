"""Workers of a slot that train nothing and tell evaluations of a known curve, at a known pace.

A module of its own, because a slot's actor imports it.
"""

import time
from typing import TYPE_CHECKING

import ray

from components.jobs.events import Evaluated, Trained
from components.jobs.job import SlotSettings
from components.jobs.slot_worker import Outbox
from components.training.outcomes import Progress, Report

if TYPE_CHECKING:
    from ray.actor import ActorHandle

EVALUATIONS, SECONDS = 9, 0.2
METRIC = "validation/accuracy"


def value(rate: float, evaluation: int) -> float:
    """Curves that cross: what is behind at first may lead later."""
    return float((rate * 977.0 * (1 + evaluation // 4)) % 1.0 + 0.05 * evaluation)


def run_paced(settings: SlotSettings, slot: "ActorHandle") -> None:
    """Serve a slot in its own process."""
    ray.get(slot.workers_placed.remote(1))
    while True:
        is_open, assignment = ray.get(slot.take.remote())
        if not is_open:
            return
        if assignment is None:
            continue
        outbox, job = Outbox(slot, assignment.id), assignment.job
        values, outcome = [], "completed"
        for number in range(1, EVALUATIONS + 1):
            time.sleep(SECONDS)
            if outbox.wanted() == "stop":
                outcome = "stopped"
                break
            values.append(value(job.config.optimizer.learning_rate, number))
            metrics = {METRIC: values[-1], "seconds": SECONDS * number}
            is_best = values[-1] > max(values[:-1], default=float("-inf"))
            done = number == EVALUATIONS
            outbox.send(Evaluated(job.id, Report(number, number, metrics, is_best, done, 1)))
        outbox.send(Trained(job.id, outcome, "", Progress(), 1, None))
        outbox.wait_until_sent()
