"""Columns that change between two retrainings, through the files: those that are read stop it in
one line that says which, others change nothing.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.data.drift.checks import compare
from components.data.drift.settings import DriftConfig
from components.errors import DataError
from pipelines.retraining.documents import (
    fingerprint_of,
    read_snapshot,
    read_source,
    with_kept_test_set,
    write_snapshot,
)

Row = dict[str, Any]
ROWS: list[Row] = [
    {"id": f"d{row}", "text": f"text {row} of its own", "label": "ab"[row % 2]} for row in range(60)
]


def experiment(folder: Path, rows: list[Row], ending: str) -> ExperimentConfig:
    path = folder / f"train.{ending}"
    with path.open("w", encoding="utf-8", newline="") as file:
        if ending == "jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    values = {
        "name": "toy",
        "backbone": {"source": "local", "name_or_path": "none", "family": "longformer"},
        "data": {"files": {"train": str(path)}},
    }
    return validate(ExperimentConfig, values)


def renamed(old: str, new: str) -> Callable[[Row], Row]:
    return lambda row: {(new if name == old else name): value for name, value in row.items()}


def without(column: str) -> Callable[[Row], Row]:
    return lambda row: {name: value for name, value in row.items() if name != column}


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("change", "gone", "left"),
    [
        (renamed("text", "body"), "text", "id, body, label"),
        (renamed("label", "topic"), "label", "id, text, topic"),
        (without("text"), "text", "id, label"),
        (without("label"), "label", "id, text"),
    ],
    ids=["text renamed", "label renamed", "text gone", "label gone"],
)
def test_a_column_that_is_read_and_gone_stops_in_one_line(
    tmp_path: Path, ending: str, change: Callable[[Row], Row], gone: str, left: str
) -> None:
    with pytest.raises(DataError) as raised:
        read_source(experiment(tmp_path, [change(row) for row in ROWS], ending))
    line = str(raised.value)
    assert f"no column '{gone}'; the columns are {left}" in line and "\n" not in line
    assert f"data.columns.{gone}" in line


@pytest.mark.parametrize(
    ("value", "said"),
    [({"name": "a"}, "holds an object"), (0.5, "holds 0.5"), (["a"], "column 'label' holds")],
)
def test_labels_of_another_kind_stop_in_one_line(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(DataError) as raised:
        read_source(experiment(tmp_path, [row | {"label": value} for row in ROWS], "jsonl"))
    assert said in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize("change", [without("id"), renamed("id", "number")])
def test_ids_that_are_gone_are_a_finding(
    tmp_path: Path, ending: str, change: Callable[[Row], Row]
) -> None:
    config = experiment(tmp_path, ROWS, ending)
    write_snapshot(with_kept_test_set(read_source(config), config, None), tmp_path / "snapshot")
    config = experiment(tmp_path, [change(row) for row in ROWS], ending)
    now = with_kept_test_set(read_source(config), config, tmp_path / "snapshot")
    found = compare(
        read_snapshot(tmp_path / "snapshot"),
        now.all,
        test_set=now.splits["test"],
        rules=DriftConfig(),
    )
    assert {each.check for each in found if each.verdict != "fine"} == {"ids"}


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_labels_under_other_names_stop(tmp_path: Path, ending: str) -> None:
    config = experiment(tmp_path, ROWS, ending)
    old = read_source(config).splits["train"]
    loud = experiment(tmp_path, [row | {"label": row["label"].upper()} for row in ROWS], ending)
    found = compare(old, read_source(loud).splits["train"], rules=DriftConfig())
    stopped = {each.check: each.line for each in found if each.verdict == "stop"}
    assert set(stopped) == {"new_labels", "lost_labels"} and "A, B" in stopped["new_labels"]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_further_columns_and_another_order_of_them_change_nothing(
    tmp_path: Path, ending: str
) -> None:
    config = experiment(tmp_path, ROWS, ending)
    old = read_source(config)
    wider = [{"source": "mail"} | dict(reversed(row.items())) | {"seen": 3} for row in ROWS]
    new = read_source(experiment(tmp_path, wider, ending))
    assert fingerprint_of(new) == fingerprint_of(old)
    found = compare(old.splits["train"], new.splits["train"], rules=DriftConfig())
    assert {each.verdict for each in found} == {"fine"}
