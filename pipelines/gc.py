"""What outlived its use is removed: checkpoints of old trainings but the best, folders that Ray
left, caches that nobody has opened for long, what killed processes left.

The fact a newcomer gets wrong: everything that goes can be made again by the command that made it,
with the same numbers; it costs time and no result. Registered versions lie in MLflow's store and
are never touched, nor are records, adapters, snapshots of retrainings and whatever belongs to a
search or comparison that runs now. One that was interrupted within the age keeps all it has; an
older one begins its trainings anew when it is continued.
"""

import os
import stat
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.atomic_file import read_state
from components.data.prepared import DESCRIPTION
from components.errors import ConfigError, UserError
from components.jobs.driver_lock import held, holder_of
from components.jobs.record import RECORD_FILE
from components.last_use import last_used
from components.training.states_folder import DESCRIPTION as STATES_DESCRIPTION
from components.training.states_folder import STATES_FOLDER
from components.tuning.search_folder import searches
from pipelines.trash import TRASH, empty_trash, left_in_trash, throw_away

DAY_SECONDS = 86_400.0
Kind = Literal[
    "checkpoint",
    "Ray's files",
    "tokens",
    "backbone",
    "document states",
    "logged model",
    "left over",
]
CHECKPOINTS = ("checkpoint.damaged", "checkpoint.before", "checkpoint")
"""Of one training, the latest last: what a kill leaves of them is a whole one."""
FROM_RAY = ("slots", "tune")
"""Folders of a search or comparison that Ray Train and Tune write and nothing is continued from."""
TRAININGS = ("trials/*", "confirmations/*", "cells/*/*/*")


@dataclass(frozen=True)
class Garbage:
    """Something to be removed: a path or the id of a logged model, its bytes, the days since it was
    last used, and why it may go.
    """

    where: str
    kind: Kind
    bytes: int
    days: float
    why: str


@dataclass(frozen=True)
class Kept:
    """Something that was left alone whatever its age, and why."""

    where: str
    why: str


@dataclass(frozen=True)
class GcReport:
    """`prefixprop gc`. `garbage` was removed, or after a dry run would be; `bytes`: of all of
    it.
    """

    dry_run: bool
    older_than_days: float
    keep_best: int
    garbage: tuple[Garbage, ...]
    kept: tuple[Kept, ...]
    bytes: int


@dataclass(frozen=True)
class Rules:
    """`before`: what was last used earlier than this may go, in seconds since 1970; `keep_best`: so
    many trainings of each search, and of each method of a comparison, keep their checkpoint.
    """

    before: float
    keep_best: int


def gc(
    storage: Path,
    cache: Path,
    *,
    older_than_days: float = 30.0,
    keep_best: int = 1,
    tracking_uri: str | None = None,
    dry_run: bool = False,
) -> GcReport:
    """Remove what lies below `storage` and `cache` and was not used for `older_than_days`, but the
    checkpoints of the `keep_best` trainings of each search, and of each method of a comparison.

    `tracking_uri`: of the MLflow store whose logged models without a version go too; None: of no
    store. `dry_run`: remove nothing. Raises ConfigError for a path that is no folder.
    """
    for name, folder in (("--storage", storage), ("--cache", cache)):
        if folder.exists() and not folder.is_dir():
            raise ConfigError(
                f"{name}: '{folder}' is no folder. Give that of cluster.{name[2:]}_path."
            )
    rules = Rules(time.time() - older_than_days * DAY_SECONDS, keep_best)
    garbage: list[Garbage] = []
    kept: list[Kept] = []
    busy = False
    for root in (storage, cache):
        garbage += _finished_removals(root, dry_run=dry_run)
    for experiment in _folders(storage):
        with _alone(experiment, dry_run=dry_run) as holder:
            if holder is not None:
                kept.append(Kept(str(experiment), f"{holder} is at work there"))
                busy = True
                continue
            garbage += _removed(_of_experiment(experiment, rules), storage, kept, dry_run=dry_run)
    if busy:
        kept.append(Kept(str(cache), "what runs may read it"))
    else:
        garbage += _removed(_of_cache(cache, rules), cache, kept, dry_run=dry_run)
    if tracking_uri is not None:
        garbage += _of_registry(tracking_uri, rules, kept, dry_run=dry_run)
    total = sum(each.bytes for each in garbage)
    return GcReport(dry_run, older_than_days, keep_best, tuple(garbage), tuple(kept), total)


def _finished_removals(root: Path, *, dry_run: bool) -> list[Garbage]:
    """What an earlier call was killed over."""
    found = [
        _garbage(path, "left over", "a removal that was cut short", _newest([path]))
        for path in left_in_trash(root)
    ]
    if not dry_run:
        empty_trash(root)
    return found


def _folders(root: Path) -> list[Path]:
    """The folders in a folder, links and what is hidden aside."""
    if not root.is_dir():
        return []
    return [
        path
        for path in sorted(root.iterdir())
        if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")
    ]


@contextmanager
def _alone(experiment: Path, *, dry_run: bool) -> Iterator[str | None]:
    """Hold the experiment's folder, unless this is a dry run; yields who else has it."""
    if dry_run:
        yield holder_of(experiment)
        return
    lock = held(experiment, what="prefixprop gc")
    try:
        lock.__enter__()
    except ConfigError:
        yield holder_of(experiment) or "another process"
        return
    try:
        yield None
    finally:
        lock.__exit__(None, None, None)


