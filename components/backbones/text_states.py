"""Keys and values of a document's text in every layer, read without gradients, and rows behind the
text that are run on them: a suffix of a decoder, or the rows of an encoder's one-way form. The text
sees neither.

Both passes run the stock backbone over the rows that they are about; its layers' calls of the
attention function are answered here. The first keeps keys and values as they are after norms and
rotation; the second puts them before its rows' own. What a gradient needs of the text is in them.

The facts a newcomer gets wrong: a document's states do not depend on these rows at all, so every
trial and epoch has the same; and padding stands between the text and the rows of the second pass,
whose mask and positions therefore differ from document to document.
Shapes: B documents, T text tokens, P rows behind them, N sequences of rows (readers.py), J = T + P,
K key/value heads, E head size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from components.backbones.answered_attention import answered, bias, stock_function
from components.backbones.readers import (
    Reading,
    dropout_of_each,
    most_rows,
    padded_rows,
    parts,
    tokens_and_rows,
)
from components.backbones.text_attention import attend_readings, of_text

NAME = "prefixprop_text_states"
"""Our attention function's name in transformers' table, and where a module keeps the run."""


@dataclass(frozen=True)
class TextStates:
    """What rows behind a text need of it: of each layer keys and values (B, K, T, E), and how many
    tokens each document has, `tokens_B` int64; what lies behind them is padding.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    tokens_B: Tensor
    stays: ClassVar[bool] = True
    """Whether keys and values are there in the backward pass too."""

    @property
    def depth(self) -> int:
        """L, the number of layers."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """T, padding included."""
        return self.layers[0][0].shape[2]

    def meet(self, layer: int, attend: Callable[..., Tensor]) -> Tensor:
        """What attend(text=(keys, values of this layer)) gives."""
        return attend(text=self.layers[layer])

    def to(self, device: torch.device) -> "TextStates":
        """The same on another device."""
        layers = tuple((key.to(device), value.to(device)) for key, value in self.layers)
        return TextStates(layers, self.tokens_B.to(device))


class AllTaken(Exception):
    """Ends a run over the text: the last layer's keys and values are there."""


@dataclass
class _Reading:
    """A run over the text; `layers` fill up in order."""

    implementation: str | None
    ends_after: int | None
    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def attend(self, module: Any, *given: Any, **options: Any) -> Any:
        _query, key, value, _mask = given
        self.layers.append((key, value))
        if len(self.layers) == self.ends_after:
            raise AllTaken
        return _implementation(module, self.implementation)(module, *given, **options)


@dataclass
class _Behind:
    """One layer's part of a run over rows behind texts."""

    implementation: str | None
    readings: Sequence[Reading]
    layer: int

    def attend(self, module: Any, *given: Any, **options: Any) -> Any:
        query, key, value, mask = given
        if self.implementation == "sdpa":
            output_NHPE = attend_readings(
                query,
                (key, value),
                self.readings,
                self.layer,
                mask,
                scaling=options.get("scaling"),
                dropout=options.get("dropout", 0.0),
            )
            return output_NHPE.transpose(1, 2).contiguous(), None
        attend = stock_function(module, self.implementation)
        outputs = []
        for reading, reader, place in parts(self.readings):
            assert isinstance(reading.states, TextStates)
            own = slice(reader.rows)
            keys, values = (
                torch.cat([text.to(rows.dtype), rows[place, :, own]], dim=2)
                for text, rows in zip(reading.states.layers[self.layer], (key, value), strict=True)
            )
            mask_BXPJ = of_text(mask[place], reading.text, query.shape[2])[..., own, :]
            mask_BXPJ = mask_BXPJ[..., : keys.shape[2]]
            with reader.turn():
                output_BPHE, _ = attend(
                    module, query[place, :, own], keys, values, mask_BXPJ, **options
                )
            outputs.append(padded_rows(output_BPHE, query.shape[2]))
        return torch.cat(outputs), None


def read_text(
    backbone: nn.Module, attentions: Sequence[nn.Module], tokens_B: Tensor, inputs: dict[str, Any]
) -> TextStates:
    """States of the text. `attentions`: the modules that call transformers' attention function,
    one per layer in order; `inputs`: keyword arguments of the backbone's forward over (B, T) rows.

    Where weights are whole here, the last layer's run ends at its keys and values; with shards of
    ZeRO-3, which counts on every module's call to come to its end, it is completed.
    """
    register()
    sharded = any(hasattr(parameter, "ds_id") for parameter in backbone.parameters())
    implementation = backbone.config._attn_implementation  # type: ignore[union-attr]
    run = _Reading(implementation, ends_after=None if sharded else len(attentions))  # type: ignore[arg-type]
    with torch.no_grad(), without_dropout(backbone), ExitStack() as stack:
        for attention in attentions:
            stack.enter_context(answered(attention, NAME, run))
        with suppress(AllTaken):
            backbone(**inputs)
    assert len(run.layers) == len(attentions), "a layer did not call its attention function once"
    return TextStates(tuple(run.layers), tokens_B)


@contextmanager
def behind_text(
    backbone: nn.Module, attentions: Sequence[nn.Module], readings: Sequence[Reading]
) -> Iterator[None]:
    """Context in which the backbone's sequences of rows see the texts that they read too. Its
    layers are not checkpointed then: they are few rows, and keep little.
    """
    register()
    implementation = backbone.config._attn_implementation  # type: ignore[union-attr]
    with ExitStack() as stack:
        for layer, attention in enumerate(attentions):
            run = _Behind(implementation, readings, layer)  # type: ignore[arg-type]
            stack.enter_context(answered(attention, NAME, run))
        for module in backbone.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.gradient_checkpointing = False  # type: ignore[assignment]
                stack.callback(setattr, module, "gradient_checkpointing", True)
        stack.enter_context(dropout_of_each(backbone, readings))
        yield


@contextmanager
def without_dropout(backbone: nn.Module) -> Iterator[None]:
    """Context in which the backbone is in evaluation mode: a text's states are the same each time
    that it is read.
    """
    trains = backbone.training
    backbone.eval()
    try:
        yield
    finally:
        backbone.train(trains)


def mask_behind_text(
    readings: Sequence[Reading], like: Tensor, *, sees: Callable[[Tensor, Tensor], Any]
) -> Tensor:
    """(N, 1, P, T + P) added to the scores of rows, each of which sees the text that it reads and
    its adapter's rows for which sees(its position, the key's position) holds. T: the widest text.
    """
    tokens_N, rows_N = tokens_and_rows(readings)
    text_T = torch.arange(max(reading.text for reading in readings), device=tokens_N.device)
    row_P = torch.arange(most_rows(readings), device=tokens_N.device)
    behind_NP = tokens_N[:, None] + row_P
    place_NJ = torch.cat([text_T.expand(len(tokens_N), -1), behind_NP], dim=1)
    is_there_NJ = torch.cat([text_T < tokens_N[:, None], row_P < rows_N[:, None]], dim=1)
    row_NP1, key_N1J = behind_NP[:, :, None], place_NJ[:, None]
    seen_NPJ = is_there_NJ[:, None] & sees(row_NP1, key_N1J)
    return bias(seen_NPJ[:, None], like)


def register() -> None:
    """Put our attention function into transformers' table."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention_function)


def _attention_function(module: Any, *given: Any, **options: Any) -> Any:
    return module.__dict__[NAME].attend(module, *given, **options)


def _implementation(module: Any, name: str | None) -> Callable[..., Any]:
    """The function that the model was loaded with."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if name in ALL_ATTENTION_FUNCTIONS:
        found: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS[name]
        return found
    return stock_function(module, name)
