"""A frozen backbone with an adapter and a head: what is trained, saved and asked for predictions.

Hooks are set only while the forward pass runs, so that several adapted models can share one backbone, and a trial slot can go from one trial to the next without a trace of the last.
Shapes: B batch, P prefix, T text tokens, S = P + T, D hidden, L layers, C classes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from components.adapters.head import ClassificationHead, pool
from components.adapters.prefix_propagation import PREFIX_TENSOR, PrefixPropagation
from components.backbones import family_of
from components.config.schema import ClassificationHeadConfig, PrefixPropagationConfig
from components.errors import ConfigError

ADAPTERS = {"prefix_propagation": PrefixPropagation}


@dataclass(frozen=True)
class AdaptedOutput:
    """`logits` (B, C) float32; `loss` the mean cross-entropy over the batch, None without labels."""

    logits: Tensor
    loss: Tensor | None


class AdaptedModel(nn.Module):
    """The backbone (frozen but for the few parameters that the method trains), the adapter and the head. Built by `adapt`."""

    def __init__(self, backbone: nn.Module, adapter: PrefixPropagation, head: ClassificationHead, *, adapter_config: PrefixPropagationConfig, head_config: ClassificationHeadConfig) -> None:
        super().__init__()
        self.backbone, self.adapter, self.head = backbone, adapter, head
        self.adapter_config, self.head_config = adapter_config, head_config
        self.family = family_of(backbone)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> AdaptedOutput:
        """Classify documents.

        input_ids (B, T) int64; attention_mask (B, T), 1 for real tokens (left out: all are); labels (B,) int64. The prefix is added inside: T counts text tokens only.
        """
        mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        length = self.adapter_config.prefix_length
        prefix_LPD = self.adapter()
        inputs = self.family.prefixed_inputs(self.backbone, input_ids, mask_BT, length)
        with self._prefix_before_each_layer(prefix_LPD):
            hidden_BSD = self.backbone(**inputs).last_hidden_state
        logits_BC = self.head(pool(hidden_BSD, mask_BT, prefix_length=length, pooling=self.head_config.pooling))
        loss = None if labels is None else nn.functional.cross_entropy(logits_BC, labels)
        return AdaptedOutput(logits=logits_BC, loss=loss)

    @contextmanager
    def _prefix_before_each_layer(self, prefix_LPD: Tensor) -> Iterator[None]:
        layers = self.family.layers(self.backbone)
        handles = [
            layer.register_forward_pre_hook(self._hook(prefix_PD), with_kwargs=True) for layer, prefix_PD in zip(layers, prefix_LPD, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, prefix_PD: Tensor) -> Any:
        def add_prefix(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if args:
                return (self.adapter.add_to(args[0], prefix_PD), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": self.adapter.add_to(kwargs["hidden_states"], prefix_PD)}

        return add_prefix

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Name -> parameter for everything that is trained: adapter, head, and the backbone's few."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def num_trainable_parameters(self) -> int:
        """Number of trained scalars, also where ZeRO-3 holds only shards of them here."""
        return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in self.trainable_parameters().values())

    def artifact_tensors(self, gathered: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The tensors of artifact format 1, float32 on the CPU; a reparametrised prefix is materialised.

        `gathered`: whole values of `trainable_parameters`, needed where ZeRO-3 holds only shards of them here; otherwise the live ones are taken.
        """
        values = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in (gathered or self.trainable_parameters()).items()}
        own = {name.removeprefix("adapter."): tensor for name, tensor in values.items() if name.startswith("adapter.")}
        whole = _new_adapter(self.backbone, self.adapter_config)
        whole.load_state_dict(own)
        with torch.no_grad():
            tensors = {PREFIX_TENSOR: whole()} | {name: tensor for name, tensor in values.items() if not name.startswith("adapter.")}
        return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def adapt(backbone: nn.Module, adapter: PrefixPropagationConfig, head: ClassificationHeadConfig) -> AdaptedModel:
    """Put a fresh adapter and head around a stock transformers base model.

    The backbone's parameters are frozen in place, but for those that the method trains with the family (Longformer: the token type embedding).
    New parameters are drawn from torch's global generator. Raises ConfigError or BackboneError where the two do not fit.
    """
    family = family_of(backbone)
    if adapter.method not in ADAPTERS:
        raise ConfigError(f"adapter.method '{adapter.method}' is unknown. Known: {', '.join(ADAPTERS)}.")
    family.check_positions(_config(backbone).to_dict(), max_tokens=1, prefix_length=adapter.prefix_length)
    prefix = _new_adapter(backbone, adapter)
    classifier = ClassificationHead(
        hidden_size=_config(backbone).hidden_size,
        num_labels=head.num_labels,
        dropout=_own_dropout(backbone) if head.dropout is None else head.dropout,
        init_std=float(getattr(_config(backbone), "initializer_range", 0.02)),
    )
    backbone.requires_grad_(False)
    for name in family.trained_with_prefix:
        train_in_float32(backbone, name)
    device = next(backbone.parameters()).device
    return AdaptedModel(backbone, prefix.to(device), classifier.to(device), adapter_config=adapter, head_config=head)


def _new_adapter(backbone: nn.Module, adapter: PrefixPropagationConfig) -> PrefixPropagation:
    return PrefixPropagation(
        num_layers=len(family_of(backbone).layers(backbone)),
        prefix_length=adapter.prefix_length,
        hidden_size=_config(backbone).hidden_size,
        init_std=adapter.init_std,
        dropout=_own_dropout(backbone) if adapter.dropout is None else adapter.dropout,
        reparametrization_hidden=adapter.reparametrization_hidden if adapter.reparametrization == "mlp" else None,
    )


def _config(backbone: nn.Module) -> Any:
    return backbone.config


def _own_dropout(backbone: nn.Module) -> float:
    return float(getattr(_config(backbone), "hidden_dropout_prob", 0.0))


def train_in_float32(backbone: nn.Module, name: str, value: Tensor | None = None) -> nn.Parameter:
    """Make one backbone parameter trainable; returns it.

    In a bf16 backbone it becomes a float32 parameter of the same name, and its module's output is cast back, so that small updates are not rounded away.
    `value`: the parameter's whole value, needed where ZeRO-3 holds only a shard of it here.
    """
    parameter = backbone.get_parameter(name)
    if parameter.dtype != torch.float32:
        module_name, _, leaf = name.rpartition(".")
        module, dtype = backbone.get_submodule(module_name), parameter.dtype
        parameter = nn.Parameter((parameter if value is None else value).detach().to(parameter.device, torch.float32))
        setattr(module, leaf, parameter)
        module.register_forward_hook(lambda _module, _inputs, output: output.to(dtype))
    return parameter.requires_grad_(True)
