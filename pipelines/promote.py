"""Which registered version is in use: promote one to champion, or go back to the champion
before.
"""

from components.errors import RegistryError
from components.registry import CHALLENGER, CHAMPION, RegisteredVersion, Tracker
from components.registry.adapter_source import checked_tracker
from pipelines.reports import PromotionReport


def promote(
    model_name: str, *, version: int | None = None, tracking_uri: str | None, dry_run: bool = False
) -> PromotionReport:
    """Give `version` the alias champion; None takes the challenger. Any failure of the registry
    raises.

    Raises RegistryError where model, version or challenger do not exist, ClusterError where the
    registry cannot be reached.
    """
    tracker = checked_tracker(tracking_uri)
    versions = tracker.versions(model_name)
    if version is None:
        challenger = _holder(versions, CHALLENGER)
        if challenger is None:
            raise RegistryError(
                f"version: '{model_name}' has no challenger to promote. Name the version."
            )
        version = challenger.version
    previous = _holder(versions, CHAMPION)
    target = (
        tracker.resolve(f"models:/{model_name}/{version}")
        if dry_run
        else tracker.promote(model_name, version)
    )
    return _report(tracker, target, previous, dry_run=dry_run)


def rollback(model_name: str, *, tracking_uri: str | None) -> PromotionReport:
    """Give the alias champion back to the version that had it before. Raises RegistryError where
    there was none.
    """
    tracker = checked_tracker(tracking_uri)
    previous = _holder(tracker.versions(model_name), CHAMPION)
    return _report(tracker, tracker.rollback(model_name), previous)


def _holder(versions: tuple[RegisteredVersion, ...], alias: str) -> RegisteredVersion | None:
    return next((version for version in versions if alias in version.aliases), None)


def _report(
    tracker: Tracker,
    version: RegisteredVersion,
    previous: RegisteredVersion | None,
    *,
    dry_run: bool = False,
) -> PromotionReport:
    return PromotionReport(
        model_name=version.name,
        version=version.version,
        previous=None if previous is None else previous.version,
        description=version.description.split("\n")[0],
        url=tracker.model_url(version.name, version.version),
        dry_run=dry_run,
    )
