"""The rungs of the length ladder as an engine takes them: offloaded inputs of layers change no
gradient.

Not covered: memory of a GPU, the only place that offloading frees. Laws over ranks and stages:
test_laws.py.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from components.adapters import ClassificationHeadConfig, PrefixPropagationConfig, adapt
from components.config import ExperimentConfig, validate
from components.errors import ConfigError
from components.training.engine import Engine, build_engine
from components.training.world import World
from tests.conftest import build_tiny_decoder

HEAD = ClassificationHeadConfig(num_labels=2, pooling="last")
ROWS = 1100
"""So many that a layer's input is not too small to be carried over."""


def experiment(**training: Any) -> Any:
    values = {
        "name": "ladder",
        "backbone": {"name_or_path": "x", "family": "decoder"},
        "head": {"pooling": "last"},
        "data": {"files": {"train": "x.jsonl"}},
        "training": training,
    }
    return validate(ExperimentConfig, values).train_config()


def gradients(*, offloads: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)
    backbone = build_tiny_decoder(
        hidden_size=256, num_hidden_layers=3, max_position_embeddings=2 * ROWS
    )
    backbone.activation_checkpointing_enable(
        activation_checkpointing_kwargs={"use_reentrant": False}
    )
    model = adapt(backbone, PrefixPropagationConfig(prefix_length=4), HEAD).train()
    trained = model.trainable_parameters()
    optimizer = torch.optim.AdamW(trained.values())
    engine = Engine(model, optimizer, trained, (1e-3,), stage=0, offloads=offloads)
    ids = torch.randint(3, 90, (1, ROWS), generator=torch.Generator().manual_seed(1))
    engine.forward(input_ids=ids, labels=torch.tensor([1])).loss.backward()
    return {name: each.grad for name, each in trained.items() if each.grad is not None}


def test_an_engine_that_offloads_gives_the_same_gradients_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, carried, stock = gradients(offloads=False), [], torch.empty

    def counted(*given: Any, **options: Any) -> Tensor:
        if "pin_memory" in options:  # what is carried over, and nothing else
            carried.append(tuple(given[0]))
        return stock(*given, **options)

    monkeypatch.setattr(torch, "empty", counted)
    moved = gradients(offloads=True)
    monkeypatch.undo()
    assert carried.count((1, ROWS + 4, 256)) >= 2
    assert kept.keys() == moved.keys()
    assert all(torch.equal(kept[name], moved[name]) for name in kept)


def test_on_a_cpu_nothing_is_offloaded() -> None:
    config = experiment(offload_activations=True, gradient_checkpointing=True)
    model = adapt(build_tiny_decoder(), PrefixPropagationConfig(), HEAD)
    world = World(rank=0, size=1, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match="in main memory already"):
        build_engine(model, config, world)
