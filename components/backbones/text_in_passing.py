"""A text that is read layer by layer while rows behind it are run: once the rows have met a layer's
keys and values, these are gone, so that both together take the memory of reading the text.

Each layer is given what the stock backbone would give it; the backbone is run once with layers that
only write that down. The fact a newcomer gets wrong: the backward pass does not need the text. Of a
layer's keys and values it needs sums of their products (attention_of_few.py), E x E numbers for
each row and head, however long the text is. That is more work, and the last digits of gradients
differ from those on states that stay: it is for those who recompute rather than keep
(training.gradient_checkpointing).
Shapes: B documents, T text tokens, D hidden, K key/value heads, E head size.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from components.backbones.answered_attention import answered, stock_function
from components.backbones.own_forward import stock_forward
from components.backbones.text_states import NAME, AllTaken, register, without_dropout

Attend = Callable[..., Tensor]
"""(text=(keys, values)) -> the rows' mixed values."""


def passes(backbone: nn.Module) -> bool:
    """Whether its layers can be run one by one here: their weights are whole, and rows attend by
    attention_of_few.py.
    """
    whole = not any(hasattr(parameter, "ds_id") for parameter in backbone.parameters())
    return whole and backbone.config._attn_implementation == "sdpa"  # type: ignore[union-attr]


class TextInPassing:
    """Stands where TextStates do; each layer can be met once, in order.

    `attentions`: the modules that call transformers' attention function, one per layer in order;
    `inputs`: keyword arguments of the backbone's forward over (B, T) rows. Made only
    where the backbone `passes`.
    """

    stays = False

    def __init__(
        self,
        backbone: nn.Module,
        attentions: Sequence[nn.Module],
        layers: Sequence[nn.Module],
        tokens_B: Tensor,
        inputs: dict[str, Any],
    ) -> None:
        register()
        self.tokens_B, self.width = tokens_B, int(inputs["position_ids"].shape[1])
        self.depth, self._layers, self._attentions = len(layers), layers, attentions
        self._implementation: str = backbone.config._attn_implementation  # type: ignore[union-attr, assignment]
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._hidden_BTD: Tensor | None = None
        with torch.no_grad(), without_dropout(backbone), ExitStack() as stack:
            for layer in layers:
                before = layer.__dict__.get("forward")
                layer.forward = self._note  # type: ignore[method-assign]
                stack.callback(_restore, layer, before)
            with suppress(AllTaken):
                backbone(**inputs)

    def _note(self, hidden_states: Tensor, *args: Any, **options: Any) -> Tensor:
        if self._hidden_BTD is None:
            self._hidden_BTD = hidden_states
        self._calls.append((args, options))
        if len(self._calls) == len(self._layers):
            raise AllTaken
        return hidden_states

    def meet(self, layer: int, attend: Attend) -> Tensor:
        """What the rows take from this layer's keys and values, while the text goes through it."""
        args, options = self._calls[layer]
        module, attention = self._layers[layer], self._attentions[layer]
        is_last = layer + 1 == len(self._layers)
        run = _Meeting(self._implementation, attend, torch.is_grad_enabled(), is_last)
        with (
            torch.no_grad(),
            without_dropout(module),
            answered(attention, NAME, run),
            suppress(AllTaken),
        ):
            self._hidden_BTD = stock_forward(module)(module, self._hidden_BTD, *args, **options)
        if is_last:
            self._hidden_BTD = None
        assert run.met is not None, "a layer did not call its attention function"
        return run.met


def _restore(layer: nn.Module, forward: Any) -> None:
    del layer.forward
    if forward is not None:
        layer.forward = forward


@dataclass
class _Meeting:
    """One layer's part of the text's run."""

    implementation: str
    attend_rows: Attend
    with_gradients: bool
    ends_here: bool
    met: Tensor | None = None

    def attend(self, module: Any, *given: Any, **options: Any) -> Any:
        _query, key, value, _mask = given
        with torch.set_grad_enabled(self.with_gradients):
            self.met = self.attend_rows(text=(key, value))
        if self.ends_here:
            raise AllTaken
        return stock_function(module, self.implementation)(module, *given, **options)
