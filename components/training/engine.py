"""DeepSpeed: the engine of one trial, and the whole (unsharded) values of what it trains.

The facts a newcomer gets wrong:
* Nothing is "auto". The trainer weighs every document itself (a step's loss is the mean over its
  documents, whatever the micro-batches), so DeepSpeed is told 1 sequence per micro-batch and no
  accumulation, and `managed_gradient_accumulation: false` lets any number of backward passes
  precede a step.
* Trained parameters are float32 whatever the backbone's precision, so no second master copy and no
  loss scaling exist.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from components.adapters import AdaptedModel
from components.adapters.model import AdaptedOutput
from components.backbones import family_of
from components.backbones.activation_offload import ON_A_CPU, offloaded_activations
from components.backbones.tiled_feed_forward import tile_feed_forward, untile_feed_forward
from components.config.experiment import TrainConfig
from components.config.optimizer import OptimizerConfig
from components.errors import ConfigError
from components.training import zero3
from components.training.deepspeed_import import import_deepspeed
from components.training.owned_gradients import reduce_to_owners
from components.training.same_weights import frozen_not_broadcast
from components.training.sharded_embedding import lookups_over_shards
from components.training.world import World

MOMENTS = ("exp_avg", "exp_avg_sq")
HEAD = "head."
"""How the names of the head's parameters begin."""


@dataclass(frozen=True)
class Engine:
    """A DeepSpeed engine, the torch optimizer inside it, and the parameters it trains by name."""

    deepspeed: Any
    optimizer: torch.optim.AdamW
    parameters: Mapping[str, nn.Parameter]
    peak_learning_rates: tuple[float, ...]
    """One for each of the optimizer's groups, which differ in nothing else."""
    stage: int
    offloads: bool = False
    """Whether inputs of recomputed layers wait in main memory."""
    hidden: ExitStack = field(default_factory=ExitStack)
    """What is undone when the engine is closed."""

    def forward(self, **batch: Tensor) -> Any:
        """The model's output for a micro-batch of which a backward pass follows."""
        with offloaded_activations() if self.offloads else nullcontext():
            return self.deepspeed(**batch)

    def take_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """A backward pass of which the gradients are known already, by parameter. Parameters that
        are left out get none, as those that a loss does not depend on.

        DeepSpeed reduces and partitions what arrives in a backward pass of its own after a forward
        of its own. The derivative of sum(parameter * gradient) is the gradient, bit for bit.
        """
        model = self.deepspeed.module
        products = [self.parameters[name] * each for name, each in gradients.items()]
        model.forward = lambda: AdaptedOutput(torch.stack([p.sum() for p in products]).sum(), None)
        try:
            self.deepspeed.backward(self.deepspeed().logits)
        finally:
            del model.forward

    def set_learning_rates(self, factor: float) -> None:
        """Every group at this share of its own peak."""
        for group, peak in zip(self.optimizer.param_groups, self.peak_learning_rates, strict=True):
            group["lr"] = factor * peak

    def close(self) -> None:
        """Free the engine's buffers and take its hooks off the shared backbone, once.

        Symptom: now and then a backbone parameter that is trained was gathered as zeros, and a
        checkpoint kept them. DeepSpeed 0.19.8 destroys an engine again when Python collects it; by
        then the parameter belongs to the next trial's engine, whose link to its float32 values is
        cut. Remove once its destructor leaves a destroyed engine alone.
        """
        self.deepspeed.destroy()
        self.deepspeed.destroy = _nothing
        zero3.forget_engine(self.deepspeed.module)
        self.hidden.close()


def _nothing() -> None:
    """What a destroyed engine's destructor finds to do."""


def deepspeed_config(
    config: TrainConfig,
    *,
    world_size: int,
    trained_numel: int = 1,
    layer_numel: int = 0,
    bf16: bool = False,
) -> dict[str, Any]:
    """DeepSpeed's own configuration.

    `trained_numel`: all trained elements, more than which no bucket of gradients ever holds
    (DeepSpeed allocates it whole); `layer_numel`: elements of the largest layer, by which stage 3
    decides what stays whole; `bf16` only for reading a backbone straight into ZeRO-3 shards of that
    precision.
    """
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": world_size,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.optimizer.max_gradient_norm or 0.0,
        "bf16": {"enabled": bf16},
        "zero_optimization": {
            "stage": config.zero.stage,
            **zero3.stage3_settings(config.zero, layer_numel=layer_numel),
            "reduce_bucket_size": min(config.zero.reduce_bucket_size, trained_numel),
            "overlap_comm": False,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
    }


def partitioned_loading(
    config: TrainConfig, *, world_size: int, bf16: bool
) -> AbstractContextManager[Any]:
    """Context in which `from_pretrained` reads weights straight into ZeRO-3 shards; does nothing at
    lower stages.
    """
    if config.zero.stage < 3:
        return nullcontext()
    return zero3.partitioned_loading(deepspeed_config(config, world_size=world_size, bf16=bf16))


