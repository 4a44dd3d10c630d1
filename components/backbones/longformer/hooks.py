"""What adapters change inside a LongformerSelfAttention: contexts with hooks, alike for the stock
and the fast implementation.

The fact a newcomer gets wrong: the stock implementation projects (S, B, D), the fast one (B, S, D).
Projections are called as modules: ZeRO-3 gathers weights around the call.
Shapes: B batch, S rows, P prefix, R chosen rows, T text rows with padding, D hidden = H heads x E,
K = D key/value width.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from components.backbones.family import Smoother

Change = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
"""(attention module, its input (B, S, D), its mask (B, S): above 0 global, below 0 padding, its
output (B, S, D)) -> the new output.
"""


@contextmanager
def changed_output(attention: Any, change: Change) -> Iterator[None]:
    """Context in which the attention's output, before the output projection, is what `change` makes
    of it.
    """

    def hook(
        module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        return (
            change(module, args[0], kwargs["attention_mask"], output[0]).to(output[0].dtype),
            *output[1:],
        )

    handle = attention.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def replaced_keys_and_values(attention: Any, key_BPK: Tensor, value_BPK: Tensor) -> Iterator[None]:
    """Context in which the first P rows have these keys and values, local and global."""
    rows_first = _is_stock(attention)
    places = [
        (attention.key, key_BPK),
        (attention.key_global, key_BPK),
        (attention.value, value_BPK),
        (attention.value_global, value_BPK),
    ]
    handles = [
        module.register_forward_hook(_replace_first_rows(prefix_BPK, rows_first))
        for module, prefix_BPK in places
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _replace_first_rows(prefix_BPK: Tensor, rows_first: bool) -> Any:
    def hook(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        prefix = prefix_BPK.to(output.dtype)
        if rows_first:
            return torch.cat([prefix.transpose(0, 1), output[prefix.shape[1] :]], dim=0)
        return torch.cat([prefix, output[:, prefix.shape[1] :]], dim=1)

    return hook


def added(extra: Callable[[Tensor], Tensor]) -> Change:
    """extra(query (B, S, H, E)) on top; global rows have their own query projection."""

    def change(module: Any, hidden_BSD: Tensor, mask_BS: Tensor, output_BSD: Tensor) -> Tensor:
        query_BSD: Tensor = module.query(hidden_BSD)
        places = (mask_BS > 0).nonzero(as_tuple=True)
        query_BSD = query_BSD.index_put(places, module.query_global(hidden_BSD[places]))
        return output_BSD + extra(by_head(module, query_BSD)).flatten(2)

    return change


def released_indexing(count: int) -> Change:
    """The `count` rows after the first text row (the last global one) have the output of the global
    path.
    """

    def change(module: Any, hidden_BSD: Tensor, mask_BS: Tensor, output_BSD: Tensor) -> Tensor:
        length = hidden_BSD.shape[1]
        first_text_B = length - 1 - (mask_BS > 0).flip(1).long().argmax(dim=1)
        rows_BR = first_text_B[:, None] + torch.arange(1, count + 1, device=hidden_BSD.device)
        # Beyond the last row they begin again at the first, each row once (a row named twice would
        # count its gradient twice), and keep what they have.
        index_BRD = (rows_BR % length)[..., None].expand(-1, -1, hidden_BSD.shape[-1])
        query_BRHE = by_head(module, module.query_global(hidden_BSD.gather(1, index_BRD)))
        mixed_BRD = global_path(module, query_BRHE, hidden_BSD, mask_BS).to(output_BSD.dtype)
        return output_BSD.scatter(
            1,
            index_BRD,
            mixed_BRD.where((rows_BR < length)[..., None], output_BSD.gather(1, index_BRD)),
        )

    return change


def decomposed_prefix(prefix_length: int, smooth: Smoother) -> Change:
    """Rows attend to the text alone (the prefix rows are masked), and get the smoother over the
    prefix rows' own keys and values on top.

    Prefix rows are global: they attend to the whole text by the global projections, as the text's
    own global rows do.
    """

    def change(module: Any, hidden_BSD: Tensor, mask_BS: Tensor, output_BSD: Tensor) -> Tensor:
        prefix_BPD, text_BTD = hidden_BSD[:, :prefix_length], hidden_BSD[:, prefix_length:]
        is_global_BT = mask_BS[:, prefix_length:] > 0  # the prefix rows themselves are masked
        most = int(is_global_BT.sum(dim=1).max())
        global_BG = is_global_BT.to(torch.int8).argsort(dim=1, descending=True, stable=True)[
            :, :most
        ]
        index_BGD = global_BG[..., None].expand(-1, -1, hidden_BSD.shape[-1])
        local_BTHE = smooth(
            by_head(module, module.query(text_BTD)),
            by_head(module, module.key(prefix_BPD)),
            by_head(module, module.value(prefix_BPD)),
        )
        global_BRD = torch.cat([prefix_BPD, text_BTD.gather(1, index_BGD)], dim=1)
        query_BRHE = by_head(module, module.query_global(global_BRD))
        global_BRD = smooth(
            query_BRHE,
            by_head(module, module.key_global(prefix_BPD)),
            by_head(module, module.value_global(prefix_BPD)),
        ).flatten(2)
        # A global text row's share is the global one; an example with fewer such rows than the most
        # keeps its local ones.
        local_BTD = local_BTHE.flatten(2)
        share_BGD = global_BRD[:, prefix_length:].where(
            is_global_BT.gather(1, global_BG)[..., None], local_BTD.gather(1, index_BGD)
        )
        extra_BTD = local_BTD.scatter(1, index_BGD, share_BGD)
        attended_BPD = global_path(module, query_BRHE[:, :prefix_length], hidden_BSD, mask_BS)
        attended_BPD = attended_BPD + global_BRD[:, :prefix_length]
        return torch.cat([attended_BPD, output_BSD[:, prefix_length:] + extra_BTD], dim=1)

    return change


def global_path(module: Any, query_BRHE: Tensor, hidden_BSD: Tensor, mask_BS: Tensor) -> Tensor:
    """Attention output (B, R, D) of these queries over every row that is not masked, by the global
    projections.
    """
    key_BHSE, value_BHSE = (
        by_head(module, projected(module, projection, hidden_BSD)).transpose(1, 2)
        for projection in (module.key_global, module.value_global)
    )
    bias_BS = torch.zeros_like(mask_BS, dtype=query_BRHE.dtype).masked_fill(
        mask_BS < 0, torch.finfo(query_BRHE.dtype).min
    )
    mixed_BHRE = torch.nn.functional.scaled_dot_product_attention(
        query_BRHE.transpose(1, 2),
        key_BHSE,
        value_BHSE,
        attn_mask=bias_BS[:, None, None],
        dropout_p=module.dropout if module.training else 0.0,
    )
    return mixed_BHRE.transpose(1, 2).flatten(2)


def projected(module: Any, projection: Any, hidden_BSD: Tensor) -> Tensor:
    """The projection as the attention itself calls it, so that hooks on it see the rows where they
    expect them.
    """
    result: Tensor = (
        projection(hidden_BSD.transpose(0, 1)).transpose(0, 1)
        if _is_stock(module)
        else projection(hidden_BSD)
    )
    return result


def by_head(module: Any, projected_BSD: Tensor) -> Tensor:
    """(B, S, D) as (B, S, H, E)."""
    return projected_BSD.unflatten(-1, (module.num_heads, module.head_dim))


def _is_stock(attention: Any) -> bool:
    return "forward" not in vars(attention)
