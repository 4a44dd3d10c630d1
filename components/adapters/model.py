"""A frozen backbone with an adapter and a head: what is trained, saved and asked for predictions.

Hooks are set only while the forward pass runs (and around each layer that is recomputed), so that
several adapted models can share one backbone, and a trial slot can go from one trial to the next
without a trace of the last. Not where a method trains parameters of the backbone itself (prefix
methods on Longformer: the token type embedding): there the latest adapter has the backbone, and an
earlier one refuses to answer with values that are not its own. Copies that share one backbone's
weights (components/backbones/sharing.py) are backbones of their own in this.
Shapes: B batch, P prefix, T text tokens, S all rows, D hidden, C classes.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor, nn

from components.adapters.layer_hooks import before_layer, inside_layer
from components.adapters.methods import METHODS, MethodConfig, Setting
from components.adapters.modules.adapter_method import AdapterMethod, Contribution
from components.adapters.starting_text import start_from_ids, starting_ids
from components.adapters.trained_in_backbone import (
    check_turn,
    keep_pretrained,
    new_turn,
    put_back,
    take_turn,
    train_in_float32,
)
from components.backbones import check_positions, family_of
from components.backbones.readers import Reader, Reading
from components.errors import ConfigError
from components.tasks import TaskHeadConfig, task_named
from components.tasks.heads.head import Head

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from components.backbones.text_in_passing import TextInPassing
    from components.backbones.text_states import TextStates


@dataclass(frozen=True)
class AdaptedOutput:
    """`logits` float32, one row per example, as the task's head makes them: (B, C) of
    classification. `loss`: the task's mean loss over the batch, None without labels.

    Multiple choice: one row per question, C the most candidates of a question in the batch; places
    beyond a question's own candidates hold NO_CANDIDATE (-1e30), whose probability is 0.
    """

    logits: Tensor
    loss: Tensor | None


class AdaptedModel(nn.Module):
    """The backbone (frozen but for the few parameters that the method trains), the adapter and the
    head. Built by `adapt`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        adapter: AdapterMethod,
        head: Head,
        *,
        adapter_config: MethodConfig,
        head_config: TaskHeadConfig,
    ) -> None:
        super().__init__()
        self.backbone, self.adapter, self.head = backbone, adapter, head
        self.adapter_config, self.head_config = adapter_config, head_config
        self.family, self.task = family_of(backbone), task_named(head_config.task)
        self.usable_positions = self.family.usable_positions(_config(backbone).to_dict())
        self.trained_in_backbone: tuple[str, ...] = ()
        self.turn = new_turn()
        for name in adapter.trained_in_backbone:
            self.train_in_backbone(name)
        self._take_turn()

    @property
    def device(self) -> torch.device:
        """Where it computes: a head need not have parameters."""
        return next(self.backbone.parameters()).device

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        example_index: Tensor | None = None,
        prompt_tokens: Tensor | None = None,
        states: "TextStates | None" = None,
    ) -> AdaptedOutput:
        """What the task's head says of documents: classes, or the candidates of questions.

        input_ids (B, T) int64; attention_mask (B, T), 1 for real tokens (left out: all are); labels
        (B,) int64. A prefix is added inside: T counts text tokens only.
        Multiple choice: each row is one chunk, example_index (B,) int64 numbers the question that
        it belongs to (0, 1, ...; left out: each is one), labels are one per question.
        Language modelling: prompt_tokens (B,) int64, tokens of each document before those that are
        learnt (left out: the first alone); `labels` are not read, and are given for a loss.
        `states`: those of the documents, read before; only for methods whose rows the text does not
        see, which read them now without it.
        """
        if attention_mask is None:
            mask_BT = torch.ones_like(input_ids)
        else:
            input_ids, mask_BT = padding_behind(input_ids, attention_mask.long())
        self._check_width(mask_BT)
        if prompt_tokens is not None and not self.task.generates:
            raise ValueError(f"prompt_tokens are not of {self.task.words}. Leave them out.")
        further = {} if prompt_tokens is None else {"prompt_tokens": prompt_tokens}
        contribution = self.contribution(batch_size=input_ids.shape[0])
        if self.adapter.rows.suffix:
            text = states or self.text_of_batch(input_ids, mask_BT)
            logits_BC = self.logits_of_rows(self._behind_text(contribution, text))
        else:
            logits_BC = self.head.logits(
                self.hidden_states(contribution, input_ids, mask_BT),
                input_ids,
                mask_BT,
                rows=self.adapter.rows,
                example_index=example_index,
                **further,
            )
        loss = None if labels is None else self.task.loss(logits_BC, labels, reduction="mean")
        return AdaptedOutput(logits=logits_BC, loss=loss)

    def contribution(self, *, batch_size: int) -> Contribution:
        """What the adapter adds to a pass over so many documents. Raises BackboneError where a
        later adapter has the backbone.
        """
        check_turn(self.backbone, self.turn)
        return self.adapter.contribute(self.adapter(), batch_size=batch_size)

    def hidden_states(
        self, contribution: Contribution, input_ids_BT: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """Last hidden states (B, S, D) of prefix rows and text."""
        rows = self.adapter.rows
        text = self.head.text(self.backbone, input_ids_BT, mask_BT)
        inputs = self.family.prefixed_inputs(
            self.backbone, input_ids_BT, mask_BT, rows, prompt_BPD=contribution.prompt_BPD, **text
        )
        read_BR = None
        if not contribution.changes_attention:
            read_BR = self.head.read_rows(input_ids_BT, mask_BT, rows=rows)
        if read_BR is not None:
            read_BR = rows.key_value + read_BR
            inputs |= self.family.only_rows(self.backbone, read_BR)
        around = self.family.forward_context(
            self.backbone,
            mask_BT,
            rows,
            read_BR=read_BR,
            text_is_constant=_text_is_constant(contribution),
        )
        with self.contributed(contribution), around:
            hidden_BSD: Tensor = self.backbone(**inputs).last_hidden_state
        return hidden_BSD[:, rows.key_value :]

    @overload
    def read_text(self, input_ids_BT: Tensor, attention_mask_BT: Tensor) -> "TextStates": ...

    @overload
    def read_text(
        self, input_ids_BT: Tensor, attention_mask_BT: Tensor, *, stays: bool
    ) -> "TextStates | TextInPassing": ...

    def read_text(
        self, input_ids_BT: Tensor, attention_mask_BT: Tensor, *, stays: bool = True
    ) -> "TextStates | TextInPassing":
        """States of documents, for methods whose rows the text does not see: without gradients,
        alike for every adapter. With `stays` False each layer's may be met once, and is gone, where
        the family has that.
        """
        return self.family.text_states(
            self.backbone, input_ids_BT, attention_mask_BT, self.adapter.rows, stays=stays
        )

    def text_of_batch(
        self, input_ids_BT: Tensor, attention_mask_BT: Tensor
    ) -> "TextStates | TextInPassing":
        """States for one pass now. Where layers are checkpointed they are not kept for the backward
        pass.
        """
        recomputes = _recomputes(self.family.layers(self.backbone)[0])
        return self.read_text(input_ids_BT, attention_mask_BT, stays=not recomputes)

    def _behind_text(
        self, contribution: Contribution, states: "TextStates | TextInPassing"
    ) -> Tensor:
        """Last hidden states (B, P, D) of the rows that the text does not see."""
        reading = Reading(states, (Reader(self.adapter.rows.suffix),))
        with self.contributed(contribution):
            return self.family.run_behind_text(self.backbone, [reading])

    def logits_of_rows(self, hidden_BPD: Tensor) -> Tensor:
        """What the head says of documents, given the last hidden states of rows behind them. It
        reads those alone: to it they follow a document of no tokens.
        """
        empty_B0 = torch.zeros(len(hidden_BPD), 0, dtype=torch.long, device=hidden_BPD.device)
        return self.head.logits(
            hidden_BPD, empty_B0, empty_B0, rows=self.adapter.rows, example_index=None
        )

    def train_in_backbone(self, name: str) -> None:
        """Train this backbone parameter too; its pretrained value is kept. Raises AttributeError
        where the backbone has none of that name.
        """
        keep_pretrained(self.backbone, name)
        train_in_float32(self.backbone, name)
        if name not in self.trained_in_backbone:
            self.trained_in_backbone += (name,)
        self._take_turn()

    def _take_turn(self) -> None:
        self.turn = take_turn(self.backbone, self.turn, trains=bool(self.trained_in_backbone))

    def _check_width(self, mask_BT: Tensor) -> None:
        """Real tokens alone need positions; they are counted only where the width leaves any
        doubt.
        """
        if mask_BT.shape[1] + self.adapter_config.prefix_length > self.usable_positions:
            tokens = int(mask_BT.sum(dim=1).max())
            check_positions(
                self.family,
                _config(self.backbone).to_dict(),
                max_tokens=tokens,
                prefix_length=self.adapter_config.prefix_length,
            )

    @contextmanager
    def contributed(self, contribution: Contribution) -> Iterator[None]:
        """Context in which the backbone's layers run with this contribution."""
        before, inside = contribution.before_layer, contribution.inside_layer
        with ExitStack() as stack:
            for index, layer in enumerate(self.family.layers(self.backbone)):
                if before is not None:
                    stack.callback(
                        layer.register_forward_pre_hook(
                            before_layer(before, index), with_kwargs=True
                        ).remove
                    )
                if inside is not None:
                    stack.enter_context(inside_layer(inside, index, layer))
            yield

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Name -> parameter for everything that is trained: adapter, head, and the backbone's few.
        Raises BackboneError where a later adapter has taken those.
        """
        check_turn(self.backbone, self.turn)
        in_backbone = {f"backbone.{name}" for name in self.trained_in_backbone}
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if (name in in_backbone if name.startswith("backbone.") else parameter.requires_grad)
        }

    def num_trainable_parameters(self) -> int:
        """Number of trained scalars, also where ZeRO-3 holds only shards of them here."""
        return sum(
            getattr(parameter, "ds_numel", parameter.numel())
            for parameter in self.trainable_parameters().values()
        )

    def artifact_tensors(self, gathered: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The tensors of artifact format 1, float32 on the CPU; a reparametrised prefix is
        materialised.

        `gathered`: whole values of `trainable_parameters`, needed where ZeRO-3 holds only shards of
        them here; otherwise the live ones are taken.
        """
        values = {
            name: tensor.detach().to("cpu", torch.float32)
            for name, tensor in (gathered or self.trainable_parameters()).items()
        }
        own = {
            name.removeprefix("adapter."): tensor
            for name, tensor in values.items()
            if name.startswith("adapter.")
        }
        tensors = {f"adapter.{name}": tensor for name, tensor in self.adapter.stored(own).items()}
        tensors |= {
            name: tensor for name, tensor in values.items() if not name.startswith("adapter.")
        }
        return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def _recomputes(layer: Any) -> bool:
    """Whether the layer is checkpointed in this pass."""
    checkpointed = getattr(layer, "gradient_checkpointing", False) and layer.training
    return bool(checkpointed and torch.is_grad_enabled())


def _text_is_constant(contribution: Contribution) -> bool:
    """Whether the method changes nothing but prefix rows before the first layer. It matters to the
    backward pass alone.
    """
    return (
        torch.is_grad_enabled()
        and contribution.inside_layer is None
        and not contribution.changes_attention
        and not contribution.changes_text
    )


def padding_behind(input_ids_BT: Tensor, attention_mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Ids and mask with the real tokens of every row first, in their order, whatever the padding
    side.
    """
    order_BT = attention_mask_BT.argsort(dim=1, descending=True, stable=True)
    return input_ids_BT.gather(1, order_BT), attention_mask_BT.gather(1, order_BT)


def adapt(
    backbone: nn.Module,
    adapter: MethodConfig,
    head: TaskHeadConfig,
    *,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
) -> AdaptedModel:
    """Put a fresh adapter and head around a stock transformers base model.

    `tokenizer`: the backbone's, where the adapter starts from a text (adapter.init text).
    The backbone's parameters are frozen in place, but for those that the method trains (see its
    file; prefix methods on Longformer: the token type embedding). Of those the pretrained values
    are kept (on the CPU) and put back by the next `adapt` on the same backbone, after which the
    earlier adapted model refuses to answer. New parameters are drawn from torch's global generator.
    Raises ConfigError or BackboneError where the two do not fit.
    """
    ids = starting_ids(adapter, tokenizer)
    model = assemble(backbone, adapter, head)
    if ids is not None:
        start_from_ids(model, ids)
    return model


def assemble(backbone: nn.Module, adapter: MethodConfig, head: TaskHeadConfig) -> AdaptedModel:
    """The same without what a text gives, for whoever has the adapter's values from elsewhere or
    asks the embeddings in a way of its own. Raises as `adapt`.
    """
    family, task = family_of(backbone), task_named(head.task)
    if adapter.method not in METHODS:
        raise ConfigError(
            f"adapter.method '{adapter.method}' is unknown. Known: {', '.join(METHODS)}."
        )
    check_positions(
        family, _config(backbone).to_dict(), max_tokens=1, prefix_length=adapter.prefix_length
    )
    pooling = getattr(head, "pooling", None)
    setting = Setting(family=family, task=task, pooling=pooling)
    if reason := adapter.incompatibility(setting) or task.incompatibility(family, pooling):
        raise ConfigError(f"{reason}.")
    if reason := task.ignores_document(family, pooling):
        warnings.warn(f"{reason}.", stacklevel=3)
    put_back(backbone)
    dropout = _own_dropout(backbone)
    module = adapter.build(backbone, dropout)
    if not task.trains_with_prefix and module.trained_in_backbone == family.trained_with_prefix:
        module.trained_in_backbone = ()
    scorer = task.build_head(head, backbone, dropout)
    backbone.requires_grad_(False)
    device = next(backbone.parameters()).device
    return AdaptedModel(
        backbone, module.to(device), scorer.to(device), adapter_config=adapter, head_config=head
    )


def _config(backbone: nn.Module) -> Any:
    return backbone.config


def _own_dropout(backbone: nn.Module) -> float:
    name = family_of(backbone).hidden_dropout
    return 0.0 if name is None else float(getattr(_config(backbone), name, 0.0))
