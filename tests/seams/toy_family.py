"""A backbone family in one file: stock BertModel, which no family of the project reads as it is.

It lets prefixes be propagated; what else a family may offer it refuses by name.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

from components.backbones.family import AttentionSizes, Rows
from components.backbones.layer_memory import LayerMemory, LayerRun
from components.backbones.shape import BackboneShape
from components.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor, nn


class Bert:
    """BertModel of transformers, as it is: every row sees every row."""

    name = "bert"
    model_types: tuple[str, ...] = ("bert",)
    trained_with_prefix: tuple[str, ...] = ()
    rows_see_all_text = True
    decomposes_prefix = False
    reads_in_passing = False
    has_released_indexing = False
    hidden_dropout: str | None = "hidden_dropout_prob"
    attention_dropout = "attention_probs_dropout_prob"
    feed_forward: str | None = None
    load_options: Mapping[str, Any] = {"add_pooling_layer": False}
    structure: tuple[str, ...] = ()
    more_positions: str | None = None

    def shape(self, config: Mapping[str, Any]) -> BackboneShape:
        hidden, wide = config["hidden_size"], config["intermediate_size"]
        layers = config["num_hidden_layers"]
        rows = config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]
        attention = 4 * (hidden + 1) * hidden + 2 * hidden
        feed_forward = (hidden + 1) * wide + (wide + 1) * hidden + 2 * hidden
        return BackboneShape(
            layers=layers,
            hidden=hidden,
            feed_forward=wide,
            query_width=hidden,
            key_value_width=hidden,
            heads=config["num_attention_heads"],
            positions=self.usable_positions(config),
            attention_window=None,
            parameters=rows * hidden + 2 * hidden + layers * (attention + feed_forward),
            trained_with_prefix=0,
            linear_widths=dict.fromkeys(("query", "key", "value"), (hidden, hidden)),
            lora_targets=("query", "value"),
        )

    def layer_memory(self, shape: BackboneShape, run: LayerRun) -> LayerMemory:
        row = run.all_rows * run.number_bytes
        kept = (9 * shape.hidden + 2 * shape.feed_forward) * row
        return LayerMemory(
            kept=kept,
            input=0,
            boundary=shape.hidden * row,
            last=kept,
            forward=shape.feed_forward * row,
            backward={"backward of a feed-forward part": 2 * shape.feed_forward * row},
            without_gradients=2 * shape.feed_forward * row,
            outside=0,
        )

    def layers(self, backbone: "nn.Module") -> "Sequence[nn.Module]":
        return cast("Sequence[nn.Module]", backbone.encoder.layer)

    def attention_sizes(self, backbone: "nn.Module") -> AttentionSizes:
        config: Any = backbone.config
        heads = config.num_attention_heads
        return AttentionSizes(heads, heads, config.hidden_size // heads)

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
        if embeddings_BTD is None:
            embeddings_BTD = backbone.get_input_embeddings()(input_ids_BT)
        before_BPD = (
            embeddings_BTD.new_zeros(batch, before, embeddings_BTD.shape[-1])
            if prompt_BPD is None
            else prompt_BPD.to(embeddings_BTD.dtype)
        )
        text_BT = (attention_mask_BT.cumsum(dim=1) - 1).clamp(min=0) + rows.offset
        places_BP = torch.arange(before, device=input_ids_BT.device).expand(batch, -1)
        return {
            "inputs_embeds": torch.cat([before_BPD, embeddings_BTD], dim=1),
            "attention_mask": torch.cat(
                [attention_mask_BT.new_ones(batch, before), attention_mask_BT], dim=1
            ),
            "position_ids": torch.cat([places_BP, text_BT], dim=1),
        }

    def forward_context(self, backbone: Any, mask: Any, rows: Rows, **unused: Any) -> Any:
        return nullcontext()

    def text_states(self, backbone: Any, ids: Any, mask: Any, rows: Rows, **more: Any) -> Any:
        raise BackboneError("this family has no suffix")

    def folding_fault(self, config: Any) -> str:
        return "backbone.family bert: a prefix sees the text there"

    def states_depend_on_rows(self, config: Any) -> bool:
        return False

    def run_behind_text(self, backbone: Any, readings: Any) -> Any:
        raise BackboneError("this family has no suffix")

    def replaced_keys_and_values(self, layer: "nn.Module", key: "Tensor", value: "Tensor") -> Any:
        raise BackboneError("this family has no trained keys and values")

    def released_indexing(self, layer: "nn.Module", count: int) -> Any:
        raise BackboneError("this family has no released indexing")

    def added_to_attention(self, layer: "nn.Module", extra: Any) -> Any:
        raise BackboneError("this family adds nothing to its attention")

    def decomposed_prefix(self, layer: "nn.Module", prefix_length: int, smooth: Any) -> Any:
        raise BackboneError("this family has no decomposed prefix")

    def only_rows(self, backbone: "nn.Module", row_BR: "Tensor") -> dict[str, Any]:
        return {}

    def usable_positions(self, config: Mapping[str, Any]) -> int:
        return int(config["max_position_embeddings"])

    def check_supported(self, config: Mapping[str, Any]) -> None:
        return

    def accelerate(self, backbone: "nn.Module") -> None:
        return


BERT = Bert()
