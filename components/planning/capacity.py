"""How many slots of how many workers: what a search would take on clusters of growing size. Plain
values; components/simulation works them out.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """`slots` of `workers_per_slot` workers each (a worker is a GPU, or its share of one; on CPUs a
    process), of a cluster with room for `room` workers. `makespan_seconds`: from the start of the
    slots to the end of the last trial; `worker_hours`: what that costs, workers held from the first
    second to the last; `utilisation`: share of the slots' time in which they train, from 0 to 1.
    """

    room: int
    slots: int
    workers_per_slot: int
    makespan_seconds: float
    worker_hours: float
    utilisation: float


@dataclass(frozen=True)
class Capacity:
    """`configured`: the search as its settings say; `layouts`: the fastest of each size of cluster,
    up to the one beyond which it stays the same (`more_changes_nothing`: that was reached).
    `assumptions`: all that is not known, in one line.
    """

    configured: Layout
    layouts: tuple[Layout, ...]
    more_changes_nothing: bool
    assumptions: str
