"""The head of label words: the backbone's own language-model head, of whose rows those of the
labels' words are kept. Nothing of it is trained, stored or sharded.

Shapes: B batch, D hidden, C classes.
"""

from typing import Any

from torch import Tensor, nn

from components.backbones.output_embedding import OutputEmbedding, formed, output_embedding
from components.tasks.heads.classification import PooledHead
from components.tasks.label_words import LabelWordsHeadConfig


class LabelWordsHead(PooledHead):
    """D -> C in float32, whatever the backbone's precision, at the last row."""

    def __init__(self, rows: OutputEmbedding) -> None:
        super().__init__(pooling="last")
        self.scale, self.cap = rows.scale, rows.cap
        # Buffers: ZeRO neither shards nor broadcasts them, and no artifact holds them.
        bias_C = rows.bias_C
        self.register_buffer("weight_CD", rows.weight_CD.float(), persistent=False)
        self.register_buffer("bias_C", None if bias_C is None else bias_C.float(), persistent=False)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        weight_CD, bias_C = self.get_buffer("weight_CD"), self._buffers["bias_C"]
        products_BC = nn.functional.linear(pooled_BD.float(), weight_CD, bias_C)
        return formed(products_BC, scale=self.scale, cap=self.cap)


def build(config: LabelWordsHeadConfig, backbone: Any) -> LabelWordsHead:
    """The head of these words on this backbone. Raises BackboneError where it has no language-model
    head.
    """
    return LabelWordsHead(output_embedding(backbone, config.token_ids))
