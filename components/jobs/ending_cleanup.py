"""Ray Train's cleaner of placement groups, made to end.

Each Train controller starts a detached actor of 200 MB on the head node that frees its placement
group where the controller dies without a word. Three symptoms of Ray 2.60, in all of which the
actor stays for ever: it calls `exit_actor` in a thread of its own, where that ends the thread
alone; it looks for its cluster anew, which fails where a machine has several ("Found multiple
active Ray instances"), and then keeps the room too; and it watches nothing where the controller
died before it had asked it to. Remove once Ray does all of it itself.
"""

import os
import time
from typing import Any

import ray
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
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


class EndingCleanup(PlacementGroupCleanerCallback):
    """Starts cleaners that end. It runs in the controller's process, which serves one run only."""

    def after_controller_start(self, train_run_context: Any) -> None:
        placement_group_callback.PlacementGroupCleaner = EndingCleaner
        super().after_controller_start(train_run_context)


class EndingTrainer(TorchTrainer):
    """A TorchTrainer that leaves nothing behind, however its controller ends."""

    def _create_default_callbacks(self) -> list[Any]:
        return [
            EndingCleanup() if type(callback) is PlacementGroupCleanerCallback else callback
            for callback in super()._create_default_callbacks()
        ]
