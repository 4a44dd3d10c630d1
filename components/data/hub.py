"""A data set of the hub, or of a local folder in the hub's form.

The fact a newcomer gets wrong: `datasets` reads CSV and JSON of a local folder with readers of its
own, which join rows at a stray quote and name no row of a broken file. So local files are read
strictly first, and what is wrong there is said as for `data.files`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.columns import KEEP_ONE, RepeatedColumn, listed, positions
from components.data.documents import READING, SPLITS, Problem, Row, SplitName
from components.data.files import READERS, read_rows
from components.data.lookalikes import shown
from components.data.parquet_rows import ROWS_PER_BATCH, readable_row, rows_of_columns
from components.data.settings import DataConfig, HubConfig
from components.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

READ_STRICTLY = tuple(f"{suffix}{packed}" for suffix in READERS for packed in ("", ".gz"))


@dataclass(frozen=True, slots=True)
class _Files:
    """Local files of a split, read strictly."""

    rows: int
    columns: Mapping[str, tuple[str, ...]]
    """Names of each file's columns."""

    def difference(self) -> str | None:
        """What is said where not all have the same columns."""
        (first, expected), *others = self.columns.items()
        for path, names in others:
            if set(names) != set(expected):
                return (
                    f"{path} row 1: the columns are {listed(names)}, in {first} they are "
                    f"{listed(expected)}; give all files of a split the same columns"
                )
        return None


def state(config: DataConfig) -> object:
    """The revision as it was given: a branch that has moved is not noticed, and nothing is asked of
    the hub. Pin a commit.
    """
    return {"reading": READING, **_settings(config).model_dump()}


def read(config: DataConfig, _: object) -> Mapping[SplitName, Iterable[Row | Problem]]:
    """Rows of every split that the settings name."""
    hub = _settings(config)
    names = {split: name for split in SPLITS if (name := getattr(hub, split)) is not None}
    return {split: _rows(config, name) for split, name in names.items()}


def _settings(config: DataConfig) -> HubConfig:
    assert config.hub is not None
    return config.hub


def _rows(config: DataConfig, split: str) -> Iterator[Row | Problem]:
    import datasets

    hub, label = _settings(config), config.columns.label
    files = _local_files(hub, split, config.columns.read_for(config.task))
    loaded = _loaded(hub, split, files)
    if files is not None and files.rows != len(loaded):
        raise DataError(
            f"data.hub: '{hub.name}' gives {len(loaded)} rows in split '{split}', its files hold "
            f"{files.rows}; read the files with data.files"
        )
    names = _columns(hub, loaded, config.columns.read_for(config.task))
    others = tuple(name for name in loaded.column_names if name not in names.values())
    feature = loaded.features.get(names.get(label, label))
    classes: list[str] | None = feature.names if isinstance(feature, datasets.ClassLabel) else None
    for number, values in enumerate(_values(loaded, names), start=1):
        row = readable_row(f"{hub.name}/{split}", number, values, others)
        yield _with_named_label(row, label, classes)


def _values(loaded: "Dataset", names: Mapping[str, str]) -> Iterator[dict[str, object]]:
    """Values of each row by mapped column, converted one by one as those of a Parquet file."""
    if not names:
        yield from ({} for _ in range(len(loaded)))
        return
    tables = loaded.select_columns(list(names.values())).with_format("arrow")
    for table in tables.iter(ROWS_PER_BATCH):
        columns = {column: table[name].combine_chunks() for column, name in names.items()}
        yield from rows_of_columns(columns, table.num_rows)


def _loaded(hub: HubConfig, split: str, files: _Files | None) -> "Dataset":
    import datasets
    import pyarrow as pa

    try:
        return datasets.load_dataset(hub.name, hub.config_name, split=split, revision=hub.revision)
    except _failures() as error:
        difference = None if files is None else files.difference()
        if difference is not None:
            raise DataError(difference) from error
        is_script = "scripts are no longer supported" in str(error)
        fix = (
            "set data.hub.revision=refs/convert/parquet, where the hub keeps such data sets as "
            "Parquet"
            if is_script
            else "mend its files: each must be whole, with the same columns"
            if isinstance(error, datasets.exceptions.DatasetBuildError | pa.ArrowException)
            else "check name, split and connection"
        )
        raise DataError(
            f"data.hub: cannot load split '{split}' of '{hub.name}' ({_reason(error)}); {fix}"
        ) from error


