"""The folder of one search: what an interrupted search is continued from.

<storage>/<experiment>/<search id>/search.json, driver.lock, points.json, adapter/,
trials/<configuration>/checkpoint, tune/. A new search always gets a new id; the same id again would
resume by accident.
"""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from components.atomic_file import atomic_file
from components.errors import ConfigError


@dataclass(frozen=True)
class SearchFolder:
    """Identity and state of a search. `state`: running, interrupted or done."""

    path: str
    search_id: str
    config_sha256: str
    search_run_id: str | None = None
    state: str = "running"

    def save(self) -> None:
        with atomic_file(Path(self.path) / "search.json") as file:
            file.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    def with_run(self, run_id: str) -> "SearchFolder":
        return replace(self, search_run_id=run_id, state="running")

    def ended(self, state: str) -> "SearchFolder":
        return replace(self, state=state)


@contextmanager
def exclusive(folder: SearchFolder) -> Iterator[None]:
    """Hold the search for this driver alone; the lock ends with its process, however that ends.
    Raises ConfigError where another driver has it.
    """
    lock = FileLock(Path(folder.path) / "driver.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"--resume: search {folder.search_id} still runs. Wait for its end, or end it first "
            "(Ctrl-C in its terminal, or: ray job stop <id>)."
        ) from error
    try:
        yield
    finally:
        lock.release()


def new_search(storage: Path, experiment: str, config_sha256: str) -> SearchFolder:
    """A fresh folder for a search."""
    search_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    path = storage / experiment / search_id
    (path / "trials").mkdir(parents=True)
    folder = SearchFolder(path=str(path), search_id=search_id, config_sha256=config_sha256)
    folder.save()
    return folder


def unfinished_search(storage: Path, experiment: str, config_sha256: str) -> SearchFolder:
    """The latest search of this experiment that did not end. Raises ConfigError where there is
    none, or its configuration was another one.
    """
    found = [
        SearchFolder(**json.loads(file.read_text(encoding="utf-8")))
        for file in sorted((storage / experiment).glob("*/search.json"))
    ]
    open_ones = [folder for folder in found if folder.state != "done"]
    if not open_ones:
        raise ConfigError(
            f"--resume: no unfinished search of '{experiment}' below {storage}. Leave --resume out "
            "to start one."
        )
    latest = open_ones[-1]
    if latest.config_sha256 != config_sha256:
        raise ConfigError(
            f"--resume: search {latest.search_id} was started with other settings. Give the same "
            "experiment and --set values, or leave --resume out."
        )
    return latest
