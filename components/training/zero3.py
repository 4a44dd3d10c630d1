"""ZeRO stage 3: weights as shards that are whole only where they are computed with.

The facts a newcomer gets wrong: below a billion parameters DeepSpeed's own defaults keep everything
whole from the second step on (stage3_max_live_parameters, stage3_max_reuse_distance); torch's own
linear layer keeps a view of the gathered weight until the backward pass, which keeps the weight
whole; and DeepSpeed's, which it puts into torch for the whole process, keeps the input instead,
although a frozen weight needs no gradient. `linear_over_shards` keeps neither.
"""

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from components.backbones import family_of
from components.backbones.mapped_weights import read_only_tensors
from components.config.zero import ZeroConfig
from components.training.deepspeed_import import import_deepspeed

MALLOC_OPTIONS = {"M_MMAP_THRESHOLD": (-3, 32_768), "M_TRIM_THRESHOLD": (-1, 131_072)}
"""Options of mallopt(3) and their values: the bytes from which a freed piece goes back to the
system, smaller than what a layer keeps of a document of a few tokens.
"""
LEFT_ON_MODULES = ("pre_bwd_fn", "post_bwd_fn", "applied_pre_backward_ref_cnt")
"""What a destroyed engine leaves behind in every module of its model."""


def stage3_settings(zero: ZeroConfig, *, layer_numel: int = 0) -> dict[str, Any]:
    """What DeepSpeed is told of stage 3, where `layer_numel` is the number of elements of the
    largest layer (0 while the backbone is read).
    """
    live = zero.max_live_parameters
    prefetched = zero.prefetch_bucket_size
    return {
        "stage3_param_persistence_threshold": zero.param_persistence_threshold,
        "stage3_max_live_parameters": 2 * layer_numel if live is None else live,
        "stage3_max_reuse_distance": 0 if live is None else live,
        "stage3_prefetch_bucket_size": prefetched,
        "memory_efficient_linear": False,
    }


def largest_layer_numel(backbone: nn.Module) -> int:
    """Elements of the largest layer, whole or in shards."""
    return max(
        sum(int(getattr(parameter, "ds_numel", parameter.numel())) for parameter in each)
        for each in (list(layer.parameters()) for layer in family_of(backbone).layers(backbone))
    )


@contextmanager
def partitioned_loading(configuration: Mapping[str, Any]) -> Iterator[None]:
    """Context in which `from_pretrained` reads weights straight into shards; `configuration` is
    DeepSpeed's own.
    """
    deepspeed = import_deepspeed()
    from transformers import modeling_utils
    from transformers.integrations import HfDeepSpeedConfig, unset_hf_deepspeed_config

    deepspeed.init_distributed(verbose=False)
    live = HfDeepSpeedConfig(dict(configuration))
    reading, gathering = modeling_utils.load_state_dict, deepspeed.zero.GatheredParameters

    def read(file: str, map_location: Any = "cpu", **options: Any) -> dict[str, Tensor]:
        if file.endswith(".safetensors"):
            tensors = read_only_tensors(Path(file))
            return {name: tensor.to(map_location) for name, tensor in tensors.items()}
        return reading(file, map_location=map_location, **options)

    modeling_utils.load_state_dict = read
    deepspeed.zero.GatheredParameters = _written_by_rank_0
    try:
        yield
    finally:
        modeling_utils.load_state_dict = reading
        deepspeed.zero.GatheredParameters = gathering
        del live
        unset_hf_deepspeed_config()


@contextmanager
def _written_by_rank_0(parameters: list[Any], modifier_rank: int = 0) -> Iterator[None]:
    """Stands in for GatheredParameters while weights are read: what is written over is not gathered
    first. A parameter that is not written is refused afterwards (stock_model).

    Symptom: the embedding three times on every rank beside all shards. Remove once transformers
    writes shards from slices of the file.
    """
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    for parameter in parameters:
        parameter.data = torch.empty(
            parameter.ds_shape, dtype=parameter.ds_tensor.dtype, device=parameter.device
        )
        parameter.ds_status = ZeroParamStatus.AVAILABLE
    yield
    for parameter in parameters:
        torch.distributed.broadcast(parameter.data.view(torch.uint8), src=modifier_rank)
        parameter.partition(has_been_updated=True)


def gathered(parameters: list[nn.Parameter], *, write: bool = False) -> AbstractContextManager[Any]:
    """Context in which ZeRO-3 shards are whole; with `write`, changes made in it on rank 0 reach
    every shard. Plain parameters pass through.
    """
    shards = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not shards:
        return nullcontext()
    deepspeed = import_deepspeed()
    context: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(
        shards, modifier_rank=0 if write else None
    )
    return context


class _LinearOverShards(torch.autograd.Function):
    """x W^T + b, which keeps W itself (whose values are gathered anew for the backward pass), and x
    where W is trained.
    """

    @staticmethod
    def forward(ctx: Any, input_XI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        wanted = weight_OI.requires_grad
        ctx.save_for_backward(input_XI if wanted else None, weight_OI)
        return nn.functional.linear(input_XI, weight_OI, bias_O)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_XO,) = gradients
        input_XI, weight_OI = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad
        rows_RO = gradient_XO.flatten(0, -2)
        return (
            gradient_XO.matmul(weight_OI) if of_input else None,
            rows_RO.t().matmul(input_XI.flatten(0, -2)) if of_weight else None,
            rows_RO.sum(0) if of_bias else None,
        )


def _forward(self: nn.Linear, input_XI: Tensor) -> Tensor:
    output: Tensor = _LinearOverShards.apply(input_XI, self.weight, self.bias)
    return output


def linear_over_shards(backbone: nn.Module) -> None:
    """Let the backbone's linear layers, and nobody else's, keep no gathered weight and no input of
    a frozen weight.
    """
    for module in backbone.modules():
        if type(module) is nn.Linear:
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def forget_engine(model: nn.Module) -> None:
    """Let a model's modules forget the engine that was destroyed.

    Symptom: from the second trial on, a backward pass with gradient checkpointing gathered every
    layer and let none go before its end: 2,287 MiB a rank in place of 1,143. DeepSpeed 0.19.8
    leaves functions on every module that ask the first engine which parameters are in use; the next
    one finds them there and keeps them. Remove once destroy() takes them away.
    """
    for module in model.modules():
        for name in LEFT_ON_MODULES:
            module.__dict__.pop(name, None)


def return_freed_memory() -> None:
    """Let the C library give freed tensors back to the system at once: gathered weights come and go
    in all sizes, and what it keeps of them is half of what stage 3 saves. Does nothing where the C
    library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in MALLOC_OPTIONS.values():
            mallopt(option, value)
