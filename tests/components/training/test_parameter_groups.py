"""Which parameters train at which peak rate."""

import torch
from torch import nn

from components.config.optimizer import OptimizerConfig
from components.training.engine import Engine, parameter_groups

PARAMETERS = {
    name: nn.Parameter(torch.zeros(2))
    for name in ("adapter.prefix", "head.dense.weight", "head.out")
}


def names(group: dict) -> list[str]:
    return [
        name for name, each in PARAMETERS.items() if any(each is one for one in group["params"])
    ]


def test_without_a_head_rate_there_is_one_group() -> None:
    (group,) = parameter_groups(PARAMETERS, OptimizerConfig(learning_rate=1e-2))
    assert names(group) == list(PARAMETERS) and group["lr"] == 1e-2


def test_a_head_rate_takes_the_head_apart() -> None:
    config = OptimizerConfig(learning_rate=1e-2, head_learning_rate=1e-3)
    others, head = parameter_groups(PARAMETERS, config)
    assert (names(others), others["lr"]) == (["adapter.prefix"], 1e-2)
    assert (names(head), head["lr"]) == (["head.dense.weight", "head.out"], 1e-3)


def test_a_head_without_anything_beside_it_is_one_group_at_its_own_rate() -> None:
    head = {name: value for name, value in PARAMETERS.items() if name.startswith("head.")}
    (group,) = parameter_groups(head, OptimizerConfig(learning_rate=1e-2, head_learning_rate=1e-3))
    assert group["lr"] == 1e-3


def test_the_schedule_scales_every_group() -> None:
    config = OptimizerConfig(learning_rate=1e-2, head_learning_rate=1e-3)
    groups = parameter_groups(PARAMETERS, config)
    optimizer = torch.optim.AdamW(groups)
    engine = Engine(None, optimizer, PARAMETERS, (1e-2, 1e-3), 0)
    engine.set_learning_rates(0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5 * 1e-2, 0.5 * 1e-3]
