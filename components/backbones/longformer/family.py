"""Longformer (the paper's backbone): local window plus global rows; the prefix and the first text
token are global.

The fact a newcomer gets wrong: prefix rows take positions 0..P-1 and the first real token position
P + pad_token_id + 1, so that the rows up to pad_token_id after the prefix stay unused.
Source: the paper's release, whose logits this reproduces
(tests/components/adapters/test_reference.py).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from components.backbones.family import AttentionSizes, Rows, Smoother
from components.backbones.fields import check_fields, check_padding, missing, wrong
from components.backbones.layer_memory import LayerMemory, LayerRun
from components.backbones.longformer.memory import longformer_memory
from components.backbones.shape import BackboneShape, LinearChain

if TYPE_CHECKING:
    from torch import Tensor, nn

    from components.backbones.readers import Reading
    from components.backbones.text_states import TextStates

LORA_TARGETS = ("query", "value", "query_global", "value_global")
CHAIN = LinearChain("attention.output.dense", ("intermediate.dense",), "output.dense")


class Longformer:
    """LongformerModel of transformers, as it is."""

    name = "longformer"
    model_types: tuple[str, ...] = ("longformer",)
    trained_with_prefix: tuple[str, ...] = ("embeddings.token_type_embeddings.weight",)
    rows_see_all_text = True
    decomposes_prefix = True
    reads_in_passing = False
    has_released_indexing = True
    hidden_dropout: str | None = "hidden_dropout_prob"
    attention_dropout = "attention_probs_dropout_prob"
    feed_forward: str | None = None
    load_options: Mapping[str, Any] = {"add_pooling_layer": False}
    structure: tuple[str, ...] = ("attention_window",)
    more_positions: str | None = "raise backbone.lengthen_to"

    def shape(self, config: Mapping[str, Any]) -> BackboneShape:
        """Two sets of query, key and value projections per layer: for local and for global rows."""
        hidden, layers = config["hidden_size"], config["num_hidden_layers"]
        wide, types = config["intermediate_size"], config.get("type_vocab_size", 2)
        tables = config["vocab_size"] + config["max_position_embeddings"] + types
        # Seven: local and global q, k, v, and the output; a layer norm comes on top.
        attention = 7 * (hidden + 1) * hidden + 2 * hidden
        feed_forward = (hidden + 1) * wide + (wide + 1) * hidden + 2 * hidden
        window = config["attention_window"]
        projections = ("query", "key", "value", "query_global", "key_global", "value_global")
        return BackboneShape(
            layers=layers,
            hidden=hidden,
            feed_forward=wide,
            query_width=hidden,
            key_value_width=hidden,
            heads=config["num_attention_heads"],
            positions=self.usable_positions(config),
            attention_window=max(window) if isinstance(window, list | tuple) else window,
            parameters=tables * hidden + 2 * hidden + layers * (attention + feed_forward),
            trained_with_prefix=types * hidden,
            linear_widths=dict.fromkeys(projections, (hidden, hidden)),
            lora_targets=LORA_TARGETS,
            linear_parameters=layers * (7 * hidden * hidden + 2 * hidden * wide),
            embeddings=tables * hidden,
            gated=False,
            chain=CHAIN,
            hidden_dropout=config.get("hidden_dropout_prob", 0.0),
            attention_dropout=config.get("attention_probs_dropout_prob", 0.0),
        )

    def layer_memory(self, shape: BackboneShape, run: LayerRun) -> LayerMemory:
        return longformer_memory(shape, run)

    def layers(self, backbone: "nn.Module") -> "Sequence[nn.Module]":
        return cast("Sequence[nn.Module]", backbone.encoder.layer)  # type: ignore[union-attr]

    def attention_sizes(self, backbone: "nn.Module") -> AttentionSizes:
        config: Any = backbone.config
        return AttentionSizes(
            config.num_attention_heads,
            config.num_attention_heads,
            config.hidden_size // config.num_attention_heads,
        )

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

        batch, before = input_ids_BT.shape[0], rows.key_value + rows.prefix
        pad = backbone.config.pad_token_id  # type: ignore[union-attr]
        if embeddings_BTD is None:
            embeddings_BTD = backbone.get_input_embeddings()(input_ids_BT)  # type: ignore[operator]
        embeddings_BSD = [
            embeddings_BTD.new_zeros(batch, before, embeddings_BTD.shape[-1]),
            embeddings_BTD,
        ]
        if prompt_BPD is not None:
            embeddings_BSD = [prompt_BPD.to(embeddings_BTD.dtype), embeddings_BTD]
        ones_BP = attention_mask_BT.new_ones(batch, before)
        seen_BP = torch.zeros_like(ones_BP) if rows.decomposed else ones_BP
        global_BS = torch.cat(
            [ones_BP, torch.zeros_like(attention_mask_BT) if global_BT is None else global_BT],
            dim=1,
        )
        first_text_B = before + attention_mask_BT.argmax(dim=1)
        global_BS = global_BS.scatter(1, first_text_B[:, None], 1)
        return {
            "inputs_embeds": torch.cat(embeddings_BSD, dim=1),
            "attention_mask": torch.cat([seen_BP, attention_mask_BT], dim=1),
            "global_attention_mask": global_BS,
            "position_ids": _positions_BS(input_ids_BT, rows, pad),
        }

    def forward_context(
        self,
        backbone: "nn.Module",
        attention_mask_BT: "Tensor",
        rows: Rows,
        *,
        read_BR: "Tensor | None" = None,
        text_is_constant: bool = False,
    ) -> AbstractContextManager[None]:
        return nullcontext()

    def text_states(
        self,
        backbone: "nn.Module",
        input_ids_BT: "Tensor",
        attention_mask_BT: "Tensor",
        rows: Rows,
        *,
        stays: bool = True,
    ) -> "TextStates":
        from components.backbones.longformer.one_way import read_text

        inputs = self.prefixed_inputs(backbone, input_ids_BT, attention_mask_BT, rows)
        return read_text(backbone, self.layers(backbone), attention_mask_BT.sum(dim=1), inputs)

    def folding_fault(self, config: Mapping[str, Any]) -> str | None:
        return (
            f"backbone.family {self.name}: a prefix sees the text there; no static prefix stands "
            "for its rows"
        )

    def states_depend_on_rows(self, config: Mapping[str, Any]) -> bool:
        return False

    def run_behind_text(self, backbone: "nn.Module", readings: "Sequence[Reading]") -> "Tensor":
        from components.backbones.longformer.one_way import run_behind_text

        return run_behind_text(backbone, self.layers(backbone), readings)

    def replaced_keys_and_values(
        self, layer: "nn.Module", key_BPK: "Tensor", value_BPK: "Tensor"
    ) -> AbstractContextManager[None]:
        from components.backbones.longformer import hooks

        return hooks.replaced_keys_and_values(_attention(layer), key_BPK, value_BPK)

    def released_indexing(self, layer: "nn.Module", count: int) -> AbstractContextManager[None]:
        from components.backbones.longformer import hooks

        return hooks.changed_output(_attention(layer), hooks.released_indexing(count))

    def added_to_attention(
        self, layer: "nn.Module", extra: "Callable[[Tensor], Tensor]"
    ) -> AbstractContextManager[None]:
        from components.backbones.longformer import hooks

        return hooks.changed_output(_attention(layer), hooks.added(extra))

    def decomposed_prefix(
        self, layer: "nn.Module", prefix_length: int, smooth: "Smoother"
    ) -> AbstractContextManager[None]:
        from components.backbones.longformer import hooks

        return hooks.changed_output(
            _attention(layer), hooks.decomposed_prefix(prefix_length, smooth)
        )

    def only_rows(self, backbone: "nn.Module", row_BR: "Tensor") -> dict[str, Any]:
        from components.backbones.longformer.fast_attention import takes_output_rows

        return {"output_rows": row_BR} if takes_output_rows(backbone) else {}

    def usable_positions(self, config: Mapping[str, Any]) -> int:
        return int(config["max_position_embeddings"] - (config["pad_token_id"] or 0) - 1)

    def check_supported(self, config: Mapping[str, Any]) -> None:
        check_fields(config)
        check_padding(config, required=True)
        if config["max_position_embeddings"] <= config["pad_token_id"] + 1:
            raise wrong(
                "max_position_embeddings",
                config["max_position_embeddings"],
                f"more than pad_token_id + 1 = {config['pad_token_id'] + 1}",
            )
        window, layers = config.get("attention_window"), config["num_hidden_layers"]
        if window is None:
            raise missing("attention_window")
        windows = window if isinstance(window, list | tuple) else [window] * layers
        if len(windows) != layers:
            raise wrong("attention_window", window, f"one number, or one per layer ({layers})")
        if not all(type(width) is int and width > 0 and width % 2 == 0 for width in windows):
            raise wrong("attention_window", window, "positive even numbers")

    def accelerate(self, backbone: "nn.Module") -> None:
        from components.backbones.longformer.fast_attention import install_fast_attention

        install_fast_attention(backbone)


def _positions_BS(input_ids_BT: "Tensor", rows: Rows, pad: int) -> "Tensor":
    """Position ids: 0 for key/value rows (no matter which), 0..P-1, then (cumsum(ids != pad) +
    offset) * (ids != pad) + pad.
    """
    import torch

    real_BT = input_ids_BT.ne(pad).long()
    text_BT = (real_BT.cumsum(dim=1) + rows.offset) * real_BT + pad
    before = [torch.zeros(rows.key_value, dtype=torch.long), torch.arange(rows.prefix)]
    before_BP = torch.cat(before).to(input_ids_BT.device).expand(input_ids_BT.shape[0], -1)
    return torch.cat([before_BP, text_BT], dim=1)


def _attention(layer: Any) -> Any:
    """The layer's LongformerSelfAttention."""
    return layer.attention.self


LONGFORMER = Longformer()
