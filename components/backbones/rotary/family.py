"""The families of rotary transformers: causal decoders (Llama, Qwen, Gemma, ...), where a prefix
comes before the text and cannot see it and a suffix comes after it and does; and encoders
(ModernBERT, EuroBERT), where every row sees every row.

The facts a newcomer gets wrong: under a causal mask the prefix rows do not depend on the document,
and the text rows do not depend on a suffix. Grouped-query attention needs no care here, because the
prefix is added to hidden states and not to keys and values. The text stands right behind the
prefix and padding behind everything: AdaptedModel turns left padding before it asks.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, cast

from components.backbones.family import AttentionSizes, Rows
from components.backbones.fields import check_fields, wrong
from components.backbones.layer_memory import LayerMemory, LayerRun
from components.backbones.rotary import positions, sizes
from components.backbones.rotary.chosen_attention import choose_attention, choose_from_now_on
from components.backbones.rotary.memory import rotary_memory
from components.backbones.rotary.model_type import ModelType, Values
from components.backbones.rotary.types import MODEL_TYPES
from components.backbones.shape import BackboneShape
from components.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from components.backbones.readers import Reading
    from components.backbones.text_in_passing import TextInPassing
    from components.backbones.text_states import TextStates

NUMBERS_OF_A_ROTATION = ("rope_theta", "factor", "original_max_position_embeddings")
KINDS = ("full_attention", *sizes.LOCAL)
"""Kinds of layers in which a prefix row can be seen by every later row."""


class RotaryFamily:
    """Stock models with rotary positions; what differs from one to the other stands in types/."""

    trained_with_prefix: tuple[str, ...] = ()
    decomposes_prefix = False
    reads_in_passing = True
    has_released_indexing = False
    hidden_dropout: str | None = None
    attention_dropout = "attention_dropout"
    feed_forward: str | None = "mlp"
    load_options: Mapping[str, Any] = {}
    structure: tuple[str, ...] = ("rms_norm_eps", "sliding_window")
    more_positions: str | None = None

    def __init__(self, name: str, *, rows_see_all_text: bool) -> None:
        self.name, self.rows_see_all_text = name, rows_see_all_text

    @property
    def model_types(self) -> tuple[str, ...]:
        """Of the types that are causal, or of those that are not."""
        return tuple(
            name
            for name, kind in MODEL_TYPES.items()
            if kind.is_causal is not self.rows_see_all_text
        )

    def shape(self, config: Values) -> BackboneShape:
        return sizes.shape(_kind(config), config)

    def layer_memory(self, shape: BackboneShape, run: LayerRun) -> LayerMemory:
        return rotary_memory(shape, run)

    def layers(self, backbone: "nn.Module") -> "Sequence[nn.Module]":
        return cast("Sequence[nn.Module]", backbone.layers)

    def attention_sizes(self, backbone: "nn.Module") -> AttentionSizes:
        config: Any = backbone.config
        heads = _kind_of(backbone).heads(config.to_dict())
        return AttentionSizes(heads.query, heads.key_value, heads.size)

    def prefixed_inputs(
        self,
        backbone: "nn.Module",
        input_ids_BT: "Tensor",
        attention_mask_BT: "Tensor",
        rows: Rows,
        *,
        prompt_BPD: "Tensor | None" = None,
        embeddings_BTD: "Tensor | None" = None,
        global_BT: "Tensor | None" = None,
    ) -> dict[str, Any]:
        import torch

        from components.backbones.rotary import masks

        batch, before = input_ids_BT.shape[0], rows.key_value + rows.prefix
        if embeddings_BTD is None:
            embeddings_BTD = backbone.get_input_embeddings()(input_ids_BT)  # type: ignore[operator]
        before_BPD = (
            embeddings_BTD.new_zeros(batch, before, embeddings_BTD.shape[-1])
            if prompt_BPD is None
            else prompt_BPD.to(embeddings_BTD.dtype)
        )
        embeddings_BSD = torch.cat([before_BPD, embeddings_BTD], dim=1)
        kind = _kind_of(backbone)
        choose_attention(kind, backbone)
        if self.rows_see_all_text:
            ones_BP = attention_mask_BT.new_ones(batch, before)
            mask = masks.bidirectional_masks(
                kind,
                backbone.config,
                embeddings_BSD,
                torch.cat([ones_BP, attention_mask_BT], dim=1),
                prefix_rows=before,
            )
        else:
            mask = masks.causal_masks(kind, backbone.config, embeddings_BSD, prefix_rows=before)
        # One after the other, whatever a row holds: a jump would be taken for the start of another
        # document.
        places_S = torch.arange(embeddings_BSD.shape[1], device=input_ids_BT.device)
        places_S = places_S + _first_of_text(kind, rows) - before
        inputs = {
            "inputs_embeds": embeddings_BSD,
            "attention_mask": mask,
            "position_ids": places_S.expand(batch, -1),
        }
        return inputs if self.rows_see_all_text else inputs | {"use_cache": False}

    @contextmanager
    def forward_context(
        self,
        backbone: "nn.Module",
        attention_mask_BT: "Tensor",
        rows: Rows,
        *,
        read_BR: "Tensor | None" = None,
        text_is_constant: bool = False,
    ) -> Iterator[None]:
        from components.backbones.constant_text import constant_text
        from components.backbones.read_rows import only_read_rows

        config: Any = backbone.config
        with ExitStack() as stack:
            if positions.rotates_by_length(vars(config)):
                last_B = _first_of_text(_kind_of(backbone), rows) + attention_mask_BT.sum(dim=1) - 1
                stack.enter_context(positions.rotated_alone(backbone, last_B + rows.suffix))
            if text_is_constant and not self.rows_see_all_text:
                before = rows.key_value + rows.prefix
                stack.enter_context(constant_text(self.layers(backbone)[0], before))
            if read_BR is not None:
                stack.enter_context(only_read_rows(self.layers(backbone)[-1], read_BR))
            yield

    def text_states(
        self,
        backbone: "nn.Module",
        input_ids_BT: "Tensor",
        attention_mask_BT: "Tensor",
        rows: Rows,
        *,
        stays: bool = True,
    ) -> "TextStates | TextInPassing":
        import torch

        from components.backbones.text_in_passing import TextInPassing, passes
        from components.backbones.text_states import read_text

        inputs = self.prefixed_inputs(backbone, input_ids_BT, attention_mask_BT, rows)
        attentions = [_of_layer(layer)[1] for layer in self.layers(backbone)]
        tokens_B = attention_mask_BT.sum(dim=1)
        with torch.no_grad(), self.forward_context(backbone, attention_mask_BT, rows):
            if stays or not passes(backbone):
                return read_text(backbone, attentions, tokens_B, inputs)
            return TextInPassing(backbone, attentions, self.layers(backbone), tokens_B, inputs)

    def folding_fault(self, config: Values) -> str | None:
        fix = "no static prefix stands for its rows"
        if self.rows_see_all_text:
            return f"backbone.family {self.name}: a prefix sees the text there; {fix}"
        from components.backbones.rotary.masks import hides_prefix

        usable = self.usable_positions(config)
        if name := hides_prefix(_kind(config), config, usable):
            return (
                f"backbone: its {name} is less than its {usable} positions, so that stock layers "
                f"hide a prefix from rows further away; {fix}"
            )
        if positions.rotates_by_length(config):
            return f"backbone: it rotates a prefix by the length of the text behind it; {fix}"
        return None

    def states_depend_on_rows(self, config: Values) -> bool:
        return positions.rotates_by_length(config)

    def run_behind_text(self, backbone: "nn.Module", readings: "Sequence[Reading]") -> "Tensor":
        import torch

        from components.backbones.numbers import numbers_of
        from components.backbones.readers import most_rows, tokens_and_rows
        from components.backbones.rotary import masks
        from components.backbones.text_states import behind_text

        config: Any = backbone.config
        kind, weight, count = _kind_of(backbone), numbers_of(backbone), most_rows(readings)
        tokens_N, rows_N = tokens_and_rows(readings)
        inputs = {
            "inputs_embeds": weight.new_zeros(len(tokens_N), count, config.hidden_size),
            "attention_mask": masks.masks_behind_text(kind, config, readings, weight),
            "position_ids": tokens_N[:, None] + torch.arange(count, device=tokens_N.device),
        }
        if not self.rows_see_all_text:
            inputs["use_cache"] = False
        attentions = [_of_layer(layer)[1] for layer in self.layers(backbone)]
        with ExitStack() as stack:
            if positions.rotates_by_length(vars(config)):
                last_N = tokens_N + rows_N - 1
                stack.enter_context(positions.rotated_alone(backbone, last_N))
            stack.enter_context(behind_text(backbone, attentions, readings))
            hidden_NPD: Tensor = backbone(**inputs).last_hidden_state
        return hidden_NPD

    def replaced_keys_and_values(
        self, layer: "nn.Module", key_BPK: "Tensor", value_BPK: "Tensor"
    ) -> AbstractContextManager[None]:
        from components.backbones.rotary.attention import placed_as_cache

        kind, attention = _of_layer(layer)
        if kind.placed is not None:
            return kind.placed(attention, key_BPK, value_BPK)
        return placed_as_cache(attention, key_BPK, value_BPK, argument=kind.cache_argument)

    def released_indexing(self, layer: "nn.Module", count: int) -> Any:
        raise BackboneError(
            "a rotary backbone has no released indexing (the settings of the method refuse it by "
            "name)"
        )

    def added_to_attention(
        self, layer: "nn.Module", extra: "Callable[[Tensor], Tensor]"
    ) -> AbstractContextManager[None]:
        from components.backbones.rotary.attention import added

        kind, attention = _of_layer(layer)
        return added(kind, attention, extra)

    def decomposed_prefix(self, layer: "nn.Module", prefix_length: int, smooth: Any) -> Any:
        raise BackboneError(
            "a rotary backbone's attention cannot leave the prefix rows out (the settings of the "
            "method refuse it by name)"
        )

    def only_rows(self, backbone: "nn.Module", row_BR: "Tensor") -> dict[str, Any]:
        return {}

    def usable_positions(self, config: Values) -> int:
        return positions.usable_positions(config)

    def check_supported(self, config: Values) -> None:
        kind = _kind(config)
        values = kind.complete(config)
        check_fields(values)
        for rotation in positions.rotations(values) or ({},):
            for name in NUMBERS_OF_A_ROTATION:
                given = rotation.get(name, values.get(name))
                if given is not None and not (type(given) in (int, float) and 0 < given < math.inf):
                    raise wrong(name, given, "a positive number")
        _check_layers(kind, values)

    def accelerate(self, backbone: "nn.Module") -> None:
        """Let the last layer compute only what is read, a decoder's first one leave constant text
        out of the backward pass, and attention be chosen by where the backbone stands
        (attention_choice.py), each time that it is run.
        """
        from components.backbones.constant_text import install_constant_text
        from components.backbones.read_rows import install_read_rows

        first, last = self.layers(backbone)[0], self.layers(backbone)[-1]
        install_read_rows(last, _of_layer(last)[1])
        if first is not last and not self.rows_see_all_text:
            install_constant_text(first, _of_layer(first)[1])
        choose_from_now_on(backbone)


def _first_of_text(kind: ModelType, rows: Rows) -> int:
    """The position of the first token."""
    before = rows.key_value + rows.prefix
    return max(rows.offset, before) if kind.scales_with_position else rows.offset


def _kind(config: Values) -> ModelType:
    return MODEL_TYPES[str(config["model_type"])]


def _kind_of(backbone: "nn.Module") -> ModelType:
    return MODEL_TYPES[backbone.config.model_type]  # type: ignore[union-attr, index]


def _of_layer(layer: Any) -> tuple[ModelType, Any]:
    """The type of the model that the layer belongs to, and its attention."""
    for name in dict.fromkeys(kind.attention for kind in MODEL_TYPES.values()):
        attention = getattr(layer, name, None)
        if attention is not None:
            return MODEL_TYPES[attention.config.model_type], attention
    raise AssertionError(f"no model type has a layer like {type(layer).__name__}")


def _check_layers(kind: ModelType, values: Values) -> None:
    kinds = sizes.layer_kinds(kind, values)
    if len(kinds) != values["num_hidden_layers"]:
        raise wrong("layer_types", list(kinds), f"one per layer ({values['num_hidden_layers']})")
    for each in kinds:
        if each not in KINDS:
            raise wrong("layer_types", each, f"one of {', '.join(KINDS)}")
    for each, name in zip(sizes.LOCAL, (kind.window, "attention_chunk_size"), strict=True):
        width = values.get(name)
        if each in kinds and not (type(width) is int and width > 0):
            raise wrong(name, width, "a positive integer")


DECODER = RotaryFamily("decoder", rows_see_all_text=False)
ENCODER = RotaryFamily("encoder", rows_see_all_text=True)
