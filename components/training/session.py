"""What a worker keeps between trials: the loaded backbone and its tokenizer.

Loading costs seconds to minutes, a further trial only its own steps. A trial leaves nothing behind:
its engine's hooks are removed and the backbone parameters it trained are put back.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.adapters import AdaptedModel
from components.adapters.model import assemble
from components.adapters.starting_text import start_from_ids, starting_ids
from components.adapters.trained_in_backbone import pretrained_values, train_in_float32
from components.backbones import (
    backbone_shape,
    family_of,
    load_backbone,
    load_tokenizer,
    quantization_fault,
    read_backbone_config,
    stored_precision,
)
from components.config.experiment import TrainConfig
from components.errors import ConfigError
from components.tasks import task_named
from components.training.engine import Engine, build_engine, partitioned_loading
from components.training.same_weights import check_same_weights
from components.training.sharded_embedding import answering_embeddings, put_embeddings_back
from components.training.state_store import StateStore
from components.training.warm_start import start_from
from components.training.world import World
from components.training.zero3 import gathered, linear_over_shards, return_freed_memory

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Session:
    """One worker's share of a trial slot."""

    config: TrainConfig
    world: World
    backbone: Any
    tokenizer: Any
    cache_path: Path
    precision: str
    """Arithmetic of the backbone, fp32 or bf16, where the settings say `stored` too."""
    stores: dict[tuple[str, str], StateStore] = field(default_factory=dict)
    """Kept states (kept_states.py), filled for the data of a fingerprint: a slot's further trials
    neither look for documents nor open files again.
    """

    @property
    def pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    @contextmanager
    def engine(
        self,
        config: TrainConfig,
        labels: tuple[str, ...],
        *,
        parameters: Mapping[str, Tensor] | None = None,
    ) -> Iterator[tuple[AdaptedModel, Engine]]:
        """A fresh adapter on the shared backbone in a DeepSpeed engine, for the length of the
        block.

        `parameters`: starting values by name (a checkpoint's); without them the adapter is
        initialised from config.seed and adapter.init, and what training.warm_start holds is taken
        over. Raises ConfigError where `config` needs another session.
        """
        if _loaded_for(config) != _loaded_for(self.config):
            raise ConfigError(
                "backbone, zero, training.precision and training.gradient_checkpointing stay the "
                "same within a session; start another one."
            )
        put_embeddings_back(self.backbone)
        self._put_pretrained_back()
        model = self._new_model(config, labels)
        self._keep_pretrained(model.trained_in_backbone)
        if parameters is not None:
            _set_parameters(model, parameters)
        else:
            self._start(model, config, labels)
        engine = build_engine(model, config, self.world)
        model.train()
        yield model, engine
        # Only after an orderly end: an error on one rank alone must surface there, not wait in a
        # collective for ranks that went on.
        engine.close()
        self._put_pretrained_back()

    def _new_model(self, config: TrainConfig, labels: tuple[str, ...]) -> AdaptedModel:
        torch.manual_seed(config.seed)
        head = task_named(config.data.task).head_config(
            config.head, labels, data=config.data, tokenizer=self.tokenizer
        )
        return assemble(self.backbone, config.adapter, head)

    def _start(self, model: AdaptedModel, config: TrainConfig, labels: tuple[str, ...]) -> None:
        ids = starting_ids(config.adapter, self.tokenizer)
        if ids is not None:
            with answering_embeddings(self.backbone):
                start_from_ids(model, ids)
        if config.training.warm_start is not None:
            start_from(model, Path(config.training.warm_start), labels=labels)

    def _keep_pretrained(self, names: Iterable[str]) -> None:
        """What `adapt` leaves to the session: values that ZeRO-3 holds in shards."""
        kept = pretrained_values(self.backbone)
        for name in names:
            if name not in kept:
                kept[name] = _whole(self.backbone.get_parameter(name))

    def _put_pretrained_back(self) -> None:
        for name, value in pretrained_values(self.backbone).items():
            parameter = self.backbone.get_parameter(name)
            with torch.no_grad(), gathered([parameter], write=True):
                if parameter.numel():
                    parameter.copy_(value)


def _whole(parameter: torch.nn.Parameter) -> Tensor:
    with gathered([parameter]):
        return parameter.detach().to("cpu", torch.float32).clone()


def _set_parameters(model: AdaptedModel, values: Mapping[str, Tensor]) -> None:
    named = model.trainable_parameters()
    assert set(named) == set(values), (
        f"checkpoint holds {sorted(values)}, the model trains {sorted(named)}"
    )
    with torch.no_grad(), gathered(list(named.values()), write=True):
        for name, parameter in named.items():
            if parameter.numel():
                parameter.copy_(values[name])


def _loaded_for(config: TrainConfig) -> tuple[Any, ...]:
    return (
        config.backbone,
        config.zero,
        config.training.precision,
        config.training.gradient_checkpointing,
    )


def open_session(config: TrainConfig, world: World, *, cache_path: Path) -> Session:
    """Load backbone (as ZeRO-3 shards at stage 3) and tokenizer. Called by every rank together.
    Raises BackboneError where they cannot be loaded.
    """
    if config.zero.stage == 3:
        return_freed_memory()
    values = read_backbone_config(config.backbone)
    fault = quantization_fault(
        values,
        stage=config.zero.stage,
        all_weights=config.adapter.kept(backbone_shape(values)).all_weights,
        method=config.adapter.method,
    )
    if fault is not None:
        raise ConfigError(fault)
    precision = config.training.precision
    if precision == "stored":
        precision = stored_precision(config.backbone)
    partition = partitioned_loading(config, world_size=world.size, bf16=precision == "bf16")
    backbone = load_backbone(
        config.backbone,
        cache_path=cache_path,
        dtype=DTYPES[precision],
        partition=partition,
        device=world.device,
    )
    if config.zero.stage == 3:
        linear_over_shards(backbone)
    else:
        backbone.to(world.device)
        check_same_weights(backbone, world, name=config.backbone.name_or_path)
    if config.training.gradient_checkpointing:
        backbone.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}
        )
    weights = {
        name: _whole(backbone.get_parameter(name))
        for name in family_of(backbone).trained_with_prefix
    }
    pretrained_values(backbone).update(weights)
    for name, weight in weights.items():
        train_in_float32(backbone, name, weight)
    return Session(
        config=config,
        world=world,
        backbone=backbone,
        tokenizer=load_tokenizer(config.backbone),
        cache_path=cache_path,
        precision=precision,
    )
