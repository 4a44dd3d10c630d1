"""The thin side of a trial that Ray Tune sees: it leases a slot, hands over its point of the space,
and passes reports on.

Training runs ahead in the slot: a report costs it no waiting, and a decision of the trial scheduler
reaches it between two steps.
"""

import hashlib
import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from components.config import ExperimentConfig, config_sha256, trial_config
from components.errors import ClusterError
from components.tuning.assignments import Assignment, Message
from components.tuning.reuse import take_over

POINT = "point"
"""Key of Tune's own configuration of a trial that holds its point of the space, {config path:
value}.
"""


@dataclass(frozen=True)
class SearchContext:
    """What every trial of a search needs besides its point: the experiment, its slots, its prepared
    data and its folder.
    """

    config: ExperimentConfig
    slots: tuple[Any, ...]
    data_folder: str
    data_fingerprint: str
    code_fingerprint: str
    folder: str


class TuneTrial(tune.Trainable):
    """One trial after the other in one Tune actor (reuse_actors), on one leased slot."""

    def setup(self, config: dict[str, Any], context: SearchContext | None = None) -> None:
        assert context is not None
        self.context = context
        self.holder = uuid.uuid4().hex
        self.slot = self._lease()
        self._begin(config[POINT])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config[POINT])
        return True

    def _lease(self) -> Any:
        deadline = time.monotonic() + self.context.config.cluster.placement_timeout_seconds
        while time.monotonic() < deadline:
            for slot in self.context.slots:
                if ray.get(slot.lease.remote(self.holder)):
                    return slot
            time.sleep(0.2)
        raise ClusterError(
            "No trial slot became free within cluster.placement_timeout_seconds "
            f"({self.context.config.cluster.placement_timeout_seconds} s)."
        )

    def _begin(self, point: dict[str, Any]) -> None:
        config = trial_config(self.context.config, point)
        folder = trial_folder(self.context.folder, config_sha256(config))
        self.reused_run_id: str | None = None
        if self.context.config.search.reuse_trials:
            self.reused_run_id = take_over(
                folder,
                train_batch_size=config.training.batch_size(
                    self.context.config.cluster.num_workers
                ),
                data_fingerprint=self.context.data_fingerprint,
                code_fingerprint=self.context.code_fingerprint,
            )
        assignment = Assignment("train", config, self.context.data_folder, str(folder))
        self.sequence = ray.get(self.slot.assign.remote(assignment))
        self.pending: list[Message] = []
        self.last: dict[str, Any] = {}

    def step(self) -> dict[str, Any]:
        """The next evaluation of the running trial. Raises RuntimeError where the slot's workers
        died.
        """
        message = self._next_message()
        if message.kind == "error":
            raise (ClusterError if message.values["user"] else RuntimeError)(
                message.values["error"]
            )
        if message.kind == "report":
            report = dict(message.values)
            own = {
                name: report[name]
                for name in ("evaluation", "step", "is_best", "trainable_parameters")
            }
            self.last = {**report["metrics"], **own, "reused_run_id": self.reused_run_id}
            # The last report waits for the outcome, so that Tune's last result of a trial holds
            # both.
            return self.last | {"done": False} if not report["done"] else self.step()
        outcome = {name: message.values[name] for name in ("outcome", "reason")}
        return self._worst() | self.last | outcome | {"done": True}

    def _worst(self) -> dict[str, Any]:
        """The metric of a trial that ended before its first evaluation, so that it never looks
        good.
        """
        training = self.context.config.training
        return {
            training.metric: float("-inf") if training.mode == "max" else float("inf"),
            "evaluation": 0,
        }

    def _next_message(self) -> Message:
        while not self.pending:
            self.pending = ray.get(self.slot.next_messages.remote(self.sequence, self.holder))
        return self.pending.pop(0)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing for Tune to keep: the slot writes checkpoints itself, and a repeated trial finds
        them by its configuration.
        """

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See save_checkpoint."""

    def cleanup(self) -> None:
        ray.get(self.slot.stop.remote(self.sequence))
        ray.get(self.slot.release.remote(self.holder))


def trial_folder(search_folder: str, sha256: str) -> Path:
    """Where a configuration's checkpoint lies; the same configuration always has the same
    folder.
    """
    return Path(search_folder) / "trials" / sha256[:16]


def point_id(point: dict[str, Any]) -> str:
    """Short stable id of a point of the space."""
    return hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:8]
