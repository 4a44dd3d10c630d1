"""Causal decoders of the Llama form (LlamaModel, Qwen3Model, ...): a prefix comes before the text
and cannot see it; a suffix comes after it and does.

The fact a newcomer gets wrong: under a causal mask the prefix rows do not depend on the document,
and the text rows do not depend on a suffix. Grouped-query attention needs no care here, because the
prefix is added to hidden states and not to keys and values. Right and left padding give the same
result: positions follow the real tokens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from components.backbones.family import AttentionSizes, Rows
from components.backbones.fields import check_fields, wrong
from components.backbones.shape import BackboneShape
from components.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor, nn


class Decoder:
    """Decoders with rotary positions and full attention in every layer."""

    name = "decoder"
    model_types: tuple[str, ...] = ("llama", "qwen2", "qwen3", "mistral")
    trained_with_prefix: tuple[str, ...] = ()
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    rows_see_all_text = False
    hidden_dropout: str | None = None
    attention_dropout = "attention_dropout"
    load_options: Mapping[str, Any] = {}
    structure: tuple[str, ...] = ("rms_norm_eps", "sliding_window")
    more_positions: str | None = None

    def shape(self, config: Mapping[str, Any]) -> BackboneShape:
        hidden, layers = config["hidden_size"], config["num_hidden_layers"]
        kind, heads = config["model_type"], config["num_attention_heads"]
        size = config.get("head_dim") or hidden // heads
        query, key_value = heads * size, (config.get("num_key_value_heads") or heads) * size
        wide, biased = config["intermediate_size"], bool(config.get("attention_bias", False))
        biases = (query + 2 * key_value) * (kind == "qwen2" or biased) + hidden * (
            kind != "qwen2" and biased
        )
        widths = {
            "q_proj": (hidden, query),
            "k_proj": (hidden, key_value),
            "v_proj": (hidden, key_value),
            "o_proj": (query, hidden),
            "gate_proj": (hidden, wide),
            "up_proj": (hidden, wide),
            "down_proj": (wide, hidden),
        }
        matrices = sum(inputs * outputs for inputs, outputs in widths.values())
        norms = 2 * hidden + 2 * size * (kind == "qwen3")
        mlp_biases = (2 * wide + hidden) * bool(config.get("mlp_bias", False))
        return BackboneShape(
            layers=layers,
            hidden=hidden,
            feed_forward=wide,
            query_width=query,
            key_value_width=key_value,
            heads=heads,
            positions=self.usable_positions(config),
            attention_window=None,
            parameters=config["vocab_size"] * hidden
            + layers * (matrices + biases + mlp_biases + norms)
            + hidden,
            trained_with_prefix=0,
            linear_widths=widths,
            lora_targets=self.lora_targets,
        )

    def activation_numbers(
        self, shape: BackboneShape, *, stock_attention: bool, prefix_length: int
    ) -> float:
        """2 D + 2 q + 2 kv + 3 I: a frozen linear layer keeps no input, since it needs no weight
        gradient.
        """
        widths = shape.hidden + shape.query_width + shape.key_value_width
        return float(2 * widths + 3 * shape.feed_forward)

    def layers(self, backbone: "nn.Module") -> "Sequence[nn.Module]":
        return cast("Sequence[nn.Module]", backbone.layers)

    def attention_sizes(self, backbone: "nn.Module") -> AttentionSizes:
        config: Any = backbone.config
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        return AttentionSizes(heads, getattr(config, "num_key_value_heads", None) or heads, size)

    def prefixed_inputs(
        self,
        backbone: "nn.Module",
        input_ids_BT: "Tensor",
        attention_mask_BT: "Tensor",
        rows: Rows,
        *,
        prompt_BPD: "Tensor | None" = None,
        embeddings_BTD: "Tensor | None" = None,
        global_BT: "Tensor | None" = None,
    ) -> dict[str, Any]:
        import torch

        batch, before = input_ids_BT.shape[0], rows.key_value + rows.prefix
        if embeddings_BTD is None:
            embeddings_BTD = backbone.get_input_embeddings()(input_ids_BT)  # type: ignore[operator]
        before_BPD = (
            embeddings_BTD.new_zeros(batch, before, embeddings_BTD.shape[-1])
            if prompt_BPD is None
            else prompt_BPD.to(embeddings_BTD.dtype)
        )
        # Key/value rows are not rotated (replaced_keys_and_values); their positions lead up to the
        # next row's, because flash attention takes a jump for the start of another document.
        places = (torch.arange(before) + rows.offset - before).to(input_ids_BT.device)
        text_BT = (attention_mask_BT.long().cumsum(dim=1) - 1).clamp(min=0) + rows.offset
        after_BPD = embeddings_BTD.new_zeros(batch, rows.suffix, embeddings_BTD.shape[-1])
        # They follow the last real token, padding or not.
        after_BP = (
            attention_mask_BT.long().sum(dim=1, keepdim=True)
            + rows.offset
            + torch.arange(rows.suffix, device=input_ids_BT.device)
        )
        ones_BP = [attention_mask_BT.new_ones(batch, count) for count in (before, rows.suffix)]
        return {
            "inputs_embeds": torch.cat([before_BPD, embeddings_BTD, after_BPD], dim=1),
            "attention_mask": torch.cat([ones_BP[0], attention_mask_BT, ones_BP[1]], dim=1),
            "position_ids": torch.cat([places.expand(batch, -1), text_BT, after_BP], dim=1),
            "use_cache": False,
        }

    @contextmanager
    def replaced_keys_and_values(
        self, layer: "nn.Module", key_BPK: "Tensor", value_BPK: "Tensor"
    ) -> Iterator[None]:
        attention: Any = layer.self_attn
        places = [
            (getattr(attention, "k_norm", attention.k_proj), key_BPK),
            (attention.v_proj, value_BPK),
        ]
        handles = [
            module.register_forward_hook(_replace_first_rows(prefix_BPK))
            for module, prefix_BPK in places
        ]
        handles.append(
            attention.register_forward_pre_hook(_unrotated(key_BPK.shape[1]), with_kwargs=True)
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def released_indexing(self, layer: "nn.Module", count: int) -> Any:
        raise BackboneError(
            "a decoder has no released indexing (the settings of the method refuse it by name)"
        )

    @contextmanager
    def added_to_attention(
        self, layer: "nn.Module", extra: "Callable[[Tensor], Tensor]"
    ) -> Iterator[None]:
        attention: Any = layer.self_attn
        queries: list[Tensor] = []

        def remember(_module: Any, _inputs: Any, output: "Tensor") -> None:
            queries[:] = [output.view(*output.shape[:2], -1, attention.head_dim)]

        def add(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (inputs[0] + extra(queries.pop()).flatten(2).to(inputs[0].dtype),)

        handles = [
            getattr(attention, "q_norm", attention.q_proj).register_forward_hook(remember),
            attention.o_proj.register_forward_pre_hook(add),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def decomposed_prefix(self, layer: "nn.Module", prefix_length: int, smooth: Any) -> Any:
        raise BackboneError(
            "a decoder's prefix rows see no text to leave them out of (the settings of the method "
            "refuse it by name)"
        )

    def only_rows(self, backbone: "nn.Module", row_BR: "Tensor") -> dict[str, Any]:
        return {}

    def usable_positions(self, config: Mapping[str, Any]) -> int:
        return int(config["max_position_embeddings"])

    def check_supported(self, config: Mapping[str, Any]) -> None:
        check_fields(config)
        rotary = config.get("rope_parameters") or {}
        theta = (rotary if isinstance(rotary, dict) else {}).get(
            "rope_theta", config.get("rope_theta")
        )
        if theta is not None and not (type(theta) in (int, float) and theta > 0):
            raise wrong("rope_theta", theta, "a positive number")
        layer_types = config.get("layer_types") or []
        slides = config.get("sliding_window") if config.get("use_sliding_window", True) else None
        if "sliding_attention" in layer_types or (not layer_types and slides):
            raise BackboneError(
                f"The backbone ({config['model_type']}) has sliding-window layers "
                f"(sliding_window={config.get('sliding_window')}): the prefix would fade with "
                "distance. "
                "Use a backbone with full attention, or set sliding_window to null in its "
                "config.json if the documents are shorter than the window."
            )

    def accelerate(self, backbone: "nn.Module") -> None:
        """Nothing to do: transformers runs decoders on SDPA by default."""


def _replace_first_rows(prefix_BPK: "Tensor") -> Any:
    """Hook on a projection (B, S, K) or a norm per head (B, S, H, E)."""
    import torch

    def hook(_module: Any, _inputs: Any, output: "Tensor") -> "Tensor":
        prefix = prefix_BPK.to(output.dtype).view(*prefix_BPK.shape[:2], *output.shape[2:])
        return torch.cat([prefix, output[:, prefix_BPK.shape[1] :]], dim=1)

    return hook


def _unrotated(count: int) -> Any:
    """Hook on an attention: rotary embedding leaves the first rows as they are. At position 0 it
    would not everywhere: some kinds (YaRN) scale keys and queries too.
    """
    import torch

    def hook(
        _module: Any, inputs: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        cos_BSE, sin_BSE = options["position_embeddings"]
        first = slice(0, count)
        cosines = torch.cat([torch.ones_like(cos_BSE[:, first]), cos_BSE[:, count:]], dim=1)
        sines = torch.cat([torch.zeros_like(sin_BSE[:, first]), sin_BSE[:, count:]], dim=1)
        return inputs, options | {"position_embeddings": (cosines, sines)}

    return hook


DECODER = Decoder()
