"""What must not change a trial's outcome: ZeRO stage, world size, micro-batches, interruption,
gradient checkpointing, earlier trials of the slot.

Not covered here: GPUs and NCCL (the same code, other collectives).
"""

import copy
from typing import Any

import pytest

from components.settings import set_path
from tests.components.training.ranks import run_ranks
from tests.toy import make_experiment

pytestmark = pytest.mark.slow
# Float32 sums in another order: ten steps of AdamW on a toy model keep losses within this.
SAME_UP_TO_ROUNDING = 2e-5


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from tests.conftest import build_tiny_decoder, build_tiny_longformer

    folder = tmp_path_factory.mktemp("laws")
    base = make_experiment(folder / "longformer", build_tiny_longformer())
    decoder = make_experiment(
        folder / "decoder", build_tiny_decoder(pad_token_id=1), **{"head.pooling": "last"}
    )

    def case(
        name: str,
        values: dict[str, Any] = base,
        *,
        run: dict[str, Any] | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        changed = copy.deepcopy(values)
        for path, value in changes.items():
            set_path(changed, path.replace("__", "."), value)
        return {"name": name, "values": changed, **(run or {})}

    halves = str(folder / "interrupted")
    dropout = {"adapter__dropout": 0.1, "head__dropout": 0.1}
    one = [
        case("first"),
        case(
            "micro 1 accumulate 4",
            training__micro_batch_size=1,
            training__gradient_accumulation_steps=4,
        ),
        case("token budget", training__tokens_per_batch=90),
        case("diverging", optimizer__learning_rate=1e30),
        case("second in the slot"),
        case("longer prefix", adapter__prefix_length=7),
        case("checkpointing", training__gradient_checkpointing=True),
        case("uninterrupted", **dropout),
        case("interrupted", run={"folder": halves, "stop_after": 1}, **dropout),
        case("resumed", run={"folder": halves, "resume": True}, **dropout),
        case("left", run={"folder": halves + "l", "leave_after": 3}, **dropout),
        case("come back", run={"folder": halves + "l", "resume": True}, **dropout),
        case("zero 1", zero__stage=1),
        case("zero 3 alone", zero__stage=3),
        case("bf16", training__precision="bf16"),
        case("decoder", decoder),
        case(
            "reparametrised", adapter__reparametrization="mlp", adapter__reparametrization_hidden=16
        ),
    ]
    head = {"optimizer__head_learning_rate": 1e-3}
    one += [
        case("head rate", **head),
        case("head rate of all", optimizer__head_learning_rate=base["optimizer"]["learning_rate"]),
        case("head rate uninterrupted", **head, **dropout),
        case(
            "head rate interrupted",
            run={"folder": halves + "h", "stop_after": 1},
            **head,
            **dropout,
        ),
        case("head rate resumed", run={"folder": halves + "h", "resume": True}, **head, **dropout),
        case("head rate of head_only", adapter={"method": "head_only"}, **head),
        case(
            "same rate of head_only",
            adapter={"method": "head_only"},
            optimizer__learning_rate=1e-3,
        ),
    ]
    fresh = [case("fresh process", zero__stage=0)]
    halved = {"training__micro_batch_size": 2}
    two = [case(f"zero {stage}", zero__stage=stage, **halved) for stage in (0, 1, 2, 3)]
    two += [
        case("zero 3 again", zero__stage=3, **halved),
        case(
            "zero 3 checkpointing", zero__stage=3, training__gradient_checkpointing=True, **halved
        ),
    ]
    two += [
        case(
            "zero 3 interrupted",
            zero__stage=3,
            run={"folder": halves + "3", "stop_after": 1},
            **halved,
            **dropout,
        )
    ]
    two += [
        case(
            "zero 3 resumed",
            zero__stage=3,
            run={"folder": halves + "3", "resume": True},
            **halved,
            **dropout,
        )
    ]
    two += [case("zero 3 uninterrupted", zero__stage=3, **halved, **dropout)]
    two += [
        case("zero 2 bf16", zero__stage=2, training__precision="bf16", **halved),
        case("zero 3 bf16", zero__stage=3, training__precision="bf16", **halved),
    ]
    two += [case("decoder zero 3", decoder, zero__stage=3, **halved)]
    for stage in (1, 2, 3):
        interrupted = {"folder": f"{halves}h{stage}", "stop_after": 1}
        resumed = {"folder": f"{halves}h{stage}", "resume": True}
        settings = {"zero__stage": stage, **halved, **head}
        two += [
            case(f"head rate zero {stage}", **settings),
            case(f"head rate zero {stage} interrupted", run=interrupted, **settings),
            case(f"head rate zero {stage} resumed", run=resumed, **settings),
        ]
    two += [
        case("on two ranks", zero__stage=2, run={"folder": halves + "2", "stop_after": 1}, **halved)
    ]
    # A step's documents are those of two ranks, whoever is there: it is left after step 3, between
    # two evaluations.
    of_two = {"folder": halves + "e", "ranks": 2}
    two += [case("left by two", zero__stage=2, run=of_two | {"leave_after": 3}, **halved)]
    three = [
        case("continued on one rank", zero__stage=0, run={"folder": halves + "2", "resume": True}),
        case("gone on with one of two", run=of_two | {"resume": True}, **halved),
    ]
    return {
        "one": run_ranks(folder / "one", one, size=1),
        "fresh": run_ranks(folder / "fresh", fresh, size=1),
        "two": run_ranks(folder / "two", two, size=2),
        "continued": run_ranks(folder / "three", three, size=1),
    }


def same(
    one: dict[str, Any], other: dict[str, Any], tolerance: float = SAME_UP_TO_ROUNDING
) -> None:
    for key in ("losses", "validation"):
        assert one[key] == pytest.approx(other[key], abs=tolerance), key


def test_second_trial_in_a_slot_equals_the_same_trial_in_a_fresh_process(
    results: dict[str, Any],
) -> None:
    assert (
        results["one"]["second in the slot"]["digest"]
        == results["fresh"]["fresh process"]["digest"]
    )
    assert results["one"]["second in the slot"] == results["one"]["first"]
    assert results["two"]["zero 3 again"] == results["two"]["zero 3"]


def test_training_learns_and_the_prefix_length_matters(results: dict[str, Any]) -> None:
    first, longer = results["one"]["first"], results["one"]["longer prefix"]
    assert first["losses"][-1] < first["losses"][0]
    assert longer["losses"] != first["losses"]
    assert longer["parameters"] - first["parameters"] == 3 * 2 * 32  # (7 - 4) positions x L x D


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_stages_agree(results: dict[str, Any], stage: int) -> None:
    same(results["two"][f"zero {stage}"], results["two"]["zero 0"])


def test_zero_on_one_rank_agrees(results: dict[str, Any]) -> None:
    same(results["one"]["zero 1"], results["one"]["first"])
    same(results["one"]["zero 3 alone"], results["one"]["first"])


def test_world_size_does_not_matter(results: dict[str, Any]) -> None:
    same(results["two"]["zero 0"], results["one"]["first"])


def test_micro_batches_do_not_matter(results: dict[str, Any]) -> None:
    same(results["one"]["micro 1 accumulate 4"], results["one"]["first"])
    same(results["one"]["token budget"], results["one"]["first"])


def test_resumed_equals_uninterrupted_bit_for_bit(results: dict[str, Any]) -> None:
    assert results["one"]["interrupted"]["outcome"] == "stopped"
    assert results["one"]["resumed"] == results["one"]["uninterrupted"]
    assert results["two"]["zero 3 resumed"] == results["two"]["zero 3 uninterrupted"]


def test_left_between_two_evaluations_equals_uninterrupted_bit_for_bit(
    results: dict[str, Any],
) -> None:
    left = results["one"]["left"]
    assert left["outcome"] == "left" and left["reason"].startswith("left its place after step 3 of")
    assert results["one"]["come back"] == results["one"]["uninterrupted"]


def test_with_fewer_ranks_than_it_began_with_it_takes_the_same_documents_in_a_step(
    results: dict[str, Any],
) -> None:
    assert results["two"]["left by two"]["outcome"] == "left"
    same(results["continued"]["gone on with one of two"], results["two"]["zero 2"])


def test_checkpoint_is_independent_of_world_size_and_stage(results: dict[str, Any]) -> None:
    same(results["continued"]["continued on one rank"], results["one"]["first"])


def test_head_rate_reaches_the_head_alone(results: dict[str, Any]) -> None:
    """A smaller head rate changes the trial; the rate of all given twice does not."""
    one = results["one"]
    assert one["head rate"]["losses"] != one["first"]["losses"]
    same(one["head rate of all"], one["first"])
    assert one["head rate of head_only"]["digest"] == one["same rate of head_only"]["digest"]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_head_rate_holds_over_stages_ranks_and_interruptions(
    results: dict[str, Any], stage: int
) -> None:
    two = results["two"]
    same(two[f"head rate zero {stage}"], results["one"]["head rate"])
    assert two[f"head rate zero {stage} resumed"] == two[f"head rate zero {stage}"]


def test_head_rate_resumed_equals_uninterrupted_bit_for_bit(results: dict[str, Any]) -> None:
    assert results["one"]["head rate resumed"] == results["one"]["head rate uninterrupted"]


def test_gradient_checkpointing_changes_nothing(results: dict[str, Any]) -> None:
    same(results["one"]["checkpointing"], results["one"]["first"], tolerance=1e-6)
    same(results["two"]["zero 3 checkpointing"], results["two"]["zero 3"], tolerance=1e-6)


def test_divergence_is_an_outcome_with_a_reason(results: dict[str, Any]) -> None:
    diverged = results["one"]["diverging"]
    assert diverged["outcome"] == "diverged" and "optimizer.learning_rate" in diverged["reason"]


def test_bf16_backbone_stays_near_float32(results: dict[str, Any]) -> None:
    # bf16 has 8 bits of mantissa: a few per cent of the loss.
    same(results["one"]["bf16"], results["one"]["first"], tolerance=0.05)
    same(results["two"]["zero 2 bf16"], results["one"]["bf16"], tolerance=0.02)
    same(results["two"]["zero 3 bf16"], results["one"]["bf16"], tolerance=0.02)


def test_decoder_agrees_under_zero_3(results: dict[str, Any]) -> None:
    same(results["two"]["decoder zero 3"], results["one"]["decoder"])


def test_reparametrised_prefix_is_stored_materialised(results: dict[str, Any]) -> None:
    assert len(results["one"]["reparametrised"]["best"]["adapter.prefix"]) == 2 * 4 * 32
