"""What counts as new, and a test set that stays the same documents."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.errors import ConfigError
from pipelines.retraining.documents import (
    Documents,
    changed_documents,
    fingerprint_of,
    read_snapshot,
    read_source,
    with_kept_test_set,
    write_snapshot,
)

Rows = list[dict[str, Any]]


def rows(count: int, *, start: int = 0, ids: bool = True) -> Rows:
    found = []
    for number in range(start, start + count):
        own = {"id": f"d{number}"} if ids else {}
        found.append({**own, "text": f"text number {number}", "label": "ab"[number % 2]})
    return found


def experiment(folder: Path, documents: Rows, **files: Rows) -> ExperimentConfig:
    paths = {}
    for split, part in {"train": documents, **files}.items():
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in part))
        paths[split] = str(path)
    values = {
        "name": "toy",
        "backbone": {"source": "local", "name_or_path": "none", "family": "longformer"},
        "data": {"files": paths},
    }
    return validate(ExperimentConfig, values)


def documents_of(config: ExperimentConfig, previous: Path | None = None) -> Documents:
    return with_kept_test_set(read_source(config), config, previous)


def texts(documents: Documents, split: str) -> set[str]:
    return {each.content for each in documents.splits[split]}  # type: ignore[index]


@pytest.mark.parametrize("ids", [True, False])
def test_the_test_set_survives_additions_corrections_and_removals(
    tmp_path: Path, ids: bool
) -> None:
    before = documents_of(experiment(tmp_path, rows(100, ids=ids)))
    write_snapshot(before, tmp_path / "snapshot")
    assert read_snapshot(tmp_path / "snapshot")
    assert {each.content for each in read_snapshot(tmp_path / "snapshot")} == {
        each.content for each in before.all
    }
    test = sorted(texts(before, "test"))
    removed, corrected = test[0], test[1]
    changed = [
        row | {"text": row["text"] + " corrected"} if row["text"] == corrected else row
        for row in [*rows(60, start=100, ids=ids), *rows(100, ids=ids)]
        if row["text"] != removed
    ]
    now = documents_of(experiment(tmp_path, changed), tmp_path / "snapshot")
    expected = set(test) - {removed, corrected}
    # Without ids a corrected text is another document, and the old one is gone.
    assert texts(now, "test") == expected | ({f"{corrected} corrected"} if ids else set())
    assert removed not in {each.content for each in now.all}
    assert len(now.all) == 159
    assert not texts(now, "test") & (texts(now, "train") | texts(now, "validation"))


def test_a_source_with_test_documents_decides_itself(tmp_path: Path) -> None:
    first = documents_of(experiment(tmp_path, rows(60), test=rows(20, start=100)))
    write_snapshot(first, tmp_path / "snapshot")
    config = experiment(tmp_path, rows(60), test=rows(20, start=200))
    now = documents_of(config, tmp_path / "snapshot")
    assert texts(now, "test") == {row["text"] for row in rows(20, start=200)}


def test_the_fingerprint_is_of_content_not_of_order_times_or_white_space(tmp_path: Path) -> None:
    base = fingerprint_of(read_source(experiment(tmp_path, rows(20))))
    assert base == fingerprint_of(read_source(experiment(tmp_path, rows(20)[::-1])))
    spaced = [row | {"text": row["text"] + "  \n", "further": 1} for row in rows(20)]
    assert base == fingerprint_of(read_source(experiment(tmp_path, spaced)))
    for changed in (
        rows(19),
        [*rows(19), rows(20)[19] | {"label": "a"}],
        [*rows(19), rows(20)[19] | {"text": "other"}],
    ):
        assert base != fingerprint_of(read_source(experiment(tmp_path, changed)))


def test_changes_are_counted_by_content(tmp_path: Path) -> None:
    old = read_source(experiment(tmp_path, rows(20))).splits["train"]
    new = read_source(experiment(tmp_path, rows(20, start=2))).splits["train"]
    assert changed_documents(old, old) == 0
    assert changed_documents(old, new) == 4


def test_a_source_that_makes_its_documents_up_is_refused(tmp_path: Path) -> None:
    values = {
        "name": "toy",
        "backbone": {"source": "local", "name_or_path": "none", "family": "longformer"},
        "data": {"needle": {"lengths": [64]}, "max_tokens": 64},
    }
    with pytest.raises(ConfigError, match="never anything new"):
        read_source(validate(ExperimentConfig, values))