def _local_files(hub: HubConfig, split: str, columns: Sequence[str]) -> _Files | None:
    """What the files of a split hold that lie in a local folder and are of a kind that is read
    strictly; None for every other. Raises `DataError` for the first row that is broken.
    """
    import datasets

    if not Path(hub.name).is_dir():
        return None
    try:
        builder = datasets.load_dataset_builder(hub.name, hub.config_name, revision=hub.revision)
    except _failures():
        return None  # said where it is loaded
    read = {name: [str(path) for path in each] for name, each in _data_files(builder).items()}
    _refuse_left_out(hub, split, {path for each in read.values() for path in each})
    paths = read.get(split, [])
    if not paths or not all(path.lower().endswith(READ_STRICTLY) for path in paths):
        return None
    count, names = 0, {}
    for path in paths:
        names[path] = dict[str, None]()
        for row in read_rows(path, "data.hub", columns):
            count += 1
            if isinstance(row, Row):
                names[path] |= dict.fromkeys(row.columns)
            elif not path.lower().endswith(".parquet"):  # there it is a matter of one value
                raise DataError(str(row))
    return _Files(count, {path: tuple(each) for path, each in names.items()})


def _data_files(builder: "DatasetBuilder") -> Mapping[str, Sequence[object]]:
    return builder.config.data_files or {}


def _refuse_left_out(hub: HubConfig, split: str, read: set[str]) -> None:
    """`datasets` reads the files of one format of a folder and passes over the others, unless the
    folder's README.md says which to read. Raises `DataError` for such a file of this split.
    """
    folder = Path(hub.name)
    if not read or (folder / "README.md").is_file():
        return
    formats = {Path(path).suffix for path in read}
    named_by_split = any(split in Path(path).name for path in read)
    for path in sorted(folder.iterdir()):
        is_other = path.suffix not in formats and path.name.lower().endswith(READ_STRICTLY)
        if is_other and (split in path.name or not named_by_split):
            raise DataError(
                f"{path}: would not be read beside {Path(min(read)).name}; give data.hub a folder "
                "with files of one format, or read them with data.files"
            )


def _columns(hub: HubConfig, loaded: "Dataset", mapped: Sequence[str]) -> dict[str, str]:
    """Mapped column -> its name in the data set, as far as it is there."""
    try:
        places = positions(loaded.column_names, mapped)
    except RepeatedColumn as error:
        raise DataError(f"data.hub: '{hub.name}': {error}; {KEEP_ONE}") from error
    return {column: loaded.column_names[place] for column, place in places.items()}


def _with_named_label(
    row: Row | Problem, column: str, classes: Sequence[str] | None
) -> Row | Problem:
    """A hub class label by its name; its -1 means that the row has none."""
    if classes is None or isinstance(row, Problem) or column not in row.values:
        return row
    label: Any = row.values[column]
    if label is None or label < 0:
        return Row(row.file, row.number, {**row.values, column: None}, row.unread)
    if label >= len(classes):
        found = f"column '{shown(column)}' holds class {label} of {len(classes)} (from 0)"
        return Problem("unknown_label", row.file, row.number, found, "mend the class labels")
    return Row(row.file, row.number, {**row.values, column: classes[label]}, row.unread)


def _failures() -> tuple[type[Exception], ...]:
    """What `datasets` raises for data that it cannot load, its own errors and those of the readers
    below it.
    """
    import csv

    import datasets
    import pyarrow as pa

    own = (datasets.exceptions.DatasetsError, pa.ArrowException, csv.Error)
    return (*own, OSError, ValueError, RuntimeError, TypeError, LookupError, ArithmeticError)


def _reason(error: BaseException) -> str:
    """What the innermost reader said, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return shown(" ".join(str(error).split()) or type(error).__name__, 200)
