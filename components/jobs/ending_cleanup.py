"""Ray Train's cleaner of placement groups, made to end.

Each Train controller starts a detached actor of 200 MB on the head node that frees its placement
group where the controller dies without a word. Three symptoms of Ray 2.60, in all of which the
actor stays for ever: it calls `exit_actor` in a thread of its own, where that ends the thread
alone; it looks for its cluster anew, which fails where a machine has several ("Found multiple
active Ray instances"), and then keeps the room too; and it watches nothing where the controller
died before it had asked it to. Remove once Ray does all of it itself.
"""

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from components.jobs.ending_cleaner import EndingCleaner


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
