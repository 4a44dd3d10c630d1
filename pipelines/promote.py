"""Which registered version is in use: a challenger becomes the champion where the gate lets it, and
`rollback` goes back to the champion before. Every decision and every move stands in the history.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import ConfigError
from components.registry import CHAMPION, RegisteredVersion, Tracker
from components.registry.adapter_source import checked_tracker
from components.registry.history import REFUSED, Action, HistoryEntry, decision_about, entry_now
from pipelines.contest import (
    Contest,
    PromotionSettings,
    contest_of,
    decide_contest,
    holder_of,
    keep_decision,
    settings_of,
)
from pipelines.reports import HistoryReport, PromotionReport

if TYPE_CHECKING:
    from pipelines.gate import Compared
    from pipelines.scheduling.lease import Lease

ACTIONS: dict[str, Action] = {"promote": "promoted", "hold": "held", "reject": "rejected"}
"""Verdict -> what the history calls it."""
NO_CHAMPION = "the model had no champion: there is nothing to compare with"
STATE = Path(".prefixprop")
CACHE = STATE / "cache"
PATIENCE_SECONDS = 600.0
"""How long a search waits for another promotion of its model to end."""


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
        if contest.is_over:
            return _report(tracker, contest, dry_run=dry_run)
        if contest.champion is None or force:
            action: Action = "forced" if force else "first"
            said = reason.strip() or NO_CHAMPION
            if dry_run:
                return _report(tracker, contest, action=action, reason=said, dry_run=True)
            return _move(tracker, contest, lease, action, said)
        settings = settings_of(tracker, contest.challenger, overrides)
        compared = decide_contest(tracker, contest, settings, cache_path)
        if dry_run:
            action, said = _said(compared)
            return _report(
                tracker, contest, action=action, reason=said, compared=compared, dry_run=True
            )
        return conclude(tracker, contest, compared, lease)


def settle(
    tracker: Tracker,
    model_name: str,
    version: int,
    *,
    settings: PromotionSettings,
    tracking_uri: str | None,
    cache_path: Path,
    state_path: Path = STATE,
    before_change: Callable[[], None] = lambda: None,
) -> PromotionReport:
    """What becomes of the version that a search has registered: the first champion is written down,
    a challenger meets the champion. What was decided about it already is not decided again, so that
    a search which is continued after a kill asks the gate once.

    `before_change` is called right before anything is changed, and may raise. Waits for another
    promotion of the model. Raises UserError.
    """
    with _exclusive(
        tracker, model_name, tracking_uri, state_path, patience=PATIENCE_SECONDS, new=version
    ) as lease:
        contest = contest_of(tracker, model_name, version)
        known = decision_about(tracker.history(model_name), version)
        if known is not None:
            then = Contest(contest.challenger, _numbered(tracker, model_name, known))
            return _report(tracker, then, action=known.action, reason=known.reason)
        before_change()
        if contest.champion is None:
            return _move(tracker, contest, lease, "first", NO_CHAMPION)
        compared = decide_contest(tracker, contest, settings, cache_path)
        before_change()
        return conclude(tracker, contest, compared, lease)


def _numbered(tracker: Tracker, model_name: str, entry: HistoryEntry) -> RegisteredVersion | None:
    """The champion before an entry."""
    versions = tracker.versions(model_name)
    return next((each for each in versions if each.version == entry.champion_before), None)


def rollback(
    model_name: str, *, tracking_uri: str | None, reason: str = "", state_path: Path = STATE
) -> PromotionReport:
    """Give the alias champion back to the version that had it before. Raises RegistryError where
    there was none.
    """
    tracker = checked_tracker(tracking_uri)
    with _exclusive(tracker, model_name, tracking_uri, state_path) as lease:
        previous = holder_of(tracker.versions(model_name), CHAMPION)
        lease.check()
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
        moved = Contest(now, previous)
        return _report(tracker, moved, action=entry.action, reason=entry.reason)


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


def conclude(
    tracker: Tracker, contest: Contest, compared: "Compared", lease: "Lease"
) -> PromotionReport:
    """Store the decision, and move the alias where it says so."""
    lease.check()
    evidence = keep_decision(tracker, contest, compared)
    action, reason = _said(compared)
    return _move(tracker, contest, lease, action, reason, evidence=evidence, compared=compared)


def _said(compared: "Compared") -> tuple[Action, str]:
    """What the history calls a decision, and why."""
    return ACTIONS[compared.decision.verdict], "; ".join(compared.decision.reasons)


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
    moves = action not in REFUSED
    lease.check()
    if moves:
        challenger = tracker.promote(challenger.name, challenger.version)
        _tell_version(tracker, challenger, action, reason, asked=compared is not None)
    entry: HistoryEntry = entry_now(
        action,
        challenger.version,
        champion_before=before,
        champion_after=challenger.version if moves else before,
        reason=reason,
        evidence=evidence,
        test_set="" if compared is None else compared.test_set,
        test_documents=() if compared is None else compared.test_documents,
    )
    tracker.record(challenger.name, entry)
    now = Contest(challenger, champion)
    return _report(tracker, now, action=action, reason=reason, compared=compared)


def _tell_version(
    tracker: Tracker, version: RegisteredVersion, action: Action, reason: str, *, asked: bool
) -> None:
    """On the page of a version that became champion: how, and how to go back. Where the gate was
    `asked`, its decision stands there already.
    """
    line = f"To go back to the champion before: `prefixprop rollback {version.name}`"
    if not asked:
        line = f"Champion: {action}, {reason}. {line}"
    tracker.annotate(version, tags={} if asked else {"gate": action}, line=line)


@contextmanager
def _exclusive(
    tracker: Tracker,
    model_name: str,
    tracking_uri: str | None,
    state_path: Path,
    *,
    patience: float = 0.0,
    new: int | None = None,
) -> "Iterator[Lease]":
    """Only one at a time may decide about a model, and it begins with a history that is true.
    `new`: a version that was registered just now. Raises ClusterError where another one is still at
    work after `patience` seconds.
    """
    from pipelines.scheduling.database import shared_engine
    from pipelines.scheduling.lease import held

    engine = shared_engine(tracking_uri, state_path)
    with held(engine, f"promote {model_name}", patience=patience) as lease:
        note_what_others_did(tracker, model_name, new=new)
        yield lease


def note_what_others_did(tracker: Tracker, model_name: str, *, new: int | None = None) -> None:
    """Record a champion that the history does not know of: the `new` version that became champion
    as it was registered, or whatever others made it.
    """
    champion = holder_of(tracker.versions(model_name), CHAMPION)
    past = tracker.history(model_name)
    now = None if champion is None else champion.version
    known = past[-1].champion_after if past else None
    if champion is None or now == known:
        return
    action: Action = "found"
    if now == new and known is None:
        action, reason = "first", NO_CHAMPION
    elif past:
        reason = (
            "the alias was moved by other means, or by a promotion that was killed before it could "
            "write this down"
        )
    else:
        reason = "champion when this history began"
    entry = entry_now(
        action, champion.version, champion_before=known, champion_after=now, reason=reason
    )
    tracker.record(model_name, entry)


def _report(
    tracker: Tracker,
    contest: Contest,
    *,
    action: Action | None = None,
    reason: str = "",
    compared: "Compared | None" = None,
    dry_run: bool = False,
) -> PromotionReport:
    """`action`: None where there was nothing to do."""
    version, previous = contest.challenger, contest.champion
    return PromotionReport(
        model_name=version.name,
        version=version.version,
        previous=None if previous is None else previous.version,
        description=version.description.split("\n")[0],
        url=tracker.model_url(version.name, version.version),
        dry_run=dry_run,
        action=action,
        reason=reason,
        moved=contest.is_over or action not in REFUSED,
        decision=None if compared is None else compared.decision,
    )
