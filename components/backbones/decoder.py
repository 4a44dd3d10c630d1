"""Causal decoders of the Llama form (LlamaModel, Qwen3Model, ...): the prefix comes before the text and cannot see it.

The fact a newcomer gets wrong: under a causal mask the prefix rows do not depend on the document. Grouped-query attention needs no care here, because the prefix is added to hidden
states and not to keys and values. Right and left padding give the same result: positions follow the real tokens.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from components.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor, nn


class Decoder:
    """Decoders with rotary positions and full attention in every layer."""

    name = "decoder"
    model_types = ("llama", "qwen2", "qwen3", "mistral")
    trained_with_prefix = ()

    def layers(self, backbone: "nn.Module") -> "Sequence[nn.Module]":
        return cast("Sequence[nn.Module]", backbone.layers)

    def prefixed_inputs(self, backbone: "nn.Module", input_ids_BT: "Tensor", attention_mask_BT: "Tensor", prefix_length: int) -> dict[str, Any]:
        import torch

        batch = input_ids_BT.shape[0]
        embeddings_BTD = backbone.get_input_embeddings()(input_ids_BT)  # type: ignore[operator]
        zeros_BPD = embeddings_BTD.new_zeros(batch, prefix_length, embeddings_BTD.shape[-1])
        mask_BS = torch.cat([attention_mask_BT.new_ones(batch, prefix_length), attention_mask_BT], dim=1)
        return {
            "inputs_embeds": torch.cat([zeros_BPD, embeddings_BTD], dim=1),
            "attention_mask": mask_BS,
            "position_ids": (mask_BS.long().cumsum(dim=1) - 1).clamp(min=0),
            "use_cache": False,
        }

    def check_positions(self, config: Mapping[str, Any], *, max_tokens: int, prefix_length: int) -> None:
        usable = config["max_position_embeddings"]
        if max_tokens + prefix_length > usable:
            raise BackboneError(
                f"data.max_tokens {max_tokens} + adapter.prefix_length {prefix_length} = {max_tokens + prefix_length} positions, but the backbone has {usable}. "
                "Lower data.max_tokens or adapter.prefix_length."
            )

    def check_supported(self, config: Mapping[str, Any]) -> None:
        layer_types = config.get("layer_types") or []
        slides = config.get("sliding_window") if config.get("use_sliding_window", True) else None
        if "sliding_attention" in layer_types or (not layer_types and slides):
            raise BackboneError(
                f"The backbone ({config['model_type']}) has sliding-window layers (sliding_window={config.get('sliding_window')}): the prefix would fade with distance. "
                "Use a backbone with full attention, or set sliding_window to null in its config.json if the documents are shorter than the window."
            )

    def accelerate(self, backbone: "nn.Module") -> None:
        """Nothing to do: transformers runs decoders on SDPA by default."""


DECODER = Decoder()
