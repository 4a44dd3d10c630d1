"""The two parts of a Longformer's softmax attention over cat(prefix, text): what each row takes
from the prefix, what from the text, and how much of each.

With Z_prefix and Z_text the sums of exp(q.k/sqrt(E)) over the prefix and over the text keys that a
row sees,

    attention_i = (text_i + alpha_i prefix_i) / (1 + alpha_i),   alpha_i = Z_prefix / Z_text,
    share of the prefix = alpha_i / (1 + alpha_i)

Everything is exact. The text's normaliser is summed block by block, so that memory grows with the
window and not with the document; the text's part comes from the attention itself with the prefix
rows masked, and not from its whole output, so that putting the parts together again proves
something.
Shapes: B batch, S rows = `before` prefix rows + text, H heads, E head size, D = H x E, Q query rows
of a block, K keys near them, R global rows.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from components.backbones.longformer.hooks import by_head, global_path, projected

BLOCK_ROWS = 256
MASKED = -10_000.0


@dataclass(frozen=True)
class AttentionParts:
    """`log_alpha_BHS`: log(Z_prefix / Z_text) of every row; `prefix_BSD`, `text_BSD`: the two
    smoothers before the output projection. Rows of padding hold no meaning.
    """

    log_alpha_BHS: Tensor
    prefix_BSD: Tensor
    text_BSD: Tensor


def log_alpha(module: Any, hidden_BSD: Tensor, mask_BS: Tensor, before: int) -> Tensor:
    """log(Z_prefix / Z_text) (B, H, S) of a LongformerSelfAttention: the first `before` rows are
    the prefix. `mask_BS`: as the encoder gets it, above 0 global, below 0 padding.
    """
    return _prefix(module, hidden_BSD, mask_BS, before)[0] - _log_text(
        module, hidden_BSD, mask_BS, before
    )


def attention_parts(
    module: Any, hidden_BSD: Tensor, mask_BS: Tensor, before: int
) -> AttentionParts:
    """Both parts and their weights; arguments as for `log_alpha`."""
    log_prefix_BHS, prefix_BSHE = _prefix(module, hidden_BSD, mask_BS, before)
    log_alpha_BHS = log_prefix_BHS - _log_text(module, hidden_BSD, mask_BS, before)
    return AttentionParts(
        log_alpha_BHS, prefix_BSHE.flatten(2), _text(module, hidden_BSD, mask_BS, before)
    )


def _prefix(module: Any, hidden_BSD: Tensor, mask_BS: Tensor, before: int) -> tuple[Tensor, Tensor]:
    """log Z_prefix (B, H, S) and the smoother over the prefix (B, S, H, E); global rows by the
    global projections.
    """
    query_BSHE = by_head(module, module.query(hidden_BSD))
    log_BHS, smoothed_BSHE = _smoothed(module, query_BSHE, hidden_BSD, before, twin="")
    rows_BR = _global_rows(mask_BS, before)
    query_BRHE = _global_queries(module, hidden_BSD, rows_BR)
    log_BHR, smoothed_BRHE = _smoothed(module, query_BRHE, hidden_BSD, before, twin="_global")
    index_BRHE = rows_BR[..., None, None].expand_as(smoothed_BRHE)
    return log_BHS.scatter(2, rows_BR[:, None].expand_as(log_BHR), log_BHR), smoothed_BSHE.scatter(
        1, index_BRHE, smoothed_BRHE
    )


def _smoothed(
    module: Any, query_BSHE: Tensor, hidden_BSD: Tensor, before: int, *, twin: str
) -> tuple[Tensor, Tensor]:
    key_BPHE, value_BPHE = (
        by_head(module, projected(module, getattr(module, kind + twin), hidden_BSD))[:, :before]
        for kind in ("key", "value")
    )
    scores_BHSP = torch.einsum("bshe,bphe->bhsp", query_BSHE, key_BPHE) / math.sqrt(module.head_dim)
    return scores_BHSP.logsumexp(-1), torch.einsum(
        "bhsp,bphe->bshe", scores_BHSP.softmax(-1), value_BPHE
    )


def _log_text(module: Any, hidden_BSD: Tensor, mask_BS: Tensor, before: int) -> Tensor:
    """log Z_text (B, H, S)."""
    local_BHS = _log_text_of_local_rows(module, hidden_BSD, mask_BS, before)
    rows_BR = _global_rows(mask_BS, before)
    query_BRHE = _global_queries(module, hidden_BSD, rows_BR)
    key_BSHE = by_head(module, projected(module, module.key_global, hidden_BSD))
    scores_BHRS = torch.einsum("brhe,bshe->bhrs", query_BRHE, key_BSHE) / math.sqrt(module.head_dim)
    seen_BS = _is_text(mask_BS, before)
    log_BHR = scores_BHRS.masked_fill(~seen_BS[:, None, None], -math.inf).logsumexp(-1)
    return local_BHS.scatter(2, rows_BR[:, None].expand_as(log_BHR), log_BHR)


def _log_text_of_local_rows(
    module: Any, hidden_BSD: Tensor, mask_BS: Tensor, before: int
) -> Tensor:
    """A local row sees the text of its window, and the first text row wherever it stands."""
    query_BSHE, key_BSHE = (
        by_head(module, projected(module, each, hidden_BSD)) for each in (module.query, module.key)
    )
    first_B = _global_rows(mask_BS, before)[:, -1]
    first_key_BHE = key_BSHE[torch.arange(len(first_B), device=first_B.device), first_B]
    local_BS = _is_text(mask_BS, before) & (mask_BS <= 0)
    count, reach, parts = hidden_BSD.shape[1], module.one_sided_attn_window_size, []
    for start in range(0, count, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, count)
        near = slice(max(0, start - reach), min(count, end + reach))
        scores_BHQK = torch.einsum("bqhe,bkhe->bhqk", query_BSHE[:, start:end], key_BSHE[:, near])
        distance_QK = (
            torch.arange(near.start, near.stop, device=first_B.device)
            - torch.arange(start, end, device=first_B.device)[:, None]
        )
        seen_BQK = (distance_QK.abs() <= reach) & local_BS[:, None, near]
        to_first_BHQ = torch.einsum("bqhe,bhe->bhq", query_BSHE[:, start:end], first_key_BHE)
        everything = torch.cat(
            [scores_BHQK.masked_fill(~seen_BQK[:, None], -math.inf), to_first_BHQ[..., None]],
            dim=-1,
        )
        parts.append((everything / math.sqrt(module.head_dim)).logsumexp(-1))
    return torch.cat(parts, dim=-1)


def _text(module: Any, hidden_BSD: Tensor, mask_BS: Tensor, before: int) -> Tensor:
    """Attention output (B, S, D) with the prefix rows masked; these rows themselves attend to the
    text as the global rows they are.
    """
    masked_BS = torch.cat(
        [torch.full_like(mask_BS[:, :before], MASKED), mask_BS[:, before:]], dim=1
    )
    kinds = {
        "is_index_masked": masked_BS < 0,
        "is_index_global_attn": masked_BS > 0,
        "is_global_attn": True,
    }  # only the stock one asks
    # forward, not the module itself: the hook that asks for the parts must not run again.
    output_BSD = module.forward(hidden_BSD, attention_mask=masked_BS, **kinds)[0]
    query_BPHE = by_head(module, module.query_global(hidden_BSD[:, :before]))
    return torch.cat(
        [global_path(module, query_BPHE, hidden_BSD, masked_BS), output_BSD[:, before:]], dim=1
    )


def _is_text(mask_BS: Tensor, before: int) -> Tensor:
    return (mask_BS >= 0) & (torch.arange(mask_BS.shape[1], device=mask_BS.device) >= before)


def _global_rows(mask_BS: Tensor, before: int) -> Tensor:
    """The prefix rows and, last, the first text row: (B, before + 1)."""
    first_B1 = (mask_BS[:, before:] > 0).long().argmax(dim=1, keepdim=True) + before
    return torch.cat(
        [torch.arange(before, device=mask_BS.device).expand(len(mask_BS), -1), first_B1], dim=1
    )


def _global_queries(module: Any, hidden_BSD: Tensor, rows_BR: Tensor) -> Tensor:
    chosen_BRD = hidden_BSD.gather(1, rows_BR[..., None].expand(-1, -1, hidden_BSD.shape[-1]))
    return by_head(module, module.query_global(chosen_BRD))
