"""Where an adapter comes from: a folder, or a registry address such as models:/<name>@champion."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from components.errors import ConfigError
from components.registry.tracking import RegisteredVersion, Tracker
from components.settings import expand_path

SCHEMES = ("models:/", "runs:/")


@dataclass(frozen=True)
class AdapterSource:
    """A readable artifact folder. `version` is the registered version behind it; None for a folder
    or a run.
    """

    folder: Path
    version: RegisteredVersion | None
    registered: bool = False
    """Whether it comes out of the registry, whose word is taken; a folder may be anybody's."""

    def address(self, model: str) -> str:
        """The address with its alias resolved, so that a report stays true when the alias moves
        on.
        """
        return self.version.model_uri if self.version is not None else model


@contextmanager
def adapter_source(
    model: str, *, tracking_uri: str | None, kind: str = "mlflow"
) -> Iterator[AdapterSource]:
    """The adapter named by `model`; a download lives until the block ends.

    `tracking_uri` is needed for registry addresses only. Raises ConfigError (neither folder nor
    address), ClusterError (registry unreachable), RegistryError (no such version).
    """
    if not model.startswith(SCHEMES):
        folder = Path(expand_path(model))
        if not folder.is_dir():
            raise ConfigError(
                f"model: '{model}' is neither a folder nor a registry address. Give an adapter "
                "folder, models:/<name>@champion or models:/<name>/<version>."
            )
        yield AdapterSource(folder, None)
        return
    tracker = checked_tracker(tracking_uri, kind=kind)
    version = tracker.resolve(model) if model.startswith("models:/") else None
    with TemporaryDirectory(prefix="prefixprop-") as scratch:
        yield AdapterSource(
            tracker.download_adapter(
                version.model_uri if version is not None else model, Path(scratch)
            ),
            version,
            registered=True,
        )


def checked_tracker(tracking_uri: str | None, *, kind: str = "mlflow") -> Tracker:
    """An opened tracker that answers. Raises ClusterError or ConfigError with the way out."""
    from components.registry import open_tracker

    tracker = open_tracker(kind, tracking_uri or "")
    tracker.check()
    return tracker
