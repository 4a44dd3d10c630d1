"""What gc removes can be made again, and is old; everything else stays. A kill in the middle loses
nothing.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.errors import ConfigError
from components.jobs.driver_lock import held
from components.jobs.record import Identity, JobRecord, write_record
from components.training.outcomes import Progress
from components.tuning.search_folder import new_search, searches, unfinished
from pipelines.gc import GcReport, gc
from pipelines.trash import TRASH
from tests.pipelines.typed import call

DAY = 86_400.0


def training(
    folder: Path, accuracy: float | None, *, outcome: str = "completed", by: str = "accuracy"
) -> Path:
    """A job's folder with checkpoint, the one before, and its record: `by` what it was chosen."""
    for name in ("checkpoint", "checkpoint.before"):
        (folder / name).mkdir(parents=True)
        (folder / name / "trainable.safetensors").write_bytes(bytes(1000))
    if accuracy is not None:
        best = {"validation/accuracy": accuracy, "validation/nll": 1.0 - accuracy}
        record = JobRecord(
            Identity("a" * 64, 8, "d", "c"), outcome, "", progress=Progress(best_metrics=best)
        )
        mode = "max" if by == "accuracy" else "min"
        chosen_by = {"training": {"metric": f"validation/{by}", "mode": mode}}
        write_record(folder, record, config=chosen_by)
    return folder


def search(storage: Path, *accuracies: float | None, state: str = "done") -> Path:
    folder = new_search(storage, "toy", "0" * 64)
    folder.ended(state).save()
    path = Path(folder.path)
    for number, accuracy in enumerate(accuracies):
        training(path / "trials" / f"{number:016d}", accuracy)
    for name in ("slots/slot-1", "tune/trial", "adapter"):
        (path / name).mkdir(parents=True)
        (path / name / "file").write_bytes(bytes(100))
    return path


def aged(path: Path, days: float) -> Path:
    """As if nobody had touched it since."""
    then = time.time() - days * DAY
    for found in (*path.rglob("*"), path):
        os.utime(found, (then, then), follow_symlinks=False)
    return path


def files(*roots: Path) -> set[str]:
    return {
        str(path.relative_to(root.parent))
        for root in roots
        for path in root.rglob("*")
        if path.is_file() and path.name not in ("driver.lock", "driver.json")
    }


