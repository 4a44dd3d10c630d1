"""An adapter that answers, and the one that takes its place when another version is in use: without
a restart, between two requests.

The fact a newcomer gets wrong: the next one is loaded beside the one that answers, on the same
backbone (shared_backbone.py), and whatever keeps it from loading (a registry that is away, a
damaged folder) leaves the one before in its place. Its code is that of the model that was loaded
first: of a newer version the adapter alone is taken, data without code.
"""

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.errors import ArtifactError, UserError

if TYPE_CHECKING:
    from components.inference.classifier import Classifier

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answering:
    """A live adapter and what it is called: `demo/3`, or the id of a model without a version."""

    classifier: "Classifier"
    version: str


class Following:
    """Who answers. `newest` says which version should (`demo/4`), `load` makes that one live."""

    def __init__(
        self,
        first: Answering,
        *,
        newest: Callable[[], str],
        load: Callable[[str], "Classifier"],
        every_seconds: float,
    ) -> None:
        self.current = first
        self._newest, self._load, self.every_seconds = newest, load, every_seconds
        self._refused: str | None = None
        self._told = ""
        self._looking, self._stopped = threading.Lock(), threading.Event()

    def look(self) -> bool:
        """Look once and swap where there is another version; returns whether it swapped. Raises
        nothing: what went wrong is logged, once, and the one before goes on answering.
        """
        with self._looking:
            version = None
            try:
                version = self._newest()
                if version in (self.current.version, self._refused):
                    return False
                self._take(version)
            except Exception as error:  # noqa: BLE001  (a server outlives whatever it is)
                # What is wrong with an adapter stays wrong; a registry may come back.
                self._refused = version if isinstance(error, UserError) else None
                self._tell(f"{version or 'the registry'}: {' '.join(str(error).split())}")
                return False
        return True

    def _take(self, version: str) -> None:
        classifier, before = self._load(version), self.current
        if classifier.task.signature != before.classifier.task.signature:
            raise ArtifactError(
                f"{version} takes or answers other columns than {before.version}. Load it anew."
            )
        self.current, self._refused, self._told = Answering(classifier, version), None, ""
        _logger.info("%s answers in place of %s", version, before.version)

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            _logger.warning("%s goes on answering; %s", self.current.version, reason)

    def start(self) -> "Following":
        """Look every `every_seconds`, in a thread that ends with this object or `stop`."""
        watch = threading.Thread(
            target=_watch,
            args=(weakref.ref(self), self._stopped, self.every_seconds),
            name=f"following {self.current.version}",
            daemon=True,
        )
        watch.start()
        return self

    def stop(self) -> None:
        self._stopped.set()


def _watch(
    following: "weakref.ref[Following]", stopped: threading.Event, every_seconds: float
) -> None:
    while not stopped.wait(every_seconds):
        found = following()
        if found is None:
            return
        found.look()
        del found
