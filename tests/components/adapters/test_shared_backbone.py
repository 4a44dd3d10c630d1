"""Several adapters on one backbone object: none of them silently answers, or saves, with what
another one has trained there.
"""

from pathlib import Path

import pytest
import torch

from components.adapters import (
    AdaptedModel,
    ClassificationHeadConfig,
    FullFineTuningConfig,
    HeadOnlyConfig,
    LoraConfig,
    PrefixPropagationConfig,
    adapt,
    load_adapter,
    save_adapter,
)
from components.adapters.methods import AdapterConfig
from components.errors import ArtifactError, BackboneError
from tests.components.adapters.harness import build, documents, randomise

HEAD = ClassificationHeadConfig(num_labels=3, pooling="mean")
TOKEN_TYPES = "embeddings.token_type_embeddings.weight"
_, IDS, MASK = documents(1)


def trained(backbone: torch.nn.Module, adapter: AdapterConfig) -> AdaptedModel:
    model = adapt(backbone, adapter, HEAD)
    randomise(model)
    return model.eval()


def logits(model: AdaptedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS, MASK).logits
    return found


@pytest.mark.parametrize(
    "later", [PrefixPropagationConfig(prefix_length=6), HeadOnlyConfig(), LoraConfig(rank=2)]
)
@pytest.mark.parametrize(
    "earlier", [PrefixPropagationConfig(prefix_length=3), FullFineTuningConfig()]
)
def test_after_a_later_adapter_the_earlier_one_refuses_to_answer_and_to_be_saved(
    earlier: AdapterConfig, later: AdapterConfig, tmp_path: Path
) -> None:
    backbone = build("longformer")
    first = trained(backbone, earlier)
    adapt(backbone, later, HEAD)
    for use in (
        lambda: first(IDS, MASK),
        lambda: save_adapter(first, tmp_path / "adapter"),
        first.trainable_parameters,
    ):
        with pytest.raises(BackboneError, match="A later adapter was put on the same backbone"):
            use()
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    "earlier", [PrefixPropagationConfig(prefix_length=3), FullFineTuningConfig()]
)
def test_a_later_adapter_starts_from_the_pretrained_backbone(earlier: AdapterConfig) -> None:
    backbone = build("longformer")
    before = backbone.get_parameter(TOKEN_TYPES).detach().clone()
    trained(backbone, earlier)
    assert not torch.equal(backbone.get_parameter(TOKEN_TYPES), before)
    later = trained(backbone, HeadOnlyConfig())
    assert torch.equal(logits(later), logits(trained(build("longformer"), HeadOnlyConfig())))


def test_a_folder_loads_the_same_whatever_was_loaded_before(tmp_path: Path) -> None:
    for name, adapter in (
        ("lora", LoraConfig(rank=2)),
        ("prefix", PrefixPropagationConfig(prefix_length=3)),
    ):
        save_adapter(trained(build("longformer"), adapter), tmp_path / name)
    backbone = build("longformer")
    once = logits(load_adapter(backbone, tmp_path / "lora"))
    load_adapter(backbone, tmp_path / "prefix")
    assert torch.equal(logits(load_adapter(backbone, tmp_path / "lora")), once)


def test_a_folder_that_is_refused_leaves_the_model_before_it_alone(tmp_path: Path) -> None:
    broken = trained(build("longformer"), PrefixPropagationConfig(prefix_length=3))
    folder = save_adapter(broken, tmp_path / "adapter")
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        tensors | {"head.dense.bias": torch.full((32,), torch.nan)},
        folder / "adapter_model.safetensors",
    )
    backbone = build("longformer")
    good = trained(backbone, PrefixPropagationConfig(prefix_length=4))
    before = logits(good)
    with pytest.raises(ArtifactError, match="not finite"):
        load_adapter(backbone, folder)
    assert torch.equal(logits(good), before)


def test_models_that_train_nothing_in_the_backbone_do_not_disturb_each_other() -> None:
    """So in decoders, whose adapters may be interleaved freely, backward passes included."""
    backbone = build("llama")
    first, second = (
        trained(backbone, PrefixPropagationConfig(prefix_length=length)) for length in (3, 6)
    )
    _, ids, mask = documents(0)
    alone = first(ids, mask).logits
    both = first(ids, mask).logits, second(ids, mask).logits
    (both[0].sum() + both[1].sum()).backward()
    assert torch.equal(both[0], alone)
    bare = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(bare, build("llama")(input_ids=ids, attention_mask=mask).last_hidden_state)
    assert all(
        parameter.grad is not None
        for model in (first, second)
        for parameter in model.trainable_parameters().values()
    )
    assert all(parameter.grad is None for parameter in backbone.parameters())
