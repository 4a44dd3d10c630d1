"""Promotion and rollback as a user asks for them: the gate decides, the history remembers."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from components.errors import ClusterError, ConfigError, RegistryError
from components.inference.package import adapter_package
from components.registry import Tracker, open_tracker
from pipelines.contest import CONFIRMED_SEEDS, GATE_RULES, PromotionSettings, confirmation_of
from pipelines.promote import history, promote, rollback, settle
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.lease import take
from tests.registry_fixtures import sample_texts

NAMES = (f"promoted-{number}" for number in itertools.count())


def register(tracker: Tracker, name: str, *adapters: Path, config: dict[str, Any]) -> None:
    tracker.ensure_experiment(name, "")
    for number, adapter in enumerate(adapters):
        run = tracker.start_run(name, run_name=f"s{number}", config=config, params={}, tags={})
        tracker.log_dict(run, config.get("gate") or {}, GATE_RULES)
        tracker.register_adapter(
            run,
            adapter_folder=adapter,
            package=adapter_package(adapter),
            model_name=name,
            metrics={"test/accuracy": 0.7 + number / 10},
            params={},
            description="",
            tags={},
        )


@pytest.fixture
def model(mlflow_uri: str, plain_adapter: Path) -> str:
    """A model with champion 1 and challenger 2."""
    name = next(NAMES)
    tracker = open_tracker("mlflow", mlflow_uri)
    register(tracker, name, plain_adapter, plain_adapter, config={})
    return name


@pytest.fixture
def forced(mlflow_uri: str, tmp_path: Path) -> dict[str, Any]:
    """What promotes without any documents."""
    return {
        "tracking_uri": mlflow_uri,
        "state_path": tmp_path,
        "force": True,
        "reason": "measured elsewhere",
    }


def test_a_forced_promotion_is_rolled_back_and_both_are_remembered(
    model: str, mlflow_uri: str, forced: dict[str, Any], tmp_path: Path
) -> None:
    report = promote(model, **forced)
    assert (report.version, report.previous, report.changed) == (2, 1, True)
    assert report.description == "Test accuracy 80.0%, not calibrated."
    assert promote(model, version=2, **forced).changed is False
    back = rollback(model, tracking_uri=mlflow_uri, state_path=tmp_path, reason="answers late")
    assert (back.version, back.previous) == (1, 2)
    found = history(model, tracking_uri=mlflow_uri)
    assert found.champion == 1
    assert [
        (entry.action, entry.version, entry.champion_before, entry.champion_after, entry.reason)
        for entry in found.entries
    ] == [
        ("found", 1, None, 1, "champion when this history began"),
        ("forced", 2, 1, 2, "measured elsewhere"),
        ("rolled_back", 2, 2, 1, "answers late"),
    ]
    assert all(entry.by and entry.time.endswith("Z") for entry in found.entries)


def test_an_alias_that_was_moved_elsewhere_is_found_and_recorded(
    model: str, mlflow_uri: str, tmp_path: Path
) -> None:
    tracker = open_tracker("mlflow", mlflow_uri)
    where: dict[str, Any] = {"tracking_uri": mlflow_uri, "state_path": tmp_path}
    promote(model, version=1, **where)
    tracker.promote(model, 2)  # as by a click in the UI
    rollback(model, **where)
    entries = history(model, tracking_uri=mlflow_uri).entries
    assert [entry.action for entry in entries] == ["found", "found", "rolled_back"]
    assert (entries[1].champion_before, entries[1].champion_after) == (1, 2)
    assert "by other means" in entries[1].reason


def test_dry_run_changes_nothing(model: str, mlflow_uri: str, forced: dict[str, Any]) -> None:
    report = promote(model, version=2, dry_run=True, **forced)
    assert (report.version, report.previous) == (2, 1)
    assert open_tracker("mlflow", mlflow_uri).resolve(f"models:/{model}@champion").version == 1


def test_promotion_of_nothing_is_an_error(
    model: str, mlflow_uri: str, forced: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match=r"promoted-.*/9' does not exist"):
        promote(model, version=9, **forced)
    with pytest.raises(RegistryError, match="no registered model 'absent'"):
        promote("absent", **forced)
    promote(model, **forced)
    with pytest.raises(RegistryError, match="no challenger"):
        promote(model, **forced)
    rollback(model, tracking_uri=mlflow_uri, state_path=tmp_path)
    with pytest.raises(RegistryError, match="no champion before version 1"):
        rollback(model, tracking_uri=mlflow_uri, state_path=tmp_path)


def test_force_needs_a_reason_and_other_settings_are_refused(
    model: str, mlflow_uri: str, tmp_path: Path
) -> None:
    where: dict[str, Any] = {"tracking_uri": mlflow_uri, "state_path": tmp_path}
    with pytest.raises(ConfigError, match="--reason"):
        promote(model, force=True, reason=" ", **where)
    with pytest.raises(ConfigError, match=r"training\.epochs=3"):
        promote(model, overrides=("training.epochs=3",), **where)


def test_one_promotion_of_a_model_at_a_time(
    model: str, forced: dict[str, Any], mlflow_uri: str, tmp_path: Path
) -> None:
    take(shared_engine(mlflow_uri, tmp_path), f"promote {model}", holder="another")
    with pytest.raises(ClusterError, match="held by another"):
        promote(model, **forced)


def test_unreachable_registry_stops_a_promotion(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="does not exist"):
        promote("x", tracking_uri=f"sqlite:///{tmp_path}/absent/mlflow.db", state_path=tmp_path)


# --- decided by the gate ---


def spoiled(adapter: Path, folder: Path) -> Path:
    """The adapter with its classes turned by one: wrong wherever the original is right."""
    shutil.copytree(adapter, folder)
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    for name in ("head.out_proj.weight", "head.out_proj.bias"):
        tensors[name] = np.roll(tensors[name], 1, axis=0)
    save_file(tensors, file)
    return folder


@pytest.fixture
def two(
    tiny_adapter: Callable[[str], tuple[Path, Any]], tmp_path: Path
) -> tuple[Path, Path, dict[str, Any]]:
    """An adapter, a spoiled copy, and the configuration of documents that the first one answers
    right, mostly.
    """
    from components.inference.classifier import load_classifier

    good, _ = tiny_adapter("longformer")
    bad = spoiled(good, tmp_path / "spoiled")
    texts = sample_texts(90)
    classifier = load_classifier(good, cache_path=tmp_path / "cache")
    labels = [answer["label"] for answer in classifier.answers(texts)]
    for index in range(0, 90, 10):
        labels[index] = labels[(index + 1) % 90]
    files = {}
    splits = {"train": range(30), "validation": range(30, 45), "test": range(45, 90)}
    for split, rows in splits.items():
        file = tmp_path / f"{split}.jsonl"
        lines = [json.dumps({"text": f"{texts[row]} {row}", "label": labels[row]}) for row in rows]
        file.write_text("\n".join(lines) + "\n")
        files[split] = str(file)
    rules = {
        "confirm_seeds": 0,
        "max_nll_increase": None,
        "max_brier_increase": None,
        "max_ece_increase": None,
    }
    return good, bad, {"data": {"files": files, "max_tokens": 96}, "gate": rules}


def with_cache(mlflow_uri: str, folder: Path) -> dict[str, Any]:
    """Where the gate finds registry, leases and backbones."""
    return {"tracking_uri": mlflow_uri, "state_path": folder, "cache_path": folder / "cache"}


def test_the_gate_promotes_what_is_better_and_refuses_the_way_back(
    two: tuple[Path, Path, dict[str, Any]], mlflow_uri: str, tmp_path: Path
) -> None:
    good, bad, config = two
    name, tracker = next(NAMES), open_tracker("mlflow", mlflow_uri)
    register(tracker, name, bad, good, config=config)
    where = with_cache(mlflow_uri, tmp_path)
    tried = promote(name, dry_run=True, **where)
    assert tried.decision is not None and tried.decision.verdict == "promote"
    assert [entry.action for entry in tracker.history(name)] == ["found"]
    report = promote(name, **where)
    assert report.decision is not None and report.decision.gain is not None
    assert (report.changed, report.decision.documents) == (True, 45)
    assert report.decision.gain.gain > 0.5
    refused = promote(name, version=1, **where)
    assert refused.refused is not None and refused.refused.startswith("rejected: the challenger")
    assert refused.decision is not None
    assert (refused.changed, refused.decision.verdict) == (False, "reject")
    assert refused.decision.number == 2, "the second decision on these documents"
    rollback(name, tracking_uri=mlflow_uri, state_path=tmp_path)
    again = promote(name, version=2, **where)
    assert again.decision is not None and again.decision.verdict == "hold"
    assert "rolled back before" in again.decision.reasons[0]
    entries = tracker.history(name)
    assert [entry.action for entry in entries] == [
        "found",
        "promoted",
        "rejected",
        "rolled_back",
        "held",
    ]
    assert entries[1].test_set == entries[2].test_set != ""
    version = tracker.resolve(f"models:/{name}/2")
    assert version.tags["gate"] == "hold" and "Gate: promote: " in version.description
    run_id, file = entries[1].evidence.removeprefix("runs:/").split("/", 1)
    stored = tracker.read_dict(run_id, file)
    assert stored["verdict"] == "promote" and stored["documents"] == 45


def test_other_seeds_decide_too_and_without_them_nothing_is_decided(
    two: tuple[Path, Path, dict[str, Any]], mlflow_uri: str, tmp_path: Path
) -> None:
    good, bad, config = two
    name, tracker = next(NAMES), open_tracker("mlflow", mlflow_uri)
    register(tracker, name, bad, good, config=config)
    where = with_cache(mlflow_uri, tmp_path) | {"overrides": ("gate.confirm_seeds=2",)}
    asked = promote(name, **where)
    assert (asked.action, asked.changed) == ("held", False)
    assert "trained with 0 other seeds, gate.confirm_seeds asks for 2" in asked.reason
    assert tracker.history(name)[-1].test_set == "", "these documents have not decided"
    version = tracker.resolve(f"models:/{name}/2")
    for seed in (11, 12):  # both of them are as bad as the champion
        tracker.log_folder(version.run_id, bad, confirmation_of(seed))
    tracker.annotate(version, tags={CONFIRMED_SEEDS: "11,12"}, line="")
    report = promote(name, dry_run=True, **where)
    assert report.decision is not None and report.decision.gain is not None
    assert (report.decision.seeds, report.decision.number) == (3, 1)
    alone = promote(name, dry_run=True, **{**where, "overrides": ()}).decision
    assert alone is not None and alone.gain is not None
    assert report.decision.gain.gain == pytest.approx(alone.gain.gain / 3)


def test_a_model_that_lost_its_champion_takes_the_next_version_as_its_first(
    model: str, mlflow_uri: str, tmp_path: Path
) -> None:
    tracker = open_tracker("mlflow", mlflow_uri)
    client: Any = tracker.client  # type: ignore[attr-defined]
    client.delete_registered_model_alias(model, "champion")
    report = promote(model, tracking_uri=mlflow_uri, state_path=tmp_path)
    assert (report.action, report.version, report.previous) == ("first", 2, None)
    assert report.moved and report.decision is None
    assert tracker.history(model)[-1].reason.startswith("the model had no champion")


def test_a_search_that_is_continued_asks_the_gate_once(
    two: tuple[Path, Path, dict[str, Any]], mlflow_uri: str, tmp_path: Path
) -> None:
    good, bad, config = two
    name, tracker = next(NAMES), open_tracker("mlflow", mlflow_uri)
    settings = PromotionSettings.model_validate(config)
    where = with_cache(mlflow_uri, tmp_path) | {"settings": settings}
    register(tracker, name, bad, config=config)
    first = settle(tracker, name, 1, **where)
    assert (first.action, first.moved, first.decision) == ("first", True, None)
    register(tracker, name, good, config=config)

    def lost() -> None:
        raise ClusterError("the lease was lost")

    with pytest.raises(ClusterError, match="lost"):
        settle(tracker, name, 2, before_change=lost, **where)
    assert [entry.action for entry in tracker.history(name)] == ["first"]
    promoted = settle(tracker, name, 2, **where)
    again = settle(tracker, name, 2, **where)
    assert (promoted.action, promoted.previous) == (again.action, again.previous) == ("promoted", 1)
    assert again.decision is None and again.moved
    assert [entry.action for entry in tracker.history(name)] == ["first", "promoted"]


def test_another_label_set_is_rejected_before_anything_is_loaded(
    two: tuple[Path, Path, dict[str, Any]], mlflow_uri: str, tmp_path: Path
) -> None:
    good, bad, config = two
    adapter = bad / "adapter_config.json"
    values = json.loads(adapter.read_text())
    values["head"]["labels"] = ["politics", "space", "weather"]
    adapter.write_text(json.dumps(values))
    name, tracker = next(NAMES), open_tracker("mlflow", mlflow_uri)
    register(tracker, name, bad, good, config=config)
    report = promote(name, tracking_uri=mlflow_uri, state_path=tmp_path)
    assert report.decision is not None and report.decision.verdict == "reject"
    assert "label set: the challenger has politics, space, sports" in report.decision.reasons[0]
    assert tracker.resolve(f"models:/{name}@champion").version == 1