def build_engine(model: AdaptedModel, config: TrainConfig, world: World) -> Engine:
    """Wrap an adapted model for one trial. The parameters must hold their starting values
    already. Raises ConfigError where activations would be offloaded from a CPU.
    """
    if config.training.offload_activations and world.device.type == "cpu":
        raise ConfigError(f"training.offload_activations: {ON_A_CPU}. Set it to false.")
    deepspeed = import_deepspeed()
    parameters = model.trainable_parameters()
    groups = parameter_groups(parameters, config.optimizer)
    peaks = tuple(group["lr"] for group in groups)
    optimizer = adamw(groups, config.optimizer)
    deepspeed.init_distributed(verbose=False)
    hidden = ExitStack()
    _tile_feed_forward(model.backbone, config, hidden)
    if config.zero.stage == 3:
        hidden.enter_context(lookups_over_shards(model.backbone))
    settings = deepspeed_config(
        config,
        world_size=world.size,
        trained_numel=model.num_trainable_parameters(),
        layer_numel=zero3.largest_layer_numel(model.backbone),
    )
    with frozen_not_broadcast(model):
        engine, *_ = deepspeed.initialize(
            model=model,
            model_parameters=list(parameters.values()),
            optimizer=optimizer,
            config=settings,
        )
    if config.zero.stage in (1, 2) and world.size > 1:
        reduce_to_owners(engine.optimizer)
    return Engine(
        deepspeed=engine,
        optimizer=optimizer,
        parameters=parameters,
        peak_learning_rates=peaks,
        stage=config.zero.stage,
        offloads=config.training.offload_activations,
        hidden=hidden,
    )


def _tile_feed_forward(backbone: nn.Module, config: TrainConfig, undone: ExitStack) -> None:
    """Compute feed-forward parts in tiles until `undone` is closed. What planning refuses
    (`tiling_obstacle`) does not come here.
    """
    rows, family = config.training.feed_forward_tile_rows, family_of(backbone)
    if rows is None:
        return
    assert family.feed_forward is not None, family.name
    longest = config.data.max_tokens + config.adapter.prefix_length
    least = -(-longest // rows) if config.zero.stage == 3 else 1
    for layer in family.layers(backbone):
        module = layer.get_submodule(family.feed_forward)
        tile_feed_forward(module, rows, least_pieces=least)
        undone.callback(untile_feed_forward, module)


def parameter_groups(
    parameters: Mapping[str, nn.Parameter], config: OptimizerConfig
) -> list[dict[str, Any]]:
    """AdamW's groups with their peak rates: one, or with `head_learning_rate` the head apart.

    An empty group is left out, because ZeRO cannot flatten one: head_only has no other parameters.
    """
    if config.head_learning_rate is None:
        return [{"params": list(parameters.values()), "lr": config.learning_rate}]
    head = [parameter for name, parameter in parameters.items() if name.startswith(HEAD)]
    others = [parameter for name, parameter in parameters.items() if not name.startswith(HEAD)]
    groups = ((others, config.learning_rate), (head, config.head_learning_rate))
    return [{"params": members, "lr": peak} for members, peak in groups if members]


def adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    """The optimizer of every training."""
    return torch.optim.AdamW(
        groups, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay
    )


def whole_parameters(engine: Engine) -> dict[str, Tensor]:
    """Every trained parameter, gathered, float32 on the CPU. Call on every rank."""
    return {name: _whole(engine, parameter, None) for name, parameter in engine.parameters.items()}


def whole_moments(engine: Engine) -> dict[str, Tensor]:
    """AdamW's moments as `<parameter>.exp_avg` and `<parameter>.exp_avg_sq`, gathered, on the CPU.
    Call on every rank, after at least one step.
    """
    _link_moments(engine)
    return {
        f"{name}.{moment}": _whole(engine, parameter, moment)
        for name, parameter in engine.parameters.items()
        for moment in MOMENTS
    }


def _whole(engine: Engine, parameter: nn.Parameter, moment: str | None) -> Tensor:
    if engine.stage == 0:
        value = parameter.detach() if moment is None else engine.optimizer.state[parameter][moment]
    else:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        value = (
            safe_get_full_fp32_param(parameter)
            if moment is None
            else safe_get_full_optimizer_state(parameter, moment)
        )
    expected = tuple(getattr(parameter, "ds_shape", parameter.shape))
    assert value is not None and tuple(value.shape) == expected, (
        f"gathering gave {None if value is None else tuple(value.shape)}, expected {expected}"
    )
    return value.detach().to("cpu", torch.float32).clone()


def _link_moments(engine: Engine) -> None:
    """Let ZeRO 1 and 2 find the moments of every group.

    Symptom: "exp_avg not found in optimizer state fragment". DeepSpeed 0.19.8 links parameters to
    their moments once, after the step of the first group, when the others have none yet. Remove
    once it links them after the last group's.
    """
    if engine.stage in (1, 2) and len(engine.peak_learning_rates) > 1:
        zero = engine.deepspeed.optimizer
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()


def set_moments(engine: Engine, moments: Mapping[str, Tensor], *, step: int) -> None:
    """Put AdamW's moments and step count back. The optimizer's state must exist (at least one step,
    see `Trial`). Call on every rank.
    """
    _link_moments(engine)
    for state in engine.optimizer.state.values():
        state["step"].fill_(float(step))
    for name, parameter in engine.parameters.items():
        for moment in MOMENTS:
            value = moments[f"{name}.{moment}"]
            if engine.stage == 0:
                engine.optimizer.state[parameter][moment].copy_(value)
            elif engine.stage == 3:
                _set_shard(parameter, value, moment)
            else:
                from deepspeed.utils import safe_set_full_optimizer_state

                safe_set_full_optimizer_state(parameter, value.to(parameter.device), moment)


def _set_shard(parameter: nn.Parameter, value: Tensor, moment: str) -> None:
    """Write this rank's part of a whole value into its ZeRO-3 shard.

    DeepSpeed's own safe_set_full_optimizer_state cuts past the end where the size is no multiple of
    the number of ranks (0.19.8). Use it again once it pads.
    """
    from deepspeed.utils import safe_get_local_optimizer_state, safe_set_local_optimizer_state

    shard = safe_get_local_optimizer_state(parameter, moment)
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    padded = torch.zeros(shard.numel() * size, dtype=shard.dtype)
    padded[: value.numel()] = value.flatten()
    safe_set_local_optimizer_state(parameter, padded.view(size, -1)[rank].to(shard.device), moment)
