"""A frozen backbone with an adapter and a head: what is trained, saved and asked for predictions.

Hooks are set only while the forward pass runs, so that several adapted models can share one backbone, and a trial slot can go from one trial to the next without a trace of the last.
Shapes: B batch, P prefix, T text tokens, S = P + T, D hidden, L layers, C classes.
"""

from collections.abc import Iterator, Sequence
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

    def artifact_tensors(self) -> dict[str, Tensor]:
        """The tensors of artifact format 1, float32 on the CPU; a reparametrised prefix is materialised. Call it where the parameters are whole (not inside a ZeRO-3 shard)."""
        with torch.no_grad():
            tensors = {PREFIX_TENSOR: self.adapter()}
        tensors |= {name: tensor for name, tensor in self.trainable_parameters().items() if not name.startswith("adapter.")}
        return {name: tensor.detach().to("cpu", torch.float32).contiguous().clone() for name, tensor in tensors.items()}


def adapt(backbone: nn.Module, adapter: PrefixPropagationConfig, head: ClassificationHeadConfig) -> AdaptedModel:
    """Put a fresh adapter and head around a stock transformers base model.

    The backbone's parameters are frozen in place, but for those that the method trains with the family (Longformer: the token type embedding).
    New parameters are drawn from torch's global generator. Raises ConfigError or BackboneError where the two do not fit.
    """
    family = family_of(backbone)
    if adapter.method not in ADAPTERS:
        raise ConfigError(f"adapter.method '{adapter.method}' is unknown. Known: {', '.join(ADAPTERS)}.")
    config = backbone.config
    family.check_positions(config.to_dict(), max_tokens=1, prefix_length=adapter.prefix_length)  # type: ignore[union-attr, operator, arg-type]
    init_std = float(getattr(config, "initializer_range", 0.02))
    own_dropout = float(getattr(config, "hidden_dropout_prob", 0.0))
    device = next(backbone.parameters()).device
    prefix = PrefixPropagation(
        num_layers=len(family.layers(backbone)),
        prefix_length=adapter.prefix_length,
        hidden_size=int(config.hidden_size),  # type: ignore[union-attr, arg-type]
        init_std=adapter.init_std,
        dropout=own_dropout if adapter.dropout is None else adapter.dropout,
        reparametrization_hidden=adapter.reparametrization_hidden if adapter.reparametrization == "mlp" else None,
    )
    classifier = ClassificationHead(
        hidden_size=int(config.hidden_size),  # type: ignore[union-attr, arg-type]
        num_labels=head.num_labels,
        dropout=own_dropout if head.dropout is None else head.dropout,
        init_std=init_std,
    )
    backbone.requires_grad_(False)
    _train(backbone, family.trained_with_prefix)
    return AdaptedModel(backbone, prefix.to(device), classifier.to(device), adapter_config=adapter, head_config=head)


def _train(backbone: nn.Module, names: Sequence[str]) -> None:
    for name in names:
        backbone.get_parameter(name).requires_grad_(True)
