"""Attention of few rows behind a text to the text's keys and values and to their own.

The fact a newcomer gets wrong: rows of several adapters that read the same documents are one
product with their keys and values, which is what costs here; among rows each adapter is alone.
Shapes: B documents of a reading, A its adapters, N = A B sequences of rows, T text tokens, P rows,
J = T + P, H heads, K key/value heads, G = H / K, R = A G P, E head size.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from components.backbones.attention_of_few import apart, attention_of_few, together
from components.backbones.readers import Reader, Reading, padded_rows


def attend_readings(
    query_NHPE: Tensor,
    rows: tuple[Tensor, Tensor],
    readings: Sequence[Reading],
    layer: int,
    mask: Tensor,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention (N, H, P, E) of the rows of all readings in one layer.

    `rows`: their own keys and values, (N, K, P, E); `mask` (N, 1, 1 or P, widest text + P) is added
    to the scores; `scaling`: None is 1 / sqrt(E).
    """
    outputs, first = [], 0
    for reading in readings:
        place = slice(first, first + len(reading.readers) * reading.documents)
        attend = partial(
            attend_text_and_rows,
            query_NHPE[place],
            rows=(rows[0][place], rows[1][place]),
            mask=of_text(mask[place], reading.text, query_NHPE.shape[2]),
            readers=reading.readers,
            text_stays=reading.states.stays,
            scaling=scaling,
            dropout=dropout,
        )
        outputs.append(reading.states.meet(layer, attend))
        first = place.stop
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def of_text(mask: Tensor, text: int, rows: int) -> Tensor:
    """The mask's columns of the first `text` tokens and of the rows at its end."""
    if mask.shape[-1] == text + rows:
        return mask
    return torch.cat([mask[..., :text], mask[..., -rows:]], dim=-1)


def attend_text_and_rows(
    query_NHPE: Tensor,
    *,
    text: tuple[Tensor, Tensor],
    rows: tuple[Tensor, Tensor],
    mask: Tensor,
    readers: tuple[Reader, ...],
    text_stays: bool = True,
    scaling: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention (N, H, P, E) of queries to keys and values of the text and of their own rows.

    `text`, `rows`: keys and values, (B, K, T, E) and (N, K, P, E); `mask` (N, 1, 1 or P, T + P) is
    added to the scores; `text_stays`: as of attention_of_few. A kernel would want both in one
    tensor, and a gradient for the text: copies of what takes by far the most memory here.
    """
    text = (text[0].to(query_NHPE.dtype), text[1].to(query_NHPE.dtype))
    sequences, heads, count, size = query_NHPE.shape
    groups = heads // text[0].shape[1]
    query_NKQE = query_NHPE.reshape(sequences, -1, groups * count, size)
    query_NKQE = query_NKQE * (size**-0.5 if scaling is None else scaling)
    if dropout:
        mixed_NKQE = _with_dropout(query_NKQE, text, rows, mask, readers, dropout)
    else:
        mixed_NKQE = attention_of_few(
            query_NKQE, text, rows, mask, adapters=len(readers), text_stays=text_stays
        )
    return mixed_NKQE.reshape(sequences, heads, count, size)


def _with_dropout(
    query_NKQE: Tensor,
    text: tuple[Tensor, Tensor],
    rows: tuple[Tensor, Tensor],
    mask: Tensor,
    readers: tuple[Reader, ...],
    dropout: float,
) -> Tensor:
    """The same with weights drawn over text and rows, in the order that dropout always had."""
    (key_BKTE, value_BKTE), (key_NKPE, value_NKPE) = text, rows
    tokens, count, adapters = key_BKTE.shape[2], key_NKPE.shape[2], len(readers)
    groups = query_NKQE.shape[2] // count
    in_text = together(query_NKQE, adapters) @ key_BKTE.transpose(-1, -2)
    in_rows = together(query_NKQE @ key_NKPE.transpose(-1, -2), adapters)
    mask_NQJ = mask[:, 0].expand(-1, count, -1).repeat(1, groups, 1)
    mask_B1RJ = together(mask_NQJ[:, None], adapters)
    score_BKRJ = torch.cat([in_text, in_rows], dim=-1).float() + mask_B1RJ.float()
    weight_BKRJ = score_BKRJ.softmax(dim=-1).to(query_NKQE.dtype)
    weight_BKRJ = _dropped(weight_BKRJ, dropout, readers, (groups, count))
    of_text_NKQE = apart(weight_BKRJ[..., :tokens] @ value_BKTE, adapters)
    of_rows_NKQE = apart(weight_BKRJ[..., tokens:], adapters) @ value_NKPE
    return of_text_NKQE + of_rows_NKQE


def _dropped(
    weight_BKRJ: Tensor, dropout: float, readers: tuple[Reader, ...], sizes: tuple[int, int]
) -> Tensor:
    """Weights after dropout, drawn for each adapter apart as in a run of its own. `sizes`: G, P."""
    if len(readers) == 1 and readers[0].random is None:
        return nn.functional.dropout(weight_BKRJ, dropout)
    weight_BKAGPJ = weight_BKRJ.unflatten(2, (len(readers), *sizes))
    tokens, count = weight_BKRJ.shape[-1] - sizes[1], sizes[1]
    dropped = []
    for reader, weight_BKGPJ in zip(readers, weight_BKAGPJ.unbind(2), strict=True):
        own = weight_BKGPJ[..., : reader.rows, : tokens + reader.rows].contiguous()
        with reader.turn():
            own = nn.functional.dropout(own, dropout)
        dropped.append(padded_rows(padded_rows(own, tokens + count, dim=4), count, dim=3))
    return torch.stack(dropped, dim=2).flatten(2, 4)
