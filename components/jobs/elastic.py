"""How many ranks a slot has where its cluster grows and shrinks: `cluster.min_workers` to
`cluster.num_workers`, with the same documents in a step.

Ray Train finds the number when workers start. It would also change it under way, by ending the
workers where they are; that is off, and the slot lets them leave with a checkpoint instead.
"""

import math
import time

import ray
from ray.exceptions import RayError

from components.config.cluster import ClusterConfig
from components.jobs.draining import nodes_to_go

FIRST_TRY_SECONDS = 30.0
"""After workers started with fewer than asked for; each try that gave no more doubles it."""
FREED_SECONDS, BETWEEN_LOOKS_SECONDS = 5.0, 0.5
"""Within which the room of workers that have ended is seen to be free."""


class Growth:
    """Of one slot: when its workers leave so that more of them can start. `ranks`: of the present
    workers.
    """

    def __init__(self, cluster: ClusterConfig) -> None:
        self.cluster = cluster
        self.ranks, self.since, self.wait = 0, 0.0, FIRST_TRY_SECONDS
        self._tried_with = 0

    def began(self, ranks: int, now: float) -> None:
        """Workers have started; each of them tells it."""
        if not self.ranks:
            self.wait = self.wait * 2 if ranks <= self._tried_with else FIRST_TRY_SECONDS
            self.ranks, self.since, self._tried_with = ranks, now, 0

    def ended(self) -> None:
        """The workers are gone: what they held is room for others and for no growth."""
        self.ranks = 0

    def due(self, now: float) -> str:
        """Why the workers leave, in words; empty where they stay."""
        missing = self.cluster.num_workers - self.ranks
        if not self.ranks or missing <= 0 or now - self.since < self.wait:
            return ""
        more = min(missing, room_for(self.cluster))
        if more <= 0:
            return ""
        self._tried_with = self.ranks
        return f"there is room for {self.ranks + more} workers again"


def most_workers(cluster: ClusterConfig) -> int:
    """How many workers to ask Ray Train for at most: all, or as many as have room now. Ray Train
    2.60 counts nodes that are about to go, and for 20 seconds those that are gone, and would wait
    for their room until the time for a start is over.
    """
    most, until = cluster.fewest_workers, time.monotonic() + FREED_SECONDS
    while most < cluster.num_workers and time.monotonic() < until:
        most = max(most, min(room_for(cluster), cluster.num_workers))
        if most < cluster.num_workers:
            time.sleep(BETWEEN_LOOKS_SECONDS)
    return most


def room_for(cluster: ClusterConfig) -> int:
    """Workers that would fit beside what runs, on nodes that stay; 0 where the cluster's control
    service does not answer just now.
    """
    try:
        free = ray._private.state.state.available_resources_per_node()
    except RayError:
        return 0
    going = nodes_to_go()
    wanted = {"CPU": cluster.cpus_per_worker, "GPU": cluster.gpus_per_worker}
    return sum(
        min(math.floor(has.get(name, 0.0) / each) for name, each in wanted.items() if each)
        for node, has in free.items()
        if node not in going
    )
