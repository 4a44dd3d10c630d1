"""Which registered version is in use: a challenger becomes the champion where the gate lets it, and
`rollback` goes back to the champion before. Every decision and every move stands in the history.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from components.config.loading import apply_override
from components.data.settings import DataConfig
from components.errors import ConfigError, RegistryError
from components.evaluation.gate.settings import GateConfig
from components.registry import CHALLENGER, CHAMPION, RegisteredVersion, Tracker
from components.registry.adapter_source import checked_tracker
from components.registry.history import (
    Action,
    HistoryEntry,
    decisions_on,
    entry_now,
    was_rolled_back,
)
from components.settings import Config, validate
from pipelines.reports import HistoryReport, PromotionReport

if TYPE_CHECKING:
    from pipelines.gate import Compared
    from pipelines.scheduling.lease import Lease

ACTIONS: dict[str, Action] = {"promote": "promoted", "hold": "held", "reject": "rejected"}
"""Verdict -> what the history calls it."""
STATE = Path(".prefixprop")
CACHE = STATE / "cache"


class PromotionSettings(Config):
    """The sections of an experiment that a promotion reads."""

    data: DataConfig
    gate: GateConfig = GateConfig()


@dataclass(frozen=True)
class Contest:
    """Who wants to become champion, and who is."""

    challenger: RegisteredVersion
    champion: RegisteredVersion | None


def promote(
    model_name: str,
    *,
    version: int | None = None,
    tracking_uri: str | None,
    force: bool = False,
    reason: str = "",
    overrides: Sequence[str] = (),
    cache_path: Path = CACHE,
    state_path: Path = STATE,
    dry_run: bool = False,
) -> PromotionReport:
    """Give `version` (None: the challenger) the alias champion, where the gate lets it: both answer
    the test documents of the challenger's run anew, and the rules of its experiment decide.

    `force`: without the gate, for a `reason` that stands in the history. `overrides` are
    gate.<path>=value and data.<path>=value. The report says what was decided; nothing is changed by
    a verdict other than promote. A model without a champion takes the version as its first.
    `dry_run`: decides, and changes and records nothing. Raises RegistryError where model, version
    or challenger do not exist, ClusterError where the registry cannot be reached or another
    promotion of this model is at work.
    """
    if force and not reason.strip():
        raise ConfigError("--force: needs --reason '...', which is kept in the history.")
    tracker = checked_tracker(tracking_uri)
    with _exclusive(tracker, model_name, tracking_uri, state_path) as lease:
        contest = contest_of(tracker, model_name, version)
        if contest.champion is not None and contest.champion.version == contest.challenger.version:
            return _report(tracker, contest.challenger, contest.champion, dry_run=dry_run)
        if contest.champion is None or force:
            action: Action = "forced" if force else "first"
            said = reason.strip() or "the model had no champion: there is nothing to compare with"
            if dry_run:
                return _report(tracker, contest.challenger, contest.champion, dry_run=True)
            return _move(tracker, contest, lease, action, said)
        compared = decide_contest(tracker, contest, overrides, cache_path)
        if dry_run:
            return _report(
                tracker, contest.challenger, contest.champion, compared=compared, dry_run=True
            )
        lease.check()
        return conclude(tracker, contest, compared, lease)


def rollback(
    model_name: str, *, tracking_uri: str | None, reason: str = "", state_path: Path = STATE
) -> PromotionReport:
    """Give the alias champion back to the version that had it before. Raises RegistryError where
    there was none.
    """
    tracker = checked_tracker(tracking_uri)
    with _exclusive(tracker, model_name, tracking_uri, state_path):
        previous = holder_of(tracker.versions(model_name), CHAMPION)
        now = tracker.rollback(model_name)
        assert previous is not None
        entry = entry_now(
            "rolled_back",
            previous.version,
            champion_before=previous.version,
            champion_after=now.version,
            reason=reason.strip() or "rolled back by hand",
        )
        tracker.record(model_name, entry)
        return _report(tracker, now, previous)


def history(model_name: str, *, tracking_uri: str | None) -> HistoryReport:
    """Everything that happened to a model's alias champion. Raises RegistryError where the model
    does not exist.
    """
    tracker = checked_tracker(tracking_uri)
    champion = holder_of(tracker.versions(model_name), CHAMPION)
    return HistoryReport(
        model_name=model_name,
        champion=None if champion is None else champion.version,
        entries=tracker.history(model_name),
    )


def contest_of(tracker: Tracker, model_name: str, version: int | None) -> Contest:
    """The version (None: the challenger) and the champion. Raises RegistryError."""
    versions = tracker.versions(model_name)
    champion = holder_of(versions, CHAMPION)
    if version is not None:
        return Contest(tracker.resolve(f"models:/{model_name}/{version}"), champion)
    challenger = holder_of(versions, CHALLENGER)
    if challenger is None:
        raise RegistryError(
            f"version: '{model_name}' has no challenger to promote. Name the version."
        )
    return Contest(challenger, champion)


def decide_contest(
    tracker: Tracker, contest: Contest, overrides: Sequence[str], cache_path: Path
) -> "Compared":
    """Let both answer the test documents of the challenger's run. Raises UserError."""
    from pipelines.gate import compare

    assert contest.champion is not None
    settings = _settings(tracker, contest.challenger, overrides)
    past = tracker.history(contest.challenger.name)
    with TemporaryDirectory(prefix="prefixprop-") as scratch:
        folders = [
            tracker.download_adapter(each.model_uri, Path(scratch) / str(each.version))
            for each in (contest.challenger, contest.champion)
        ]
        compared = compare(
            folders[:1],
            folders[1],
            data=settings.data,
            rules=settings.gate,
            decisions_before=lambda test_set: decisions_on(past, test_set),
            cache_path=cache_path,
        )
    if compared.decision.verdict == "promote" and was_rolled_back(past, contest.challenger.version):
        return compared.held(
            f"version {contest.challenger.version} was rolled back before: it is promoted again "
            "only by --force --reason '...'"
        )
    return compared


