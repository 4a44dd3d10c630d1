"""Keys and values of a document's text in every layer, read without gradients, and rows behind the
text that are run on them: a suffix of a decoder, or the rows of an encoder's one-way form. The text
sees neither.

Both passes run the stock backbone over the rows that they are about; its layers' calls of the
attention function are answered here. The first keeps keys and values as they are after norms and
rotation; the second puts them before its rows' own. What a gradient needs of the text is in them.

The facts a newcomer gets wrong: a document's states do not depend on these rows at all, so every
trial and epoch has the same; and padding stands between the text and the rows of the second pass,
whose mask and positions therefore differ from document to document.
Shapes: B batch, T text tokens, P rows behind them, D hidden, H heads, K key/value heads, E head
size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from components.backbones.answered_attention import answered, bias, stock_function

NAME = "prefixprop_text_states"
"""Our attention function's name in transformers' table, and where a module keeps the run."""


@dataclass(frozen=True)
class TextStates:
    """What rows behind a text need of it: of each layer keys and values (B, K, T, E), and how many
    tokens each document has, `tokens_B` int64; what lies behind them is padding.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    tokens_B: Tensor

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
    """One layer's part of a run over rows behind a text."""

    implementation: str | None
    key_BKTE: Tensor
    value_BKTE: Tensor

    def attend(self, module: Any, *given: Any, **options: Any) -> Any:
        query, key, value, mask = given
        if self.implementation == "sdpa":
            output_BHPE = attend_text_and_rows(
                query,
                (self.key_BKTE, self.value_BKTE),
                (key, value),
                mask,
                scaling=options.get("scaling"),
                dropout=options.get("dropout", 0.0),
            )
            return output_BHPE.transpose(1, 2).contiguous(), None
        key = torch.cat([self.key_BKTE.to(key.dtype), key], dim=2)
        value = torch.cat([self.value_BKTE.to(value.dtype), value], dim=2)
        return stock_function(module, self.implementation)(
            module, query, key, value, mask, **options
        )


def attend_text_and_rows(
    query_BHPE: Tensor,
    text: tuple[Tensor, Tensor],
    rows: tuple[Tensor, Tensor],
    mask: Tensor,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention (B, H, P, E) of few queries to keys and values of the text and of their own rows.

    `text`, `rows`: keys and values, (B, K, T, E) and (B, K, P, E); `mask` (B, 1, 1 or P, T + P) is
    added to the scores; `scaling`: None is 1 / sqrt(E). A kernel would want both in one tensor, and
    a gradient for the text: copies of what takes by far the most memory here.
    """
    (key_BKTE, value_BKTE), (key_BKPE, value_BKPE) = text, rows
    batch, heads, count, size = query_BHPE.shape
    groups = heads // key_BKTE.shape[1]
    query_BKRE = query_BHPE.reshape(batch, -1, groups * count, size)
    query_BKRE = query_BKRE * (size**-0.5 if scaling is None else scaling)
    scores = [
        query_BKRE @ key.to(query_BHPE.dtype).transpose(-1, -2) for key in (key_BKTE, key_BKPE)
    ]
    mask_BRJ = mask[:, 0].expand(-1, count, -1).repeat(1, groups, 1)
    score_BKRJ = torch.cat(scores, dim=-1).float() + mask_BRJ[:, None].float()
    weight_BKRJ = score_BKRJ.softmax(dim=-1).to(query_BHPE.dtype)
    weight_BKRJ = torch.nn.functional.dropout(weight_BKRJ, dropout, training=dropout > 0)
    in_text = weight_BKRJ[..., : key_BKTE.shape[2]] @ value_BKTE.to(query_BHPE.dtype)
    in_rows = weight_BKRJ[..., key_BKTE.shape[2] :] @ value_BKPE
    return (in_text + in_rows).reshape(batch, heads, count, size)


def read_text(
    backbone: nn.Module, attentions: Sequence[nn.Module], tokens_B: Tensor, inputs: dict[str, Any]
) -> TextStates:
    """States of the text. `attentions`: the modules that call transformers' attention function,
    one per layer in order; `inputs`: keyword arguments of the backbone's forward over (B, T) rows.

    Where weights are whole here, the last layer's run ends at its keys and values; with shards of
    ZeRO-3, which counts on every module's call to come to its end, it is completed.
    """
    _register()
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
    backbone: nn.Module, attentions: Sequence[nn.Module], states: TextStates
) -> Iterator[None]:
    """Context in which the backbone's rows see the text of these states too. Its layers are not
    checkpointed then: they are few rows, and keep little.
    """
    _register()
    implementation = backbone.config._attn_implementation  # type: ignore[union-attr]
    with ExitStack() as stack:
        for attention, (key_BKTE, value_BKTE) in zip(attentions, states.layers, strict=True):
            run = _Behind(implementation, key_BKTE, value_BKTE)  # type: ignore[arg-type]
            stack.enter_context(answered(attention, NAME, run))
        for module in backbone.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.gradient_checkpointing = False  # type: ignore[assignment]
                stack.callback(setattr, module, "gradient_checkpointing", True)
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
    tokens_B: Tensor,
    sizes: tuple[int, int],
    like: Tensor,
    *,
    sees: Callable[[Tensor, Tensor], Any],
) -> Tensor:
    """(B, 1, P, T + P) added to the scores of P rows, each of which sees the text and rows for
    which sees(its position, the key's position) holds. `sizes`: T and P.
    """
    text, behind = sizes
    text_T = torch.arange(text, device=tokens_B.device)
    behind_BP = tokens_B[:, None] + torch.arange(behind, device=tokens_B.device)
    is_text_BT = text_T < tokens_B[:, None]
    place_BJ = torch.cat([text_T.expand(len(tokens_B), -1), behind_BP], dim=1)
    is_there_BJ = torch.cat([is_text_BT, torch.ones_like(behind_BP, dtype=torch.bool)], dim=1)
    row_BP1, key_B1J = behind_BP[:, :, None], place_BJ[:, None]
    seen_BPJ = is_there_BJ[:, None] & sees(row_BP1, key_B1J)
    return bias(seen_BPJ[:, None], like)


def _register() -> None:
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
