"""What happened to a registered adapter: every move of the alias champion and every decision,
with time, author and reason. MLflow's own table of aliases keeps neither.
"""

import getpass
import json
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

from components.registry import shown_tags

Action = Literal["first", "promoted", "forced", "held", "rejected", "rolled_back", "found"]
"""`found`: the champion is another one than the last entry says: the alias was moved elsewhere."""
DECIDED: frozenset[Action] = frozenset({"promoted", "held", "rejected"})
"""What the gate decided, and so used its test set for."""
REFUSED: frozenset[Action] = frozenset({"held", "rejected"})
"""What left the alias where it was."""
TAG_PREFIX = "history."
"""Of the stored tag's name, after what hides it from MLflow's pages (shown_tags.py)."""
SKETCHED, SKETCHED_DIGITS = 32, 12
LONGEST_REASON = 1500
"""Characters; an entry has to fit into one tag."""


@dataclass(frozen=True)
class HistoryEntry:
    """One event. `champion_before` and `champion_after` are versions, None where there was none."""

    time: str
    """UTC, ISO 8601."""
    action: Action
    version: int
    """The version that it was about."""
    champion_before: int | None
    champion_after: int | None
    by: str
    """User and machine, or the job."""
    reason: str
    evidence: str = ""
    """Where the numbers lie: runs:/<run id>/<file>; empty where there are none."""
    test_set: str = ""
    """Fingerprint of the documents that decided; empty where none did."""
    test_documents: tuple[str, ...] = ()
    """Some of their hashes (`sketch_of`): a test set is known again by them after documents of it
    were corrected or removed.
    """

    def text(self) -> str:
        """As it is stored."""
        values = asdict(self)
        values["reason"] = _shortened(self.reason)
        return json.dumps(values, ensure_ascii=False)


def entry_now(
    action: Action,
    version: int,
    *,
    champion_before: int | None,
    champion_after: int | None,
    reason: str,
    evidence: str = "",
    test_set: str = "",
    test_documents: tuple[str, ...] = (),
) -> HistoryEntry:
    """An entry of this moment, by this user."""
    return HistoryEntry(
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        action=action,
        version=version,
        champion_before=champion_before,
        champion_after=champion_after,
        by=author(),
        reason=reason,
        evidence=evidence,
        test_set=test_set,
        test_documents=test_documents,
    )


def author() -> str:
    """Who is at work here: the Ray job where this is one, else user@machine."""
    job = _submission_id()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # a container's user without a name
    return f"{user}@{socket.gethostname()}" + (f" (job {job})" if job else "")


def _submission_id() -> str | None:
    """What Ray tells a job's driver about itself."""
    try:
        config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        found = config.get("metadata", {}).get("job_submission_id")
    except (ValueError, AttributeError):
        return None
    return None if found is None else str(found)


def tag_of(number: int) -> str:
    """Name of the tag that holds the `number`-th entry."""
    return f"{shown_tags.PREFIX}{TAG_PREFIX}{number:05d}"


def entries_of(tags: Mapping[str, str]) -> tuple[HistoryEntry, ...]:
    """The entries among a model's tags, oldest first. What a later version added is left out."""
    known = {field.name for field in fields(HistoryEntry)}
    tags = shown_tags.told(tags)
    found = []
    for name in sorted(name for name in tags if name.startswith(TAG_PREFIX)):
        values = json.loads(tags[name])
        values["test_documents"] = tuple(values.get("test_documents") or ())
        found.append(HistoryEntry(**{key: values[key] for key in values.keys() & known}))
    return tuple(found)


def sketch_of(hashes: Iterable[str]) -> tuple[str, ...]:
    """The smallest of the documents' hashes (Broder 1997): of two sets that share many documents,
    they have some in common; of two that share none, none.
    """
    return tuple(sorted(digest[:SKETCHED_DIGITS] for digest in hashes)[:SKETCHED])


def decisions_on(
    history: Sequence[HistoryEntry], test_set: str, test_documents: tuple[str, ...]
) -> int:
    """How often the gate has decided on these documents, or on most of them."""
    sketch = frozenset(test_documents)
    return sum(
        entry.action in DECIDED
        and (entry.test_set == test_set or not sketch.isdisjoint(entry.test_documents))
        for entry in history
    )


def decision_about(history: Sequence[HistoryEntry], version: int) -> HistoryEntry | None:
    """How the version became champion or did not, the latest time; None where it was never
    asked.
    """
    return next(
        (
            entry
            for entry in reversed(history)
            if entry.version == version and entry.action != "rolled_back"
        ),
        None,
    )


def was_rolled_back(history: Sequence[HistoryEntry], version: int) -> bool:
    """Whether the version was taken back from champion and not promoted since."""
    last = next(
        (
            entry
            for entry in reversed(history)
            if (entry.action == "rolled_back" and entry.champion_before == version)
            or (entry.champion_after == version and entry.champion_before != version)
        ),
        None,
    )
    return last is not None and last.action == "rolled_back" and last.champion_before == version


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."
