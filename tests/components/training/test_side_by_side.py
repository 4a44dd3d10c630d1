"""Trainings side by side are the trainings alone: metrics, parameters and moments of checkpoints,
whatever they differ in, over ranks, ZeRO stages, kept and anew.

Not covered here: GPUs and NCCL (the same code, other collectives).
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.settings import set_path
from tests.components.training.side_by_side_ranks import run_groups
from tests.toy import make_experiment

pytestmark = pytest.mark.slow
ROUNDING = 1e-6
"""Of a metric: float32 sums in another order."""
OF_TENSORS = 5
"""Times as much of a tensor's largest value: moments are means of gradients that cancel, which
their rounding does not, and AdamW divides by them. The most that was seen is 1.7.
"""
EPS = 1e-4
"""AdamW divides a gradient by its own size: one that is all rounding would count as any other."""
PLACEMENTS = {"longformer": "one_way", "decoder": "suffix"}
DIFFERENT: tuple[dict[str, Any], ...] = (
    {"adapter__prefix_length": 4},
    {"adapter__prefix_length": 2, "optimizer__learning_rate": 3e-3, "head__form": "linear"},
    {
        "adapter__prefix_length": 7,
        "adapter__init": "text",
        "adapter__init_text": "w3 w1 w4",
        "optimizer__head_learning_rate": 1e-3,
    },
    {"optimizer__max_gradient_norm": 0.05, "optimizer__weight_decay": 0.1},
    {"optimizer__lr_schedule": "cosine", "optimizer__warmup_ratio": 0.5, "seed": 3},
    {"training__micro_batch_size": 2, "training__gradient_accumulation_steps": 2},
    {"training__max_steps": 4, "adapter__dropout": 0.2, "head__dropout": 0.1},
)
"""Of trainings that are side by side."""


def experiment(folder: Path, kind: str) -> dict[str, Any]:
    from tests.conftest import build_tiny_decoder, build_tiny_longformer

    backbone = (
        build_tiny_longformer(initializer_range=0.2, hidden_dropout_prob=0.1)
        if kind == "longformer"
        else build_tiny_decoder(pad_token_id=1)
    )
    values = make_experiment(folder / kind, backbone, **{"head.pooling": "last"})
    set_path(values, "adapter.placement", PLACEMENTS[kind])
    set_path(values, "optimizer.eps", EPS)
    return values


def member(
    values: dict[str, Any], name: str, run: dict[str, Any] | None = None, **changes: Any
) -> Any:
    changed = copy.deepcopy(values)
    for path, value in changes.items():
        set_path(changed, path.replace("__", "."), value)
    return {"name": name, "values": changed, **(run or {})}


def members(values: dict[str, Any], **changes: Any) -> list[Any]:
    return [
        member(values, str(number), **{**changes, **different})
        for number, different in enumerate(DIFFERENT)
    ]


def assert_same(found: dict[str, Any], expected: dict[str, Any], *, rounding: float) -> None:
    for name in ("outcome", "reason", "step"):
        assert found[name] == expected[name]
    assert len(found["history"]) == len(expected["history"])
    for metrics, others in zip(found["history"], expected["history"], strict=True):
        assert metrics == pytest.approx(others, rel=rounding, abs=rounding)
    assert set(found["tensors"]) == set(expected["tensors"])
    for name, values in expected["tensors"].items():
        largest = max(map(abs, values))
        difference = max(
            abs(one - other) for one, other in zip(found["tensors"][name], values, strict=True)
        )
        assert difference <= OF_TENSORS * rounding * largest, (name, difference / largest)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], dict[str, Any]]:
    """Results of all groups on a kind of backbone with so many ranks, run once."""
    folder = tmp_path_factory.mktemp("side_by_side")
    known: dict[tuple[str, int], dict[str, Any]] = {}

    def run(kind: str, size: int) -> dict[str, Any]:
        if (kind, size) not in known:
            values = experiment(folder / f"{kind}{size}", kind)
            groups = groups_of(values) if size == 1 else groups_of_ranks(values)
            known[kind, size] = run_groups(folder / f"run-{kind}{size}", groups, size=size)
        return known[kind, size]

    return run


def groups_of(values: dict[str, Any]) -> list[dict[str, Any]]:
    kept = {"training__text_states": "kept"}
    groups = []
    for name, changes in {"anew": {}, "kept": kept}.items():
        groups += both(name, members(values, **changes))
    for stage in (1, 2):
        groups += both(f"zero {stage}", members(values, zero__stage=stage, **kept))
    recomputed = {"training__gradient_checkpointing": True}
    groups += both("checkpointed", members(values, **recomputed)[:3])
    dropping = {"adapter__dropout": 0.2, "head__dropout": 0.1}
    broken = {"optimizer__learning_rate": 1e37, "optimizer__weight_decay": 1e3}
    beside = {"broken": broken, "healthy": {}}
    # Those beside it leave with a checkpoint after the step in which it is no number any more.
    for ends, run in {"": {}, ", leaving": {"leave_after": 2}}.items():
        groups += [
            {
                "name": f"beside a {name} one{ends}",
                "members": [
                    member(values, "first", run, **dropping),
                    member(values, "second", **changes),
                    member(values, "third", run, adapter__prefix_length=6),
                ],
            }
            for name, changes in beside.items()
        ]
    late = [member(values, "early"), member(values, "late", {"joins": 3}, **dropping)]
    groups += both("a newcomer", late)
    halves = values["cluster"]["storage_path"] + "/halves"
    for name, run in {"left": {"leave_after": 4}, "come back": {"resume": True}}.items():
        pair = [
            member(values, "one", {"folder": f"{halves}-one", **run}, **dropping),
            member(values, "two", {"folder": f"{halves}-two", **run}, adapter__prefix_length=6),
        ]
        groups.append({"name": name, "members": pair})
    whole = [member(values, "one", **dropping), member(values, "two", adapter__prefix_length=6)]
    groups += both("whole", whole)
    told = [member(values, "told", {"stop_after": 3}), member(values, "other", **dropping)]
    groups += both("one is told to stop", told)
    return groups


def groups_of_ranks(values: dict[str, Any]) -> list[dict[str, Any]]:
    halved = {"training__micro_batch_size": 2, "training__text_states": "kept"}
    return [
        group
        for stage in (0, 1, 2)
        for group in both(f"zero {stage}", members(values, zero__stage=stage, **halved))
    ]


def both(name: str, of: list[Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "members": of},
        {"name": f"{name}, apart", "members": of, "apart": True},
    ]


@pytest.mark.parametrize("group", ["anew", "kept", "zero 1", "zero 2", "checkpointed"])
@pytest.mark.parametrize("kind", PLACEMENTS)
def test_side_by_side_is_each_alone(found: Any, kind: str, group: str) -> None:
    results = found(kind, 1)
    for number in range(3 if group == "checkpointed" else len(DIFFERENT)):
        together, alone = (results[f"{name}/{number}"] for name in (group, f"{group}, apart"))
        assert_same(together, alone, rounding=ROUNDING)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_on_two_ranks_too(found: Any, stage: int) -> None:
    results = found("decoder", 2)
    for number in range(len(DIFFERENT)):
        together, alone = (results[f"zero {stage}{apart}/{number}"] for apart in ("", ", apart"))
        assert_same(together, alone, rounding=ROUNDING)


@pytest.mark.parametrize("kind", PLACEMENTS)
def test_one_that_diverges_leaves_the_others_bit_for_bit(found: Any, kind: str) -> None:
    results = found(kind, 1)
    assert results["beside a broken one/second"]["outcome"] == "diverged"
    assert results["beside a healthy one/second"]["outcome"] == "completed"
    # Once it has left, sums have another order.
    for ends, rounding in (("", ROUNDING), (", leaving", 0.0)):
        for name in ("first", "third"):
            broken = results[f"beside a broken one{ends}/{name}"]
            healthy = results[f"beside a healthy one{ends}/{name}"]
            assert_same(broken, healthy, rounding=rounding)


@pytest.mark.parametrize("kind", PLACEMENTS)
def test_one_that_joins_later_is_the_one_alone(found: Any, kind: str) -> None:
    results = found(kind, 1)
    for name in ("early", "late"):
        alone = results[f"a newcomer, apart/{name}"]
        assert_same(results[f"a newcomer/{name}"], alone, rounding=ROUNDING)


@pytest.mark.parametrize("kind", PLACEMENTS)
def test_those_that_left_and_came_back_are_the_uninterrupted_ones(found: Any, kind: str) -> None:
    results = found(kind, 1)
    for name in ("one", "two"):
        assert results[f"left/{name}"]["outcome"] == "left"
        assert_same(results[f"come back/{name}"], results[f"whole/{name}"], rounding=ROUNDING)
        assert_same(results[f"whole/{name}"], results[f"whole, apart/{name}"], rounding=ROUNDING)


@pytest.mark.parametrize("kind", PLACEMENTS)
def test_one_that_is_told_to_stop_leaves_the_other_at_work(found: Any, kind: str) -> None:
    results = found(kind, 1)
    assert results["one is told to stop/told"]["outcome"] == "stopped"
    alone = results["one is told to stop, apart/other"]
    assert_same(results["one is told to stop/other"], alone, rounding=ROUNDING)