def conclude(
    tracker: Tracker, contest: Contest, compared: "Compared", lease: "Lease"
) -> PromotionReport:
    """Store the decision, and move the alias where it says so."""
    from pipelines.decision_page import decision_page

    decision, challenger = compared.decision, contest.challenger
    number = len(tracker.history(challenger.name)) + 1
    place = f"gate/decision-{number:03d}"
    with TemporaryDirectory(prefix="prefixprop-") as scratch:
        folder = Path(scratch)
        content = json.dumps(decision.as_dict(), indent=2, allow_nan=False) + "\n"
        (folder / "decision.json").write_text(content, encoding="utf-8")
        page = decision_page(decision, contest)
        (folder / "decision.md").write_text(page, encoding="utf-8")
        tracker.log_folder(challenger.run_id, folder, place)
    line = f"Gate: {decision.verdict}. {'; '.join(decision.reasons)}."
    tags = {"gate_verdict": decision.verdict, "gate_decision": place}
    tracker.annotate(challenger, tags=tags, line=line)
    evidence = f"runs:/{challenger.run_id}/{place}/decision.json"
    action, reason = ACTIONS[decision.verdict], "; ".join(decision.reasons)
    return _move(
        tracker,
        contest,
        lease,
        action,
        reason,
        evidence=evidence,
        compared=compared,
    )


def _move(
    tracker: Tracker,
    contest: Contest,
    lease: "Lease",
    action: Action,
    reason: str,
    *,
    evidence: str = "",
    compared: "Compared | None" = None,
) -> PromotionReport:
    """Record what was decided and, where it was to promote, move the alias."""
    challenger, champion = contest.challenger, contest.champion
    before = None if champion is None else champion.version
    moves = action in ("first", "promoted", "forced")
    lease.check()
    if moves:
        challenger = tracker.promote(challenger.name, challenger.version)
    entry: HistoryEntry = entry_now(
        action,
        challenger.version,
        champion_before=before,
        champion_after=challenger.version if moves else before,
        reason=reason,
        evidence=evidence,
        test_set="" if compared is None else compared.test_set,
    )
    tracker.record(challenger.name, entry)
    return _report(tracker, challenger, champion, compared=compared, moved=moves)


def _settings(
    tracker: Tracker, challenger: RegisteredVersion, overrides: Sequence[str]
) -> PromotionSettings:
    """Documents and rules of the challenger's experiment, as its run keeps them."""
    wrong = [each for each in overrides if not each.startswith(("gate.", "data."))]
    if wrong:
        raise ConfigError(
            f"'{wrong[0]}' cannot be set here: a promotion takes gate.<path>=value and "
            "data.<path>=value; everything else comes with the adapters."
        )
    kept = tracker.read_dict(challenger.run_id, "config.json")
    values: dict[str, Any] = {"data": kept["data"], "gate": kept.get("gate") or {}}
    for override in overrides:
        apply_override(values, override)
    return validate(PromotionSettings, values)


@contextmanager
def _exclusive(
    tracker: Tracker, model_name: str, tracking_uri: str | None, state_path: Path
) -> "Iterator[Lease]":
    """Only one at a time may decide about a model, and it begins with a history that is true.
    Raises ClusterError where another one is at work.
    """
    from pipelines.scheduling.database import shared_engine
    from pipelines.scheduling.lease import held

    with held(shared_engine(tracking_uri, state_path), f"promote {model_name}") as lease:
        note_what_others_did(tracker, model_name)
        yield lease


def note_what_others_did(tracker: Tracker, model_name: str) -> None:
    """Record a champion that the history does not know of."""
    champion = holder_of(tracker.versions(model_name), CHAMPION)
    past = tracker.history(model_name)
    now = None if champion is None else champion.version
    known = past[-1].champion_after if past else None
    if champion is None or now == known:
        return
    reason = (
        "the alias was moved by other means, or by a promotion that was killed before it could "
        "write this down"
        if past
        else "champion when this history began"
    )
    entry = entry_now(
        "found", champion.version, champion_before=known, champion_after=now, reason=reason
    )
    tracker.record(model_name, entry)


def holder_of(versions: tuple[RegisteredVersion, ...], alias: str) -> RegisteredVersion | None:
    """The version that holds the alias."""
    return next((version for version in versions if alias in version.aliases), None)


def _report(
    tracker: Tracker,
    version: RegisteredVersion,
    previous: RegisteredVersion | None,
    *,
    compared: "Compared | None" = None,
    moved: bool = True,
    dry_run: bool = False,
) -> PromotionReport:
    return PromotionReport(
        model_name=version.name,
        version=version.version,
        previous=None if previous is None else previous.version,
        description=version.description.split("\n")[0],
        url=tracker.model_url(version.name, version.version),
        dry_run=dry_run,
        moved=moved,
        decision=None if compared is None else compared.decision,
    )
