"""Ray Train's cleaner of placement groups, made to end.

Symptom: each Train controller that dies without a word leaves a detached PlacementGroupCleaner
actor of 200 MB on the head node for ever: it frees the placement group, then calls `exit_actor` in
a thread of its own, where that ends the thread alone (Ray 2.60). Remove once Ray ends the process.
"""

import os
from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller.placement_group_cleaner import (
    PlacementGroupCleaner,
)


class EndingCleaner(PlacementGroupCleaner):
    """Ends its process, whichever thread finds that nothing is left to do."""

    def _exit(self) -> None:
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
