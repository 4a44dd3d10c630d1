"""A trial on kept states is the trial that reads its documents anew, over ranks and ZeRO stages."""

import copy
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.errors import ConfigError
from components.settings import set_path
from tests.components.training.ranks import run_ranks
from tests.toy import make_experiment

# Float32 sums in another order, over three steps of AdamW on a toy model.
SAME_UP_TO_ROUNDING = 2e-5
PLACEMENTS = {"longformer": "one_way", "decoder": "suffix"}


def experiment(folder: Path, kind: str) -> dict[str, Any]:
    from tests.conftest import build_tiny_decoder, build_tiny_longformer

    longformer = kind == "longformer"
    values = make_experiment(
        folder / kind,
        build_tiny_longformer(initializer_range=0.2)
        if longformer
        else build_tiny_decoder(pad_token_id=1),
        **{
            "head.pooling": "last",
            "training.epochs": 1,
            "training.max_steps": 3,
            "adapter.dropout": 0.0,
        },
    )
    set_path(values, "adapter.placement", PLACEMENTS[kind])
    return values


def case(values: dict[str, Any], name: str, **changes: Any) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    for path, value in changes.items():
        set_path(changed, path.replace("__", "."), value)
    return {"name": name, "values": changed}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLACEMENTS)
def test_kept_equals_anew_over_ranks_and_stages(kind: str, tmp_path: Path) -> None:
    values = experiment(tmp_path, kind)
    alone = {"training__micro_batch_size": 1, "training__gradient_accumulation_steps": 4}
    kept = {"training__text_states": "kept"}
    one = [
        case(values, "anew", **alone),
        case(values, "kept", **alone, **kept),
        case(values, "together", **kept),
    ]
    found = run_ranks(tmp_path / "one", one, size=1)
    assert found["kept"]["digest"] == found["anew"]["digest"]
    two = [
        case(values, f"kept {stage}", training__micro_batch_size=2, zero__stage=stage, **kept)
        for stage in (0, 1, 2)
    ]
    two += [case(values, "anew 3", training__micro_batch_size=2, zero__stage=3)]
    for each in two:
        found |= run_ranks(tmp_path / each["name"], [each], size=2)
    for name in ("together", *(each["name"] for each in two)):
        for key in ("losses", "validation"):
            expected = pytest.approx(found["anew"][key], abs=SAME_UP_TO_ROUNDING)
            assert found[name][key] == expected, (name, key)


def test_kept_states_of_a_text_that_sees_the_prefix_are_refused_by_name(tmp_path: Path) -> None:
    values = experiment(tmp_path, "longformer")
    set_path(values, "adapter.placement", "prefix")
    set_path(values, "training.text_states", "kept")
    with pytest.raises(ConfigError, match=r"set adapter\.placement to one_way, or"):
        validate(ExperimentConfig, values)
