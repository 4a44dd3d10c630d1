"""The head of label words: the backbone's own language-model head, of whose rows those of the
labels' words are kept. Nothing of it is trained, stored or sharded.

Shapes: B batch, P prefix, T text tokens, S = P + T, D hidden, C classes, R rows of the hidden
states that a head reads.
"""

from typing import Any

from torch import Tensor, nn

from components.backbones.family import Rows
from components.backbones.output_embedding import OutputEmbedding, formed, output_embedding
from components.tasks.heads.classification import pool, pooled_row
from components.tasks.label_words import LabelWordsHeadConfig


class LabelWordsHead(nn.Module):
    """D -> C in float32, whatever the backbone's precision, at the last row."""

    def __init__(self, rows: OutputEmbedding) -> None:
        super().__init__()
        self.scale, self.cap = rows.scale, rows.cap
        # Buffers: ZeRO neither shards nor broadcasts them, and no artifact holds them.
        bias_C = rows.bias_C
        self.register_buffer("weight_CD", rows.weight_CD.float(), persistent=False)
        self.register_buffer("bias_C", None if bias_C is None else bias_C.float(), persistent=False)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        weight_CD, bias_C = self.get_buffer("weight_CD"), self._buffers["bias_C"]
        products_BC = nn.functional.linear(pooled_BD.float(), weight_CD, bias_C)
        return formed(products_BC, scale=self.scale, cap=self.cap)

    def text(
        self, backbone: nn.Module, input_ids_BT: Tensor, attention_mask_BT: Tensor
    ) -> dict[str, Tensor]:
        return {}

    def read_rows(
        self, input_ids_BT: Tensor, attention_mask_BT: Tensor, *, rows: Rows
    ) -> Tensor | None:
        row_B = pooled_row(
            attention_mask_BT,
            prefix_length=rows.prefix,
            suffix_length=rows.suffix,
            pooling="last",
        )
        return None if row_B is None else row_B[:, None]

    def logits(
        self,
        hidden_BSD: Tensor,
        input_ids_BT: Tensor,
        attention_mask_BT: Tensor,
        *,
        rows: Rows,
        example_index: Tensor | None,
    ) -> Tensor:
        if example_index is not None:
            raise ValueError(
                "example_index joins the chunks of multiple-choice questions; a classified "
                "document is one sequence. Leave it out."
            )
        logits_BC: Tensor = self(
            pool(
                hidden_BSD,
                attention_mask_BT,
                prefix_length=rows.prefix,
                suffix_length=rows.suffix,
                pooling="last",
            )
        )
        return logits_BC


def build(config: LabelWordsHeadConfig, backbone: Any) -> LabelWordsHead:
    """The head of these words on this backbone. Raises BackboneError where it has no language-model
    head.
    """
    return LabelWordsHead(output_embedding(backbone, config.token_ids))
