"""What is taken over from another adapter, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from components.adapters import (
    ClassificationHeadConfig,
    LoraConfig,
    PrefixPropagationConfig,
    PrefixTuningConfig,
    adapt,
    save_adapter,
)
from components.errors import ConfigError
from components.training.warm_start import start_from

LABELS = ("a", "b", "c")


def model_of(backbone: Any, adapter: Any, *, labels: tuple[str, ...] = LABELS, seed: int) -> Any:
    torch.manual_seed(seed)
    head = ClassificationHeadConfig(num_labels=len(labels), labels=labels)
    return adapt(backbone, adapter, head).eval()


@pytest.fixture
def champion(tiny_longformer: Callable[..., Any], tmp_path: Path) -> tuple[Any, Path]:
    """A model with prefix length 4, and its folder."""
    model = model_of(tiny_longformer(), PrefixPropagationConfig(prefix_length=4), seed=1)
    return model, save_adapter(model, tmp_path / "champion")


def test_of_the_same_length_everything_is_taken_over(
    champion: tuple[Any, Path], tiny_longformer: Callable[..., Any]
) -> None:
    before, folder = champion
    now = model_of(tiny_longformer(), PrefixPropagationConfig(prefix_length=4), seed=2)
    text = torch.randint(4, 100, (2, 20), generator=torch.Generator().manual_seed(0))
    assert not torch.equal(now(input_ids=text).logits, before(input_ids=text).logits)
    assert set(start_from(now, folder, labels=LABELS)) == set(now.trainable_parameters())
    assert torch.equal(now(input_ids=text).logits, before(input_ids=text).logits)


@pytest.mark.parametrize("length", [2, 7])
def test_another_length_keeps_the_rows_that_both_have(
    champion: tuple[Any, Path], tiny_longformer: Callable[..., Any], length: int
) -> None:
    before, folder = champion
    fresh = model_of(tiny_longformer(), PrefixPropagationConfig(prefix_length=length), seed=3)
    drawn = {name: value.detach().clone() for name, value in fresh.trainable_parameters().items()}
    start_from(fresh, folder, labels=LABELS)
    values = before.trainable_parameters()
    (prefix,) = [name for name in drawn if drawn[name].shape != values[name].shape]
    common, now = min(length, 4), fresh.trainable_parameters()
    assert torch.equal(now[prefix][:, :common], values[prefix][:, :common])
    assert torch.equal(now[prefix][:, common:], drawn[prefix][:, common:])
    assert all(torch.equal(now[name], values[name]) for name in drawn if name != prefix)


def test_a_reparametrised_prefix_starts_afresh_beside_the_known_head(
    champion: tuple[Any, Path], tiny_longformer: Callable[..., Any]
) -> None:
    adapter = PrefixPropagationConfig(
        prefix_length=4, reparametrization="mlp", reparametrization_hidden=8
    )
    taken = start_from(model_of(tiny_longformer(), adapter, seed=4), champion[1], labels=LABELS)
    assert taken and not [name for name in taken if name.startswith("adapter.")]


def test_a_rank_counts_as_a_length(tiny_longformer: Callable[..., Any], tmp_path: Path) -> None:
    before = model_of(tiny_longformer(), LoraConfig(rank=2), seed=1)
    folder = save_adapter(before, tmp_path / "lora")
    now = model_of(tiny_longformer(), LoraConfig(rank=4), seed=2)
    assert set(start_from(now, folder, labels=LABELS)) == set(now.trainable_parameters())


@pytest.mark.parametrize(
    ("adapter", "labels", "line"),
    [
        (PrefixTuningConfig(prefix_length=4), LABELS, "has method prefix_propagation"),
        (
            PrefixPropagationConfig(prefix_length=4),
            ("a", "b", "d"),
            r"has labels \['a', 'b', 'c'\]",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(
    champion: tuple[Any, Path],
    tiny_longformer: Callable[..., Any],
    adapter: Any,
    labels: tuple[str, ...],
    line: str,
) -> None:
    model = model_of(tiny_longformer(), adapter, labels=labels, seed=2)
    with pytest.raises(ConfigError, match=line):
        start_from(model, champion[1], labels=labels)


def test_a_head_of_another_form_is_refused(
    champion: tuple[Any, Path], tiny_longformer: Callable[..., Any]
) -> None:
    """Its projection was learnt behind a hidden layer."""
    head = ClassificationHeadConfig(num_labels=3, labels=LABELS, form="linear")
    model = adapt(tiny_longformer(), PrefixPropagationConfig(prefix_length=4), head)
    with pytest.raises(ConfigError, match=r"has head.form mlp, this training has linear"):
        start_from(model, champion[1], labels=LABELS)