def _removed(
    found: Iterable[Garbage], root: Path, kept: list[Kept], *, dry_run: bool
) -> list[Garbage]:
    """What was removed of it, or would be; what cannot be removed goes to `kept`."""
    removed = []
    for each in found:
        path = Path(each.where)
        if not path.parent.resolve().is_relative_to(root.resolve()):
            kept.append(Kept(each.where, f"a link leads there, out of '{root}'"))
            continue
        try:
            if not dry_run:
                throw_away(path, root)
        except FileNotFoundError:
            continue  # somebody else was faster
        except OSError as error:
            kept.append(Kept(each.where, f"it cannot be removed: {error.strerror or error}"))
            continue
        removed.append(each)
    return removed


def _of_experiment(experiment: Path, rules: Rules) -> Iterator[Garbage]:
    """What may go of an experiment's searches, and of a comparison of that name."""
    for search in searches(experiment.parent, experiment.name):
        folder = Path(search.path)
        yield from _of_work(folder, _newest([folder]), rules)
    own = [experiment / name for name in ("cells", *FROM_RAY)]
    if own[0].is_dir():
        yield from _of_work(experiment, _newest(own), rules)


def _of_work(folder: Path, used: float, rules: Rules) -> Iterator[Garbage]:
    """What may go of a search or comparison that was last written to at `used`."""
    if used >= rules.before:
        return
    for path in (folder / name for name in FROM_RAY):
        if path.is_dir() and not path.is_symlink():
            yield _garbage(path, "Ray's files", "nothing is continued from it", used)
    siblings = defaultdict(list)
    for training in (found for pattern in TRAININGS for found in sorted(folder.glob(pattern))):
        siblings[training.parent].append(training)
    for trainings in siblings.values():
        best = _best(trainings, rules.keep_best)
        why = f"not among the {rules.keep_best} best"
        for training in trainings:
            if training not in best:
                for path in (training / name for name in CHECKPOINTS):
                    if path.is_dir() and not path.is_symlink():
                        yield _garbage(path, "checkpoint", why, used)
            if training not in best or (training / "checkpoint").is_dir():
                for path in sorted(training.glob(".checkpoint.*")):
                    yield _garbage(path, "left over", "of a writer that was killed", used)


def _best(trainings: Iterable[Path], count: int) -> set[Path]:
    """The trainings with the best evaluations, by the metric of each one's own settings."""
    scored = [(score, each) for each in trainings if (score := _score(each)) is not None]
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    return {each for _, each in scored[:count]}


def _score(training: Path) -> float | None:
    """The larger, the better; None where it has no best evaluation that counts."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        record = read_state(training / RECORD_FILE)
        chosen_by = record["config"]["training"]
        if record["outcome"] in ("completed", "stopped"):
            value = float(record["progress"]["best_metrics"][chosen_by["metric"]])
            return value if chosen_by["mode"] == "max" else -value
    return None


def _of_cache(cache: Path, rules: Rules) -> Iterator[Garbage]:
    """Tokens, lengthened backbones and document states that nobody has opened, and halves that
    writers left.
    """
    places: tuple[tuple[Path, str, Kind], ...] = (
        (cache, DESCRIPTION, "tokens"),
        (cache / "backbones", "config.json", "backbone"),
        (cache / STATES_FOLDER, STATES_DESCRIPTION, "document states"),
    )
    for folder, mark, kind in places:
        for path in _folders(folder):
            if (path / mark).is_file():
                yield from _unused(path, kind, "not opened since", rules)
        for path in sorted(folder.glob(".*.*")):
            if path.name != TRASH and path.is_dir():
                yield from _unused(path, "left over", "of a writer that was killed", rules)


def _of_registry(
    tracking_uri: str, rules: Rules, kept: list[Kept], *, dry_run: bool
) -> list[Garbage]:
    """Logged models that no version points to; a store that does not answer keeps all it has."""
    from components.registry.leftover_models import leftover_models, remove_leftover

    removed: list[Garbage] = []
    try:
        for model in leftover_models(tracking_uri, before=rules.before):
            if not dry_run:
                remove_leftover(tracking_uri, model)
            why = f"{model.status.lower()}; no version points to it"
            days = _days(model.created_at)
            removed.append(Garbage(model.model_id, "logged model", model.bytes, days, why))
    except UserError as error:
        kept.append(Kept("logged models", str(error)))
    return removed


def _unused(path: Path, kind: Kind, why: str, rules: Rules) -> Iterator[Garbage]:
    with suppress(FileNotFoundError):
        garbage = _garbage(path, kind, why, last_used(path))
        if last_used(path) < rules.before:  # asked last: counting its bytes takes a while
            yield garbage


def _garbage(path: Path, kind: Kind, why: str, used: float) -> Garbage:
    size = sum(entry.st_size for entry in _entries([path]))
    return Garbage(str(path), kind, size, _days(used), why)


def _days(used: float) -> float:
    return max(0.0, time.time() - used) / DAY_SECONDS


def _newest(paths: Iterable[Path]) -> float:
    """When a file in the folders was last written, in seconds since 1970. The folders' own times do
    not count where there are files: a removal changes them.
    """
    entries = list(_entries(paths))
    files = [entry.st_mtime for entry in entries if not stat.S_ISDIR(entry.st_mode)]
    return max(files or [entry.st_mtime for entry in entries], default=0.0)


def _entries(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    """What the disk knows of the paths and of all below them; links are not followed."""
    for path in paths:
        with suppress(OSError):
            yield path.lstat()
        for root, folders, files in os.walk(path):
            for name in (*folders, *files):
                with suppress(OSError):
                    yield os.lstat(os.path.join(root, name))
