"""The folder of one search: what an interrupted search is continued from.

<storage>/<experiment>/<search id>/search.json, points.json, adapter/,
trials/<configuration>/checkpoint, tune/. A new search always gets a new id; the same id again would
resume by accident. The fact a newcomer gets wrong: ids hold the time, but clocks jump, so searches
are ordered by the number that each got when it was begun.
"""

import secrets
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from components.atomic_file import read_state, write_state
from components.errors import ConfigError
from components.jobs.driver_lock import held, note_holder

FORMAT = 1
SEARCH_FILE = "search.json"


@dataclass(frozen=True)
class SearchFolder:
    """Identity and state of a search. `state`: running, interrupted or done; `number`: searches of
    the experiment before it, and one (0: from before there were numbers); `code_fingerprint`: of
    the code that began it.
    """

    path: str
    search_id: str
    config_sha256: str
    search_run_id: str | None = None
    state: str = "running"
    number: int = 0
    code_fingerprint: str = ""

    def save(self) -> None:
        write_state(Path(self.path) / SEARCH_FILE, {"format": FORMAT} | asdict(self), indent=2)

    def with_run(self, run_id: str) -> "SearchFolder":
        return replace(self, search_run_id=run_id, state="running")

    def ended(self, state: str) -> "SearchFolder":
        return replace(self, state=state)


@contextmanager
def exclusive_experiment(storage: Path, experiment: str) -> Iterator[None]:
    """Hold all searches of an experiment for this driver alone. Raises ConfigError where another
    driver has them.
    """
    with held(storage / experiment, what=f"a search of '{experiment}'"):
        yield


@contextmanager
def exclusive(folder: SearchFolder) -> Iterator[None]:
    """Hold one search, and tell whoever meets the held experiment which one it is. Raises
    ConfigError where another driver has it.
    """
    path, what = Path(folder.path), f"search {folder.search_id}"
    with held(path, what=what):
        note_holder(path.parent, what)
        yield


def new_search(
    storage: Path, experiment: str, config_sha256: str, *, code_fingerprint: str = ""
) -> SearchFolder:
    """A fresh folder for a search."""
    search_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    path = storage / experiment / search_id
    number = 1 + max((known.number for known in searches(storage, experiment)), default=0)
    (path / "trials").mkdir(parents=True)
    folder = SearchFolder(
        path=str(path),
        search_id=search_id,
        config_sha256=config_sha256,
        number=number,
        code_fingerprint=code_fingerprint,
    )
    folder.save()
    return folder


def searches(storage: Path, experiment: str) -> list[SearchFolder]:
    """All searches of the experiment, the latest last, where they lie now, wherever they were
    begun. One whose state is damaged is left out, with a warning.
    """
    found = []
    for file in (storage / experiment).glob(f"*/{SEARCH_FILE}"):
        try:
            found.append(_read(file))
        except (OSError, ValueError, TypeError) as error:
            warnings.warn(
                f"'{file}' is damaged ({error}): this search cannot be continued. A new one takes "
                "over what it trained (search.reuse_trials).",
                RuntimeWarning,
                stacklevel=2,
            )
    return sorted(found, key=lambda folder: (folder.number, folder.search_id))


def _read(file: Path) -> SearchFolder:
    values = read_state(file)
    known = {each.name for each in fields(SearchFolder)}
    folder = SearchFolder(**{name: value for name, value in values.items() if name in known})
    return replace(folder, path=str(file.parent))


def unfinished(storage: Path, experiment: str) -> list[SearchFolder]:
    """The searches that can be continued, the latest last."""
    return [folder for folder in searches(storage, experiment) if folder.state != "done"]


def is_unfinished(storage: Path, experiment: str, config_sha256: str) -> bool:
    """Whether a search of exactly these settings can be continued."""
    return any(each.config_sha256 == config_sha256 for each in unfinished(storage, experiment))


def unfinished_search(
    storage: Path, experiment: str, config_sha256: str, *, search_id: str | None = None
) -> SearchFolder:
    """The search to continue: that of `search_id`, else the latest one that did not end and was
    begun with the same settings. Raises ConfigError, with what can be continued, where there is
    none.
    """
    open_ones = unfinished(storage, experiment)
    if not open_ones:
        raise ConfigError(
            f"--resume: no unfinished search of '{experiment}' below {storage}. Leave --resume out "
            "to start one."
        )
    asked = [each for each in open_ones if search_id in (None, each.search_id)]
    if not asked:
        raise ConfigError(
            f"--resume: no unfinished search of '{experiment}' is called {search_id}. There "
            f"{listed(open_ones, config_sha256)}."
        )
    fitting = [each for each in asked if each.config_sha256 == config_sha256]
    if not fitting:
        raise ConfigError(
            f"--resume: search {asked[-1].search_id} was started with other settings. Give the "
            f"same experiment and --set values, or leave --resume out. There "
            f"{listed(open_ones, config_sha256)}."
        )
    return fitting[-1]


def listed(found: list[SearchFolder], config_sha256: str) -> str:
    """What can be continued, in words, the latest first."""
    names = [
        f"{each.search_id} ({each.state}"
        f"{'' if each.config_sha256 == config_sha256 else ', with other settings'})"
        for each in reversed(found)
    ]
    return f"can be continued with --resume ID: {', '.join(names)}"
