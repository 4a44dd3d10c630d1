"""Where rows come from: one entry per field of `DataConfig` that names a source. What a row has to
hold is the task's affair (components/tasks).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.data import files, hub, installed_source, letters, needle, qangaroo
from components.data.content import check_exists
from components.data.documents import READING, SPLITS, Problem, Row, SplitName
from components.data.settings import ColumnsConfig, DataConfig

HasTokens = Callable[[str, int], bool]
"""(text, count) -> whether the text has at least this many tokens."""


Rows = Iterable[Row | Problem]


@dataclass(frozen=True)
class Source:
    """Rows of the splits that there are."""

    state: Callable[[DataConfig], object]
    """Says cheaply what would be read (part of the cache key: sizes and modification times,
    versions, revisions).
    """
    read: Callable[[DataConfig, HasTokens], Mapping[SplitName, Rows]]
    names_columns: bool = False
    """Whether it names its columns itself, as data.columns does by default."""

    def columns(self, config: DataConfig) -> ColumnsConfig:
        """Which columns of its rows hold what."""
        return ColumnsConfig() if self.names_columns else config.columns


def _file_state(config: DataConfig) -> object:
    state: dict[str, object] = {"reading": READING}
    for split, path in _file_paths(config).items():
        check_exists(path, f"data.files.{split}")
        status = Path(path).stat()
        state[split] = [str(Path(path).resolve()), status.st_size, status.st_mtime_ns]
    return state


def _read_files(config: DataConfig, _: HasTokens) -> Mapping[SplitName, Rows]:
    return {
        split: files.read_rows(path, f"data.files.{split}", config.columns.read_for(config.task))
        for split, path in _file_paths(config).items()
    }


def _file_paths(config: DataConfig) -> dict[SplitName, str]:
    assert config.files is not None
    return {split: path for split in SPLITS if (path := getattr(config.files, split)) is not None}


SOURCES: dict[str, Source] = {
    "files": Source(_file_state, _read_files),
    "hub": Source(hub.state, hub.read),
    "installed_source": Source(installed_source.state, installed_source.read, names_columns=True),
    "letters": Source(letters.state, letters.read, names_columns=True),
    "needle": Source(needle.state, needle.read, names_columns=True),
    "qangaroo": Source(qangaroo.state, qangaroo.read, names_columns=True),
}


def source_of(config: DataConfig) -> Source:
    """The source that the configuration names; the schema makes sure that it is exactly one."""
    return next(source for name, source in SOURCES.items() if getattr(config, name) is not None)
