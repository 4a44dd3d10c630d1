"""Longformer (the paper's backbone): local window plus global rows; the prefix and the first text token are global.

The fact a newcomer gets wrong: prefix rows take positions 0..P-1 and the first real token position P + pad_token_id + 1, so that the rows up to pad_token_id after the prefix stay unused.
Source: the paper's release, whose logits this reproduces (tests/components/adapters/test_reference.py).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from components.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor, nn


class Longformer:
    """LongformerModel of transformers, as it is."""

    name = "longformer"
    model_types = ("longformer",)
    trained_with_prefix = ("embeddings.token_type_embeddings.weight",)

    def layers(self, backbone: "nn.Module") -> "Sequence[nn.Module]":
        return cast("Sequence[nn.Module]", backbone.encoder.layer)  # type: ignore[union-attr]

    def prefixed_inputs(self, backbone: "nn.Module", input_ids_BT: "Tensor", attention_mask_BT: "Tensor", prefix_length: int) -> dict[str, Any]:
        import torch

        batch = input_ids_BT.shape[0]
        pad = backbone.config.pad_token_id  # type: ignore[union-attr]
        embeddings_BTD = backbone.get_input_embeddings()(input_ids_BT)  # type: ignore[operator]
        zeros_BPD = embeddings_BTD.new_zeros(batch, prefix_length, embeddings_BTD.shape[-1])
        ones_BP = attention_mask_BT.new_ones(batch, prefix_length)
        global_BS = torch.cat([ones_BP, torch.zeros_like(attention_mask_BT)], dim=1)
        first_text_B = prefix_length + attention_mask_BT.argmax(dim=1)
        global_BS = global_BS.scatter(1, first_text_B[:, None], 1)
        return {
            "inputs_embeds": torch.cat([zeros_BPD, embeddings_BTD], dim=1),
            "attention_mask": torch.cat([ones_BP, attention_mask_BT], dim=1),
            "global_attention_mask": global_BS,
            "position_ids": _positions_BS(input_ids_BT, prefix_length, pad),
        }

    def check_positions(self, config: Mapping[str, Any], *, max_tokens: int, prefix_length: int) -> None:
        usable = config["max_position_embeddings"] - config["pad_token_id"] - 1
        if max_tokens + prefix_length > usable:
            raise BackboneError(
                f"data.max_tokens {max_tokens} + adapter.prefix_length {prefix_length} = {max_tokens + prefix_length} positions, but the backbone has {usable}. "
                "Lower data.max_tokens or adapter.prefix_length, or raise backbone.lengthen_to."
            )

    def check_supported(self, config: Mapping[str, Any]) -> None:
        return

    def accelerate(self, backbone: "nn.Module") -> None:
        from components.backbones.longformer_attention import install_fast_attention

        install_fast_attention(backbone)


def _positions_BS(input_ids_BT: "Tensor", prefix_length: int, pad: int) -> "Tensor":  # noqa: N802  (shape suffix)
    """Position ids: 0..P-1, then (cumsum(ids != pad) + P) * (ids != pad) + pad."""
    import torch

    real_BT = input_ids_BT.ne(pad).long()
    text_BT = (real_BT.cumsum(dim=1) + prefix_length) * real_BT + pad
    prefix_BP = torch.arange(prefix_length, device=input_ids_BT.device).expand(input_ids_BT.shape[0], -1)
    return torch.cat([prefix_BP, text_BT], dim=1)


LONGFORMER = Longformer()
