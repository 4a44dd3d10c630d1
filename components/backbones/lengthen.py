"""Turn a BERT or RoBERTa checkpoint into a Longformer with more positions, by the Longformer
authors' recipe.

Learnt position embeddings are tiled up to the new length; query, key and value are copied into
their global twins. Usable on its own: `python -m components.backbones.lengthen SOURCE TARGET
--positions 4096`.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.backbones.fields import SIZES, check_fields, check_padding
from components.errors import BackboneError

LENGTHENED_TYPES = ("bert", "roberta", "xlm-roberta", "camembert")
LENGTHENED_FIELDS = (
    "hidden_act hidden_dropout_prob attention_probs_dropout_prob initializer_range layer_norm_eps"
).split()


def longformer_config(
    config: Mapping[str, Any], *, positions: int, attention_window: int
) -> dict[str, Any]:
    """config.json of the lengthened model.

    `positions`: usable positions (prefix and text together). Raises BackboneError for a model that
    is neither BERT nor RoBERTa, or has relative positions.
    """
    kind = config.get("model_type")
    if kind not in LENGTHENED_TYPES:
        raise BackboneError(
            f"backbone.lengthen_to works on {', '.join(LENGTHENED_TYPES)} checkpoints; this one is "
            f"'{kind}'. Remove backbone.lengthen_to."
        )
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise BackboneError(
            "backbone.lengthen_to needs absolute learnt positions; this checkpoint has "
            f"{config['position_embedding_type']}."
        )
    check_fields(config, required=(*SIZES, *LENGTHENED_FIELDS))
    check_padding(config, required=True)
    pad = config["pad_token_id"]
    kept = """
        vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size
        hidden_act hidden_dropout_prob attention_probs_dropout_prob initializer_range
        layer_norm_eps
    """.split()
    return {
        "model_type": "longformer",
        **{name: config[name] for name in kept},
        "pad_token_id": pad,
        "max_position_embeddings": positions + pad + 1,
        "attention_window": [attention_window] * config["num_hidden_layers"],
        "type_vocab_size": 1,
        "sep_token_id": config.get("sep_token_id", config.get("eos_token_id", 2) or 2),
    }


def lengthen(source: Path, target: Path, *, positions: int, attention_window: int = 256) -> Path:
    """Write the lengthened LongformerModel of the checkpoint folder `source` to the new folder
    `target`, atomically; returns `target`.
    """
    from safetensors.torch import save_file

    from components.atomic_folder import atomic_folder
    from components.backbones.quiet import quiet_loading
    from components.backbones.stock import stock_model

    old = stock_model(source, name=str(source), add_pooling_layer=False)
    with quiet_loading():
        from transformers import AutoConfig, LongformerConfig, LongformerModel

    new_config = longformer_config(
        AutoConfig.from_pretrained(source).to_dict(),
        positions=positions,
        attention_window=attention_window,
    )
    new = LongformerModel(LongformerConfig(**new_config), add_pooling_layer=False)
    new.load_state_dict(
        longformer_state(old.state_dict(), config=old.config.to_dict(), positions=positions),
        strict=True,
    )
    new.config.architectures, new.config.dtype = ["LongformerModel"], "float32"
    with atomic_folder(target, checksums=True) as folder:
        # Not new.save_pretrained: inside a process group it writes on rank 0 alone, and any rank
        # may be the one that lengthens.
        new.config.save_pretrained(folder)
        save_file(
            {name: tensor.contiguous() for name, tensor in new.state_dict().items()},
            folder / "model.safetensors",
            metadata={"format": "pt"},
        )
    return target


def is_whole(lengthened: Path) -> bool:
    """Whether the folder holds what `lengthen` wrote (read for its checksums)."""
    from components.checksums import Damaged, check

    try:
        check(lengthened)
    except Damaged:
        return False
    return (lengthened / "config.json").is_file()


def longformer_state(
    state: Mapping[str, Any], *, config: Mapping[str, Any], positions: int
) -> dict[str, Any]:
    """State dict of the LongformerModel from that of the BertModel or RobertaModel."""
    import torch

    pad = config["pad_token_id"]
    first = (
        0 if config["model_type"] == "bert" else pad + 1
    )  # BERT numbers its tokens from 0, RoBERTa from pad + 1
    new: dict[str, Any] = {}
    for name, tensor in state.items():
        if name == "embeddings.position_embeddings.weight":
            learnt = tensor[first:]
            unused = (
                tensor[:first]
                if first
                else torch.zeros(pad + 1, tensor.shape[1], dtype=tensor.dtype)
            )
            repeats = -(-positions // len(learnt))
            new[name] = torch.cat([unused, learnt.repeat(repeats, 1)[:positions]]).contiguous()
        elif name == "embeddings.token_type_embeddings.weight":
            new[name] = tensor[:1].clone()
        elif name.startswith(("embeddings.", "encoder.")) and not name.endswith(
            ("position_ids", "token_type_ids")
        ):
            new[name] = tensor
            for projection in ("query", "key", "value"):
                if f".attention.self.{projection}." in name:
                    new[name.replace(f".{projection}.", f".{projection}_global.")] = tensor.clone()
    return new


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Turn a BERT or RoBERTa checkpoint into a Longformer with more positions."
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--positions", type=int, default=4096, help="usable positions in tokens")
    parser.add_argument(
        "--attention-window",
        type=int,
        default=256,
        help="local window in tokens, both sides together",
    )
    given = parser.parse_args()
    folder = lengthen(
        given.source,
        given.target,
        positions=given.positions,
        attention_window=given.attention_window,
    )
    print(folder)  # noqa: T201


if __name__ == "__main__":
    main()
