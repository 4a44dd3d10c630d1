"""Attention of the global rows: their own projections, every real row as key.

The fact that makes it cheap: with few global rows the key and value projections of the whole
sequence need not be computed at all. Moved over to the few queries, q (W h + b) = (q W) h + const
and sum_s p_s (W h_s + b) = W (sum_s p_s h_s) + b sum_s p_s: the same numbers from products with H x
G rows in place of D.

Shapes: B batch, S rows, D hidden = H heads x E, G global rows asked for.
"""

from typing import Any

import torch
from torch import Tensor, nn


def global_attention(
    module: Any, hidden_BSD: Tensor, rows_BG: Tensor, padding_bias_BS: Tensor, *, dropout: float
) -> Tensor:
    """Attention output (B, G, D) of the rows `rows_BG` of a LongformerSelfAttention.

    `padding_bias_BS`: added to the scores, a large negative number at padding; `dropout`:
    probability on attention weights.
    """
    batch, rows, width = hidden_BSD.shape
    chosen_BGD = hidden_BSD.gather(1, rows_BG[..., None].expand(-1, -1, width))
    query_BGHE = module.query_global(chosen_BGD).unflatten(-1, (module.num_heads, module.head_dim))
    moving_pays = 2 * rows_BG.shape[1] <= module.head_dim and batch * rows >= width
    attend = _moved_to_queries if moving_pays and _projects_plainly(module) else _projected
    return attend(
        module, hidden_BSD.to(query_BGHE.dtype), query_BGHE, padding_bias_BS, dropout=dropout
    )


def _projects_plainly(module: Any) -> bool:
    """Whether keys and values are W h + b with frozen W, b and nothing else: no low-rank update in
    the projection's place, no quantised W, no hook that replaces rows of its output or (ZeRO-3)
    brings W.
    """
    projections = (module.key_global, module.value_global)
    heard = any(linear._forward_hooks or linear._forward_pre_hooks for linear in projections)
    trained = any(
        parameter.requires_grad for linear in projections for parameter in linear.parameters()
    )
    plain = all(
        type(linear) is nn.Linear and type(linear.weight) is nn.Parameter for linear in projections
    )
    return plain and not heard and not trained


def _projected(
    module: Any, hidden_BSD: Tensor, query_BGHE: Tensor, padding_bias_BS: Tensor, *, dropout: float
) -> Tensor:
    heads = query_BGHE.shape[2:]
    key_BHSE, value_BHSE = (
        projection(hidden_BSD).unflatten(-1, heads).transpose(1, 2)
        for projection in (module.key_global, module.value_global)
    )
    bias_B11S = padding_bias_BS[:, None, None].to(query_BGHE.dtype)
    output_BHGE = nn.functional.scaled_dot_product_attention(
        query_BGHE.transpose(1, 2), key_BHSE, value_BHSE, attn_mask=bias_B11S, dropout_p=dropout
    )
    return output_BHGE.transpose(1, 2).flatten(2)


def _moved_to_queries(
    module: Any, hidden_BSD: Tensor, query_BGHE: Tensor, padding_bias_BS: Tensor, *, dropout: float
) -> Tensor:
    chosen, num_heads, head_dim = query_BGHE.shape[1:]
    key_weight_HED = module.key_global.weight.to(query_BGHE.dtype).unflatten(
        0, (num_heads, head_dim)
    )
    moved_BGHD = torch.einsum("bghe,hed->bghd", query_BGHE * head_dim**-0.5, key_weight_HED)
    scores_BMS = (
        torch.bmm(moved_BGHD.flatten(1, 2), hidden_BSD.mT).to(padding_bias_BS.dtype)
        + padding_bias_BS[:, None]
    )
    weights_BMS = nn.functional.dropout(
        torch.softmax(scores_BMS, dim=-1), p=dropout, training=dropout > 0
    )
    mixed_BGHD = torch.bmm(weights_BMS.to(hidden_BSD.dtype), hidden_BSD).unflatten(
        1, (chosen, num_heads)
    )
    values_BGHHE = module.value_global(mixed_BGHD).unflatten(-1, (num_heads, head_dim))
    output_BGHE = values_BGHHE.diagonal(dim1=2, dim2=3).transpose(2, 3)
    if dropout > 0:  # the kept weights no longer add up to 1, and neither may the bias
        bias_HE = module.value_global(hidden_BSD.new_zeros(1, hidden_BSD.shape[-1])).view(
            num_heads, head_dim
        )
        excess_BGH = weights_BMS.sum(-1).unflatten(1, (chosen, num_heads)) - 1.0
        output_BGHE = output_BGHE + excess_BGH[..., None].to(bias_HE.dtype) * bias_HE
    return output_BGHE.flatten(2).to(query_BGHE.dtype)
