"""The actor that frees a placement group after its Train controller, and ends then
(components/jobs/ending_cleanup.py says why Ray's own does not).

Apart from the trainer, whose import of torch would cost the actor 200 MB and two seconds.
"""

import os
import time
from typing import Any

import ray
from ray.train.v2._internal.execution.controller.placement_group_cleaner import (
    PlacementGroupCleaner,
)

BETWEEN_TRIES_SECONDS = 2.0
MOST_TRIES = 300


class EndingCleaner(PlacementGroupCleaner):
    """Watches from its start, and ends its process, whichever thread finds that nothing is left."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.start_monitoring()

    def stop(self) -> None:
        """End in the way that Ray knows as wanted; else it tells the user of a worker that died."""
        self._stop_event.set()
        ray.actor.exit_actor()

    def _monitor_loop(self) -> None:
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        for _ in range(MOST_TRIES):
            try:
                super()._monitor_loop()
            # Whatever keeps the cluster from answering may pass.
            except Exception:  # noqa: BLE001
                time.sleep(BETWEEN_TRIES_SECONDS)
        self._exit()

    def _exit(self) -> None:
        if not self._stop_event.is_set():
            os._exit(0)
