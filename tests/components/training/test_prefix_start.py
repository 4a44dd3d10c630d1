"""A start from a text and a linear head train the same over ZeRO stages and ranks, and resumed as
without interruption.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.settings import set_path
from tests.components.training.ranks import run_ranks
from tests.toy import make_experiment

pytestmark = pytest.mark.slow
# Float32 sums in another order, over three steps of AdamW on a toy model.
SAME_UP_TO_ROUNDING = 2e-5
TEXT = {"adapter__init": "text", "adapter__init_text": "w3 w1 w4"}
STARTS: dict[str, dict[str, Any]] = {
    "text": TEXT,
    "prompt text": {"adapter__method": "prompt_tuning", **TEXT},
    "zeros": {"adapter__init": "zeros"},
    "linear": {"head__form": "linear"},
}
VOCABULARIES = {"whole": 101, "in shards": 104}
"""Rows of the embedding: on two ranks a shard of 101 rows begins within one, so that the embedding
is gathered; 104 are looked up where they are.
"""
STAGES = (1, 2, 3)


def case(
    name: str, values: dict[str, Any], *, run: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    for path, value in changes.items():
        set_path(changed, path.replace("__", "."), value)
    return {"name": name, "values": changed, **(run or {})}


def experiment(folder: Path, vocabulary: int) -> dict[str, Any]:
    from tests.conftest import build_tiny_longformer

    backbone = build_tiny_longformer(initializer_range=0.2, vocab_size=vocabulary)
    changes: dict[str, Any] = {"training.epochs": 1, "training.max_steps": 3}
    return make_experiment(folder, backbone, **changes)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("starts")
    one: list[dict[str, Any]] = []
    two: list[dict[str, Any]] = []
    for kind, vocabulary in VOCABULARIES.items():
        values = experiment(folder / kind, vocabulary)
        for name, changes in STARTS.items():
            one.append(case(f"{kind}, {name} 0", values, **changes))
            for stage in STAGES:
                halved = {"training__micro_batch_size": 2, "zero__stage": stage}
                two.append(case(f"{kind}, {name} {stage}", values, **changes, **halved))
    values = experiment(folder / "resumed", 101)
    dropping = TEXT | {"adapter__dropout": 0.1, "head__dropout": 0.1, "head__form": "linear"}
    dropping |= {"training__epochs": 2, "training__max_steps": None}
    halves = str(folder / "interrupted")
    one += [
        case("uninterrupted", values, **dropping),
        case("interrupted", values, run={"folder": halves, "stop_after": 1}, **dropping),
        case("resumed", values, run={"folder": halves, "resume": True}, **dropping),
    ]
    return run_ranks(folder / "one", one, size=1) | run_ranks(folder / "two", two, size=2)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("kind", VOCABULARIES)
def test_zero_stages_and_world_sizes_agree(
    results: dict[str, Any], kind: str, name: str, stage: int
) -> None:
    alone, found = results[f"{kind}, {name} 0"], results[f"{kind}, {name} {stage}"]
    assert found["parameters"] == alone["parameters"]
    for key in ("losses", "validation"):
        assert found[key] == pytest.approx(alone[key], abs=SAME_UP_TO_ROUNDING), key
    for name_of, values in alone["best"].items():
        largest = max(abs(value) for value in values)
        assert found["best"][name_of] == pytest.approx(values, abs=1e-3 * largest), name_of


def test_starts_differ(results: dict[str, Any]) -> None:
    found = {tuple(results[f"whole, {name} 0"]["validation"]) for name in STARTS}
    assert len(found) == len(STARTS)


def test_resumed_equals_uninterrupted_bit_for_bit(results: dict[str, Any]) -> None:
    assert results["interrupted"]["outcome"] == "stopped"
    assert results["resumed"]["losses"] == results["uninterrupted"]["losses"]
    assert results["resumed"]["digest"] == results["uninterrupted"]["digest"]


def test_an_artifact_of_a_training_says_what_it_started_from(tmp_path: Path) -> None:
    from components.tasks import prepare
    from components.training.finalize import finalize
    from components.training.session import open_session
    from components.training.trial import run_trial
    from components.training.world import join_world

    values = case("", experiment(tmp_path / "toy", 101), **TEXT, head__form="linear")["values"]
    config = validate(ExperimentConfig, values).train_config()
    cache = tmp_path / "cache"
    session = open_session(config, join_world(), cache_path=cache)
    data = prepare(config.data, session.tokenizer, tokenizer_id="toy", cache_path=cache)
    with session.engine(config, data.labels) as (model, _):
        ids = session.tokenizer.convert_tokens_to_ids(["w3", "w1", "w4", "w3"])
        rows = session.backbone.get_input_embeddings().weight[ids]
        assert (model.adapter.prefix[0] == rows).all() and not model.adapter.prefix[1:].any()
    run_trial(session, data, config, checkpoint_folder=tmp_path / "trial" / "checkpoint")
    final = finalize(
        session,
        data,
        config,
        checkpoint_folder=tmp_path / "trial" / "checkpoint",
        artifact_folder=tmp_path / "adapter",
        code_version="test",
    )
    stored = json.loads((final.folder / "adapter_config.json").read_text())
    assert (stored["init"], stored["init_text"]) == ("text", "w3 w1 w4")
    assert stored["head"]["form"] == "linear"
    assert final.head_parameters == 3 * 32 + 3
