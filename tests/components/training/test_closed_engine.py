"""A closed engine leaves the parameters that it trained alone, whenever Python collects it: those
of the backbone belong to the next trial's engine by then.
"""

from pathlib import Path

import pytest
import torch

from components.config import ExperimentConfig, validate
from tests.conftest import build_tiny_longformer
from tests.toy import make_experiment

TYPES = "backbone.embeddings.token_type_embeddings.weight"


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_what_a_closed_engine_s_destructor_does_changes_nothing_that_is_gathered(
    tmp_path: Path, stage: int
) -> None:
    from components.training.engine import whole_parameters
    from components.training.session import open_session
    from components.training.world import join_world

    values = make_experiment(tmp_path, build_tiny_longformer(), zero={"stage": stage})
    config = validate(ExperimentConfig, values).train_config()
    session = open_session(config, join_world(), cache_path=tmp_path / "cache")
    labels = ("alpha", "beta", "gamma")
    with session.engine(config, labels) as (_, first):
        pass
    with session.engine(config, labels) as (_, second):
        first.deepspeed.__del__()
        found = whole_parameters(second)
        for name, parameter in second.parameters.items():
            assert torch.equal(found[name], parameter.detach()), name
        assert found[TYPES].abs().max() > 0
