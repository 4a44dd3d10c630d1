"""When slots lose their workers: at given times, or drawn by rates and a seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """`seconds`: since the start of the search; `slots`: numbers of those that lose their workers;
    `away_seconds`: until there is a place for others.
    """

    seconds: float
    slots: tuple[int, ...]
    away_seconds: float = 0.0


@dataclass(frozen=True)
class LossRates:
    """`per_worker_hour`: of a worker alone (its process, its GPU); `per_node_hour`: of a node with
    all workers there (its failure, a preemption), which is replaced after `node_away_seconds`.
    Failures are independent and as likely at any time.
    """

    per_worker_hour: float = 0.0
    per_node_hour: float = 0.0
    node_away_seconds: float = 300.0

    @property
    def any(self) -> bool:
        """Whether anything is ever lost."""
        return self.per_worker_hour + self.per_node_hour > 0.0


def drawn_losses(
    rates: LossRates, *, slots: int, workers_per_slot: int, workers_per_node: int, seed: int
) -> Iterator[Loss]:
    """Losses without end, in order. Slots fill one node after the other."""
    workers = slots * workers_per_slot
    nodes = -(-workers // workers_per_node)
    of_workers, of_nodes = workers * rates.per_worker_hour, nodes * rates.per_node_hour
    if not rates.any:
        return
    draw, seconds = random.Random(seed), 0.0
    while True:
        seconds += 3600.0 * draw.expovariate(of_workers + of_nodes)
        if draw.random() * (of_workers + of_nodes) < of_workers:
            yield Loss(seconds, (draw.randrange(workers) // workers_per_slot,))
            continue
        first = draw.randrange(nodes) * workers_per_node
        last = min(first + workers_per_node, workers) - 1
        hit = range(first // workers_per_slot, last // workers_per_slot + 1)
        yield Loss(seconds, tuple(hit), rates.node_away_seconds)
