"""Random backbones with an adapter on the device that is asked, and documents for them.

The fact a newcomer gets wrong: weights are drawn on the device and in its precision; an 8B decoder
made in float32 on the CPU first would take longer than all that is measured.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

LABELS = 2
FIRST_TOKEN = 5


def longformer(values: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A LongformerModel in training mode."""
    from transformers import LongformerConfig, LongformerModel

    layers = values["num_hidden_layers"]
    windows = [values["attention_window"]] * layers
    config = LongformerConfig(**{**values, "attention_window": windows})
    return _drawn(lambda: LongformerModel(config, add_pooling_layer=False), device, dtype)


def decoder(values: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A LlamaModel in training mode."""
    from transformers import LlamaConfig, LlamaModel

    return _drawn(lambda: LlamaModel(LlamaConfig(**values)), device, dtype)


def peft_decoder(
    values: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    *,
    method: str,
    prefix_length: int,
) -> nn.Module:
    """The same decoder with a classification head and PEFT's `prefix_tuning` or `lora`."""
    from peft import LoraConfig, PrefixTuningConfig, TaskType, get_peft_model
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(**values, num_labels=LABELS)
    model = _drawn(lambda: LlamaForSequenceClassification(config), device, dtype)
    kind = TaskType.SEQ_CLS
    settings: Any = (
        LoraConfig(task_type=kind, r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"])
        if method == "lora"
        else PrefixTuningConfig(task_type=kind, num_virtual_tokens=prefix_length)
    )
    adapted: nn.Module = get_peft_model(model, settings).to(device)
    return adapted


def _drawn(make: Any, device: torch.device, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            made: nn.Module = make()
    finally:
        torch.set_default_dtype(before)
    return made.train()


def adapted(backbone: nn.Module, *, prefix_length: int, pooling: Any) -> Any:
    """Prefix-propagation round the backbone, fast attention switched on."""
    from components.adapters import ClassificationHeadConfig, PrefixPropagationConfig, adapt

    torch.manual_seed(0)
    model = adapt(
        backbone,
        PrefixPropagationConfig(prefix_length=prefix_length, dropout=0.0),
        ClassificationHeadConfig(num_labels=LABELS, pooling=pooling, dropout=0.0),
    ).train()
    model.family.accelerate(backbone)
    return model


def documents(
    batch: int, tokens: int, vocabulary: int, device: torch.device, *, shortest: int | None = None
) -> dict[str, Tensor]:
    """`batch` documents; the last of several has `shortest` real tokens, where it is given."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(FIRST_TOKEN, vocabulary, (batch, tokens), generator=generator)
    mask = torch.ones_like(ids)
    if shortest is not None:
        mask[-1, shortest:] = 0
    values = {
        "input_ids": ids * mask,
        "attention_mask": mask,
        "labels": torch.arange(batch) % LABELS,
    }
    return {name: tensor.to(device) for name, tensor in values.items()}
