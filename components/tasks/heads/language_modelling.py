"""The head of language modelling: the backbone's own language-model head, frozen, asked for what
the tokens of a completion cost.

The fact a newcomer gets wrong: what it puts out for a document is no logits but two numbers, the
sum of -log p of the tokens that are learnt and how many these are: rows x vocabulary would not fit.
Shapes: B batch, P prefix, T text tokens, S = P + T, D hidden, V vocabulary, R rows that are read.
"""

from typing import Any

import torch
from torch import Tensor, nn

from components.backbones.family import Rows
from components.backbones.output_embedding import OutputEmbedding, formed, output_embedding
from components.backbones.token_losses import token_losses


class LanguageModellingHead(nn.Module):
    """D -> V in the backbone's numbers; nothing of it is trained or stored."""

    def __init__(self, embedding: OutputEmbedding) -> None:
        super().__init__()
        self.scale, self.cap = embedding.scale, embedding.cap
        self.register_buffer("weight_VD", embedding.weight_CD, persistent=False)
        self.register_buffer("bias_V", embedding.bias_C, persistent=False)

    def text(
        self, backbone: nn.Module, input_ids_BT: Tensor, attention_mask_BT: Tensor
    ) -> dict[str, Tensor]:
        return {}

    def read_rows(
        self, input_ids_BT: Tensor, attention_mask_BT: Tensor, *, rows: Rows
    ) -> Tensor | None:
        return None

    def logits(
        self,
        hidden_BSD: Tensor,
        input_ids_BT: Tensor,
        attention_mask_BT: Tensor,
        *,
        rows: Rows,
        example_index: Tensor | None,
        prompt_tokens: Tensor | None = None,
    ) -> Tensor:
        """(B, 2) float32: sum of -log p, and number, of the tokens from `prompt_tokens` (B,) on;
        without it of all but the first.
        """
        if example_index is not None:
            raise ValueError("example_index joins the chunks of questions. Leave it out.")
        length = input_ids_BT.shape[1]
        place_T = torch.arange(length, device=input_ids_BT.device)
        first_B = torch.ones_like(attention_mask_BT[:, 0])
        if prompt_tokens is not None:
            first_B = prompt_tokens.clamp(min=1)
        is_learnt_BT = (place_T >= first_B[:, None]) & attention_mask_BT.bool()
        learnt_BT = is_learnt_BT[:, 1:]
        told_BTD = hidden_BSD[:, rows.prefix : rows.prefix + length - 1]
        losses_R = token_losses(
            told_BTD[learnt_BT],
            self.get_buffer("weight_VD"),
            input_ids_BT[:, 1:][learnt_BT],
            bias_V=self._buffers["bias_V"],
            scale=self.scale,
            cap=self.cap,
        )
        # Not index_add: on a GPU that adds in whatever order.
        losses_BT = torch.zeros(learnt_BT.shape, device=losses_R.device).masked_scatter(
            learnt_BT, losses_R
        )
        return torch.stack([losses_BT.sum(dim=1), learnt_BT.sum(dim=1).float()], dim=1)

    def next_logits(self, hidden_BD: Tensor) -> Tensor:
        """Of the token that follows each row, (B, V) float32."""
        weight_VD = self.get_buffer("weight_VD")
        products_BV = nn.functional.linear(
            hidden_BD.to(weight_VD.dtype), weight_VD, self._buffers["bias_V"]
        )
        return formed(products_BV.float(), scale=self.scale, cap=self.cap)


def build(backbone: Any) -> LanguageModellingHead:
    """The whole head of this backbone. Raises BackboneError where it has none."""
    return LanguageModellingHead(output_embedding(backbone))
