"""A quantised backbone trains the same at ZeRO stages 0 to 2, on one and on two ranks, by every
kind that stays quantised; one that is read into plain numbers at stage 3 too.
"""

import copy
from pathlib import Path
from typing import Any

import pytest

from components.errors import ConfigError
from components.settings import set_path
from tests.components.backbones.quantised_checkpoints import SIZES, fp8, needs
from tests.components.training.ranks import run_ranks
from tests.conftest import build_tiny_decoder, build_tiny_longformer
from tests.toy import make_experiment

# Float32 sums in another order, over three steps of AdamW on a toy model.
SAME_UP_TO_ROUNDING = 2e-5
# int8 of bitsandbytes rounds inputs to 8 bits: what differs in the last digit may be rounded apart.
SAME_UP_TO_ROUNDED_INPUTS = 2e-2
STEPS = {"training.epochs": 1, "training.max_steps": 3}
METHODS: dict[str, dict[str, Any]] = {
    "prefix_propagation": {"prefix_length": 3, "dropout": 0.0},
    "prefix_tuning": {"prefix_length": 3, "dropout": 0.0},
    "lora": {"rank": 2},
    "head_only": {},
}


def cases(values: dict[str, Any], *, stage: int, ranks: int, **backbone: Any) -> list[Any]:
    found = []
    for method, settings in METHODS.items():
        changed = copy.deepcopy(values)
        set_path(changed, "adapter", {"method": method, **settings})
        set_path(changed, "training.micro_batch_size", 4 // ranks)
        set_path(changed, "zero.stage", stage)
        for name, value in backbone.items():
            set_path(changed, f"backbone.{name}", value)
        kind = backbone.get("quantization")
        family = values["backbone"]["family"]
        found.append({"name": f"{family} {kind} {method}", "values": changed})
    return found


@pytest.mark.slow
def test_stages_and_ranks_train_the_same_on_quantised_weights(tmp_path: Path) -> None:
    needs("bitsandbytes")
    longformer = make_experiment(
        tmp_path / "longformer", build_tiny_longformer(**SIZES, initializer_range=0.2), **STEPS
    )
    decoder = make_experiment(
        tmp_path / "decoder",
        build_tiny_decoder(**SIZES, pad_token_id=1),
        **{"head.pooling": "last", **STEPS},
    )

    def every(stage: int, ranks: int) -> list[Any]:
        return [
            case
            for values in (longformer, decoder)
            for kind in ("nf4", "int8")
            for case in cases(values, stage=stage, ranks=ranks, quantization=kind)
        ]

    expected = run_ranks(tmp_path / "one", every(0, 1), size=1)
    for stage in (1, 2):
        found = run_ranks(tmp_path / f"stage{stage}", every(stage, 2), size=2)
        for name, result in expected.items():
            tolerance = SAME_UP_TO_ROUNDING if "nf4" in name else SAME_UP_TO_ROUNDED_INPUTS
            assert found[name]["losses"] == pytest.approx(result["losses"], rel=tolerance), name


@pytest.mark.slow
def test_what_is_read_into_plain_numbers_trains_at_stage_3_too(tmp_path: Path) -> None:
    values = make_experiment(
        tmp_path / "decoder",
        build_tiny_decoder(**SIZES, pad_token_id=1),
        **{"head.pooling": "last", **STEPS},
    )
    fp8(Path(values["backbone"]["name_or_path"]), pad_token_id=1)
    expected = run_ranks(tmp_path / "one", cases(values, stage=0, ranks=1), size=1)
    found = run_ranks(tmp_path / "two", cases(values, stage=3, ranks=2), size=2)
    for name, result in expected.items():
        assert found[name]["losses"] == pytest.approx(result["losses"], rel=SAME_UP_TO_ROUNDING)


def test_what_stays_quantised_is_not_sharded(tmp_path: Path) -> None:
    import torch

    from components.backbones import inspect_backbone
    from components.config import ExperimentConfig, validate
    from components.planning import check_feasible
    from components.training.session import open_session
    from components.training.world import World

    needs("bitsandbytes")
    values = make_experiment(
        tmp_path,
        build_tiny_decoder(**SIZES, pad_token_id=1),
        **{"head.pooling": "last", "zero.stage": 3, "backbone.quantization": "nf4"},
    )
    config = validate(ExperimentConfig, values).train_config()
    world = World(rank=0, size=1, device=torch.device("cpu"))
    reason = r"zero.stage 3 .* quantised \(nf4\): set zero.stage 0"
    with pytest.raises(ConfigError, match=reason):
        open_session(config, world, cache_path=tmp_path)
    with pytest.raises(ConfigError, match=reason):
        check_feasible([("", config)], inspect_backbone(config.backbone))
