"""Longformer (the paper's backbone): local window plus global rows; the prefix and the first text token are global.

The fact a newcomer gets wrong: prefix rows take positions 0..P-1 and the first real token position P + pad_token_id + 1, so that the rows up to pad_token_id after the prefix stay unused.
Source: the paper's release, whose logits this reproduces (tests/components/adapters/test_reference.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from components.backbones.family import AttentionSizes, Rows
from components.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor, nn


class Longformer:
    """LongformerModel of transformers, as it is."""

    name = "longformer"
    model_types = ("longformer",)
    trained_with_prefix = ("embeddings.token_type_embeddings.weight",)
    lora_targets = ("query", "value", "query_global", "value_global")

    def layers(self, backbone: "nn.Module") -> "Sequence[nn.Module]":
        return cast("Sequence[nn.Module]", backbone.encoder.layer)  # type: ignore[union-attr]

    def attention_sizes(self, backbone: "nn.Module") -> AttentionSizes:
        config: Any = backbone.config
        return AttentionSizes(config.num_attention_heads, config.num_attention_heads, config.hidden_size // config.num_attention_heads)

    def prefixed_inputs(
        self, backbone: "nn.Module", input_ids_BT: "Tensor", attention_mask_BT: "Tensor", rows: Rows, *, prompt_BPD: "Tensor | None" = None
    ) -> dict[str, Any]:
        import torch

        batch, before = input_ids_BT.shape[0], rows.key_value + rows.prefix
        pad = backbone.config.pad_token_id  # type: ignore[union-attr]
        embeddings_BTD = backbone.get_input_embeddings()(input_ids_BT)  # type: ignore[operator]
        embeddings_BSD = [embeddings_BTD.new_zeros(batch, before, embeddings_BTD.shape[-1]), embeddings_BTD]
        if prompt_BPD is not None:
            embeddings_BSD = [prompt_BPD.to(embeddings_BTD.dtype), embeddings_BTD]
        ones_BP = attention_mask_BT.new_ones(batch, before)
        global_BS = torch.cat([ones_BP, torch.zeros_like(attention_mask_BT)], dim=1)
        first_text_B = before + attention_mask_BT.argmax(dim=1)
        global_BS = global_BS.scatter(1, first_text_B[:, None], 1)
        return {
            "inputs_embeds": torch.cat(embeddings_BSD, dim=1),
            "attention_mask": torch.cat([ones_BP, attention_mask_BT], dim=1),
            "global_attention_mask": global_BS,
            "position_ids": _positions_BS(input_ids_BT, rows, pad),
        }

    @contextmanager
    def replaced_keys_and_values(self, layer: "nn.Module", key_BPK: "Tensor", value_BPK: "Tensor") -> Iterator[None]:
        attention = layer.attention.self  # type: ignore[union-attr]
        # The stock implementation projects (S, B, D), the fast one (B, S, D).
        rows_first = "forward" not in vars(attention)
        places = [
            (attention.key, key_BPK),
            (attention.key_global, key_BPK),
            (attention.value, value_BPK),
            (attention.value_global, value_BPK),
        ]
        handles = [module.register_forward_hook(_replace_first_rows(prefix_BPK, rows_first)) for module, prefix_BPK in places]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def released_indexing(self, layer: "nn.Module", count: int) -> Iterator[None]:
        attention = layer.attention.self  # type: ignore[union-attr]
        handle = attention.register_forward_hook(_released_indexing(count), with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def added_to_attention(self, layer: "nn.Module", extra: "Callable[[Tensor], Tensor]") -> Iterator[None]:
        attention = layer.attention.self  # type: ignore[union-attr]

        def add(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Any, ...]) -> tuple[Any, ...]:
            query_BSD = _queries(module, args[0], kwargs["attention_mask"] > 0)
            extra_BSHE = extra(query_BSD.unflatten(-1, (module.num_heads, module.head_dim)))
            return (output[0] + extra_BSHE.flatten(2).to(output[0].dtype), *output[1:])

        handle = attention.register_forward_hook(add, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def only_rows(self, backbone: "nn.Module", row_BR: "Tensor") -> dict[str, Any]:
        from components.backbones.longformer_attention import takes_output_rows

        return {"output_rows": row_BR} if takes_output_rows(backbone) else {}

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


def _positions_BS(input_ids_BT: "Tensor", rows: Rows, pad: int) -> "Tensor":
    """Position ids: 0 for key/value rows (no matter which), 0..P-1, then (cumsum(ids != pad) + offset) * (ids != pad) + pad."""
    import torch

    real_BT = input_ids_BT.ne(pad).long()
    text_BT = (real_BT.cumsum(dim=1) + rows.offset) * real_BT + pad
    before = [torch.zeros(rows.key_value, dtype=torch.long), torch.arange(rows.prefix)]
    before_BP = torch.cat(before).to(input_ids_BT.device).expand(input_ids_BT.shape[0], -1)
    return torch.cat([before_BP, text_BT], dim=1)


def _replace_first_rows(prefix_BPK: "Tensor", rows_first: bool) -> Any:
    import torch

    def hook(_module: Any, _inputs: Any, output: "Tensor") -> "Tensor":
        prefix = prefix_BPK.to(output.dtype)
        if rows_first:
            return torch.cat([prefix.transpose(0, 1), output[prefix.shape[1] :]], dim=0)
        return torch.cat([prefix, output[:, prefix.shape[1] :]], dim=1)

    return hook


def _queries(module: Any, hidden_BSD: "Tensor", is_global_BS: "Tensor") -> "Tensor":
    """The query of every row: global rows have their own projection."""
    query_BSD: Tensor = module.query(hidden_BSD)
    places = is_global_BS.nonzero(as_tuple=True)
    return query_BSD.index_put(places, module.query_global(hidden_BSD[places]))


def _released_indexing(count: int) -> Any:
    """Hook on the self-attention that gives the `count` rows after the first text row (the last global one) the output of the global path."""
    import torch

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden_BSD = args[0]
        is_global_BS, is_masked_BS = kwargs["attention_mask"] > 0, kwargs["attention_mask"] < 0
        length, width = hidden_BSD.shape[1:]
        first_text_B = length - 1 - is_global_BS.flip(1).long().argmax(dim=1)
        rows_BR = (first_text_B[:, None] + torch.arange(1, count + 1, device=hidden_BSD.device)).clamp(max=length - 1)
        index_BRD = rows_BR[..., None].expand(-1, -1, width)
        heads = (module.num_heads, module.head_dim)
        query_BHRE = module.query_global(hidden_BSD.gather(1, index_BRD)).unflatten(-1, heads).transpose(1, 2)
        stock = "forward" not in vars(module)
        key_BHSE, value_BHSE = (
            _projected(projection, hidden_BSD, stock).unflatten(-1, heads).transpose(1, 2)
            for projection in (module.key_global, module.value_global)
        )
        bias_B11S = torch.zeros_like(is_masked_BS, dtype=query_BHRE.dtype).masked_fill(is_masked_BS, torch.finfo(query_BHRE.dtype).min)[
            :, None, None
        ]
        mixed_BHRE = torch.nn.functional.scaled_dot_product_attention(query_BHRE, key_BHSE, value_BHSE, attn_mask=bias_B11S)
        return (output[0].scatter(1, index_BRD, mixed_BHRE.transpose(1, 2).flatten(2).to(output[0].dtype)), *output[1:])

    return hook


def _projected(projection: Any, hidden_BSD: "Tensor", rows_first: bool) -> "Tensor":
    """The projection as the attention itself calls it, so that hooks on it see the rows where they expect them."""
    projected: Tensor = projection(hidden_BSD.transpose(0, 1)).transpose(0, 1) if rows_first else projection(hidden_BSD)
    return projected


LONGFORMER = Longformer()