def removed(report: GcReport, root: Path) -> set[str]:
    return {str(Path(each.where).relative_to(root)) for each in report.garbage}


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Tokens used 40 days and an hour ago, a backbone used 40 days ago, halves of both."""
    folder = tmp_path / "cache"
    for name, days in (("old", 40.0), ("new", 1 / 24)):
        (folder / name).mkdir(parents=True)
        (folder / name / "prepared.json").write_text("{}")
        aged(folder / name, days)
    (folder / "backbones" / "bert-4096-k").mkdir(parents=True)
    (folder / "backbones" / "bert-4096-k" / "config.json").write_text("{}")
    (folder / "backbones" / ".bert-4096-k.x7").mkdir()
    (folder / ".key.x7").mkdir()
    (folder / "somebody's").mkdir()
    for path in folder.glob("backbones/*"), (folder / ".key.x7", folder / "somebody's"):
        for each in path:
            aged(each, 40.0)
    return folder


def test_what_is_old_goes_but_the_best_trainings_and_all_that_tells_of_them(
    storage: Path, tmp_path: Path
) -> None:
    path = aged(search(storage, 0.5, 0.9, 0.7, None), 40.0)
    before = files(storage)
    report = gc(storage, tmp_path / "cache")
    assert removed(report, path) == {
        *("slots", "tune"),
        *(
            f"trials/{number:016d}/{name}"
            for number in (0, 2, 3)
            for name in ("checkpoint", "checkpoint.before")
        ),
    }
    assert report.bytes >= 6 * 1000
    left = files(storage)
    assert left < before
    here = f"storage/toy/{path.name}"
    assert {f"{here}/search.json", f"{here}/adapter/file"} < left
    assert sum(name.endswith("record.json") for name in left) == 3
    assert f"{here}/trials/{1:016d}/checkpoint/trainable.safetensors" in left
    assert gc(storage, tmp_path / "cache").garbage == ()


@pytest.mark.parametrize(("keep_best", "kept"), [(0, ()), (2, (1, 2)), (9, (0, 1, 2))])
def test_so_many_of_the_best_keep_their_checkpoint(
    keep_best: int, kept: tuple[int, ...], storage: Path, tmp_path: Path
) -> None:
    path = aged(search(storage, 0.5, 0.9, 0.7), 40.0)
    gc(storage, tmp_path / "cache", keep_best=keep_best)
    there = [(path / "trials" / f"{number:016d}" / "checkpoint").is_dir() for number in range(3)]
    assert there == [number in kept for number in range(3)]


def test_the_best_is_told_by_the_searchs_metric_among_those_that_ended_well(
    storage: Path, tmp_path: Path
) -> None:
    path = search(storage)
    for number, outcome in enumerate(("diverged", "stopped", "completed")):
        folder = path / "trials" / f"{number:016d}"
        training(folder, 0.9 - 0.1 * number, outcome=outcome, by="nll")
    (path / "trials" / f"{3:016d}" / "checkpoint").mkdir(parents=True)
    (path / "trials" / f"{3:016d}" / "record.json").write_text("{")
    aged(path, 40.0)
    gc(storage, tmp_path / "cache")
    assert [each.parent.name for each in path.rglob("checkpoint")] == [f"{1:016d}"]


def test_a_dry_run_lists_what_would_go_and_changes_nothing(storage: Path, cache: Path) -> None:
    aged(search(storage, 0.5, 0.9), 40.0)
    before = files(storage, cache)
    dry = gc(storage, cache, dry_run=True)
    assert files(storage, cache) == before
    assert not list(storage.parent.rglob("driver.*")) and not list(storage.parent.rglob(TRASH))
    wet = gc(storage, cache)
    assert [each.where for each in dry.garbage] == [each.where for each in wet.garbage]
    assert dry.bytes == wet.bytes > 0


@pytest.mark.parametrize("state", ["running", "interrupted", "done"])
def test_what_was_written_to_within_the_age_stays_whole(
    state: str, storage: Path, tmp_path: Path
) -> None:
    """One file that a continued search wrote yesterday keeps all of it."""
    path = aged(search(storage, 0.5, 0.9, state=state), 40.0)
    aged(path / "trials" / f"{0:016d}" / "checkpoint", 29.0)
    before = files(storage)
    assert gc(storage, tmp_path / "cache").garbage == ()
    assert files(storage) == before
    assert gc(storage, tmp_path / "cache", older_than_days=28.0).garbage != ()


def test_an_old_interrupted_search_can_still_be_continued(storage: Path, tmp_path: Path) -> None:
    """Its trainings begin anew (components/jobs/carry_out.py); its points and id are there."""
    path = aged(search(storage, 0.5, 0.9, state="interrupted"), 40.0)
    gc(storage, tmp_path / "cache", keep_best=0)
    assert [Path(each.path) for each in unfinished(storage, "toy")] == [path]


def test_what_runs_keeps_its_folder_and_every_cache(storage: Path, cache: Path) -> None:
    aged(search(storage, 0.5, 0.9), 40.0)
    before = files(storage, cache)
    for dry_run in (True, False):
        with held(storage / "toy", what="a search of 'toy'"):
            report = gc(storage, cache, dry_run=dry_run)
        assert report.garbage == ()
        assert [each.where for each in report.kept] == [str(storage / "toy"), str(cache)]
        assert "a search of 'toy'" in report.kept[0].why
    assert files(storage, cache) == before


def test_a_search_that_starts_meanwhile_is_told_of_gc(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(search(storage, 0.5, 0.9), 40.0)
    told = []

    def and_meanwhile(*_: Any) -> None:
        with pytest.raises(ConfigError) as error, held(storage / "toy", what="a search of 'toy'"):
            pass
        told.append(str(error.value))

    monkeypatch.setattr("pipelines.gc.throw_away", and_meanwhile)
    gc(storage, tmp_path / "cache")
    assert told and all("(prefixprop gc" in line for line in told)


def test_each_method_of_a_comparison_keeps_its_best(storage: Path, tmp_path: Path) -> None:
    root = storage / "compared"
    for method in ("lora", "prefix"):
        for number, accuracy in enumerate((0.6, 0.8)):
            training(root / "cells" / "reviews" / method / f"{number:016d}", accuracy)
    (root / "slots").mkdir()
    (root / "results").mkdir()
    (root / "results" / "table.md").write_text("")
    aged(root, 40.0)
    report = gc(storage, tmp_path / "cache")
    assert {
        Path(each.where).relative_to(root).parts[2]
        for each in report.garbage
        if "cells" in each.where
    } == {"lora", "prefix"}
    assert sorted(path.parent.name for path in root.rglob("checkpoint")) == [f"{1:016d}"] * 2
    assert (root / "results" / "table.md").exists() and not (root / "slots").exists()


def test_snapshots_of_retrainings_stay(storage: Path, tmp_path: Path) -> None:
    snapshot = storage / "toy" / "retraining" / "weekly" / "key"
    snapshot.mkdir(parents=True)
    (snapshot / "train.jsonl").write_text("")
    aged(storage, 400.0)
    assert gc(storage, tmp_path / "cache").garbage == ()
    assert (snapshot / "train.jsonl").exists()


def test_of_a_cache_goes_what_nobody_has_opened(storage: Path, cache: Path) -> None:
    report = gc(storage, cache)
    assert removed(report, cache) == {
        "old",
        ".key.x7",
        "backbones/bert-4096-k",
        "backbones/.bert-4096-k.x7",
    }
    assert {path.name for path in cache.iterdir()} == {"new", "somebody's", "backbones", TRASH}
    assert not list((cache / TRASH).iterdir())


def test_a_link_is_not_followed(storage: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    path = search(elsewhere, 0.5, 0.9)
    storage.mkdir()
    (storage / "toy").mkdir()
    (storage / "toy" / "linked").symlink_to(path)
    (storage / "other").symlink_to(elsewhere / "toy")
    aged(elsewhere, 40.0)
    aged(storage, 40.0)
    before = files(elsewhere)
    report = gc(storage, tmp_path / "cache")
    assert report.garbage == () and report.kept
    assert all("a link leads there" in each.why for each in report.kept)
    assert files(elsewhere) == before


def test_killed_between_renaming_and_deleting_it_loses_nothing_and_the_next_one_goes_on(
    storage: Path, tmp_path: Path
) -> None:
    path = aged(search(storage, 0.5, 0.9, 0.7), 40.0)
    expected = {each.where for each in gc(storage, tmp_path, dry_run=True).garbage}
    killed = (
        "import os, sys\nfrom pathlib import Path\nfrom pipelines import gc, trash\n"
        "trash._delete = lambda path: os.kill(os.getpid(), 9)\n"
        "gc.gc(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", killed, str(storage), str(tmp_path / "cache")]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    (thrown,) = (storage / TRASH).iterdir()
    assert [each.search_id for each in searches(storage, "toy")] == [path.name]
    whole = {
        str(each)
        for each in path.rglob("checkpoint*")
        if not (each / "trainable.safetensors").exists()
    }
    assert whole == set(), "what is left in its place is whole"
    report = gc(storage, tmp_path / "cache")
    assert not thrown.exists()
    assert report.garbage[0].where == str(thrown) and report.garbage[0].kind == "left over"
    gone = {each for each in expected if not Path(each).exists()}
    assert gone == expected


def test_a_folder_that_cannot_be_removed_is_told_and_stops_nothing(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(search(storage, 0.5), 40.0)

    def fail(*_: Any) -> None:
        raise OSError(18, "other disk")

    monkeypatch.setattr("pipelines.gc.throw_away", fail)
    report = gc(storage, tmp_path / "cache", keep_best=0)
    assert report.garbage == () and len(report.kept) == 4
    assert "other disk" in report.kept[0].why


def test_a_registry_that_does_not_answer_is_told_and_stops_nothing(
    storage: Path, tmp_path: Path
) -> None:
    path = aged(search(storage, 0.5, 0.9), 40.0)
    report = gc(storage, tmp_path / "cache", tracking_uri="http://127.0.0.1:9")
    assert not (path / "tune").exists()
    assert [each.where for each in report.kept] == ["logged models"]


def test_the_command_lists_first_and_removes_when_told(
    storage: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = aged(search(storage, 0.5, 0.9), 40.0)
    typed = ["gc", "--storage", str(storage), "--cache", str(cache), "--older-than", "4w"]
    code, stdout, _ = call(*typed, "--dry-run")
    assert code == 0 and "would be removed: leave --dry-run out" in stdout
    assert "not among the 1 best" in stdout and (path / "tune").is_dir()
    code, stdout, _ = call(*typed, "--json")
    report = json.loads(stdout)
    assert code == 0 and not report["dry_run"] and report["older_than_days"] == 28.0
    assert {each["kind"] for each in report["garbage"]} == {
        *("checkpoint", "Ray's files", "tokens", "backbone", "left over")
    }
    assert not (path / "tune").exists()


@pytest.mark.parametrize("age", ["", "30", "d", "-1d", "1.5d", "30days", "9999999999d", "\u0663d"])
def test_an_age_that_is_none_is_refused_in_one_line(age: str) -> None:
    code, stdout, stderr = call("gc", "--older-than", age)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("Error: --older-than") and stderr.count("\n") == 1


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--storage: .* is no folder"):
        gc(tmp_path / "file", tmp_path / "cache")


def test_tokens_that_were_opened_lately_stay_and_those_that_go_are_made_again(
    storage: Path, tmp_path: Path
) -> None:
    from components.data.settings import DataConfig
    from components.settings import validate
    from components.tasks import prepare
    from tests.toy import make_documents, make_tokenizer

    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "validation", "test")}
    for seed, path in enumerate(files.values()):
        make_documents(Path(path), 6, seed=seed)
    config = validate(DataConfig, {"files": files, "max_tokens": 64})
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    cache = tmp_path / "cache"

    def prepared() -> Any:
        return prepare(config, tokenizer, tokenizer_id="t", cache_path=cache)

    first = prepared()
    aged(cache, 40.0)
    assert prepared().report.cached
    assert gc(storage, cache).garbage == ()
    aged(cache, 40.0)
    assert [each.where for each in gc(storage, cache).garbage] == [str(first.folder)]
    again = prepared()
    assert not again.report.cached and again.fingerprint == first.fingerprint


def test_states_of_documents_that_nobody_opened_go(storage: Path, tmp_path: Path) -> None:
    from components.training.state_store import StateStore
    from components.training.states_folder import STATES_FOLDER

    cache = tmp_path / "cache"
    folder = cache / STATES_FOLDER / "one"
    StateStore(folder)
    aged(cache, 40.0)
    StateStore(folder)
    assert gc(storage, cache).garbage == ()
    aged(cache, 40.0)
    (garbage,) = gc(storage, cache).garbage
    assert (garbage.where, garbage.kind) == (str(folder), "document states")
