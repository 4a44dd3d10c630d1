"""Where rows come from: one entry per field of `DataConfig` that names a source. What a row has to
hold is the task's affair (components/tasks).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.data import files, installed_source, letters, needle, qangaroo
from components.data.documents import SPLITS, Problem, Row, SplitName
from components.data.settings import ColumnsConfig, DataConfig
from components.errors import DataError

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
    state = {}
    for split, path in _file_paths(config).items():
        files.check_exists(path, f"data.files.{split}")
        status = Path(path).stat()
        state[split] = [str(Path(path).resolve()), status.st_size, status.st_mtime_ns]
    return state


def _read_files(config: DataConfig, _: HasTokens) -> Mapping[SplitName, Rows]:
    return {
        split: files.read_rows(path, f"data.files.{split}")
        for split, path in _file_paths(config).items()
    }


def _file_paths(config: DataConfig) -> dict[SplitName, str]:
    assert config.files is not None
    return {split: path for split in SPLITS if (path := getattr(config.files, split)) is not None}


def _hub_state(config: DataConfig) -> object:
    """The revision as it was given: a branch that has moved is not noticed, and nothing is asked of
    the hub. Pin a commit.
    """
    assert config.hub is not None
    return config.hub.model_dump()


def _read_hub(config: DataConfig, _: HasTokens) -> Mapping[SplitName, Rows]:
    assert config.hub is not None
    names = {split: name for split in SPLITS if (name := getattr(config.hub, split)) is not None}
    return {split: _hub_rows(config, name) for split, name in names.items()}


def _hub_rows(config: DataConfig, split: str) -> Iterator[Row | Problem]:
    import datasets

    hub = config.hub
    assert hub is not None
    try:
        loaded = datasets.load_dataset(
            hub.name, hub.config_name, split=split, revision=hub.revision
        )
    except (OSError, ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        is_script = "scripts are no longer supported" in str(error)
        fix = (
            (
                "set data.hub.revision=refs/convert/parquet, where the hub keeps such data sets as "
                "Parquet"
            )
            if is_script
            else "check name, split and connection"
        )
        raise DataError(
            f"data.hub: cannot load split '{split}' of '{hub.name}' ({lines[0]}); {fix}"
        ) from error
    feature = loaded.features.get(config.columns.label)
    names: list[str] | None = feature.names if isinstance(feature, datasets.ClassLabel) else None
    for number, values in enumerate(loaded, start=1):
        yield Row(f"{hub.name}/{split}", number, _named_label(values, config.columns.label, names))


def _named_label(values: dict[str, Any], column: str, names: list[str] | None) -> dict[str, Any]:
    """A hub class label by its name; its -1 means that the row has none."""
    if names is None:
        return values
    label = values[column]
    return {**values, column: names[label] if label is not None and label >= 0 else None}


SOURCES: dict[str, Source] = {
    "files": Source(_file_state, _read_files),
    "hub": Source(_hub_state, _read_hub),
    "installed_source": Source(installed_source.state, installed_source.read, names_columns=True),
    "letters": Source(letters.state, letters.read, names_columns=True),
    "needle": Source(needle.state, needle.read, names_columns=True),
    "qangaroo": Source(qangaroo.state, qangaroo.read, names_columns=True),
}


def source_of(config: DataConfig) -> Source:
    """The source that the configuration names; the schema makes sure that it is exactly one."""
    return next(source for name, source in SOURCES.items() if getattr(config, name) is not None)
