"""What a benchmark trains on: generated documents and backbones that every machine can make without
a hub.

The words are drawn from a fixed list by a seeded generator, so that two runs, and the two sides of
one run, see the same bytes. One word per class tells the class.
"""

import json
import random
from pathlib import Path
from typing import Any, Literal

BackboneName = Literal["tiny", "minilm"]
WORDS = (
    "adapter after again alone answer before below better between bound branch carry change check "
    "cluster column common corner count cover daily deep degree depth design detail double early "
    "edge engine even "
    "every example field figure first follow form front garden general given ground half head "
    "heavy history hold house hundred image inside island keep kind land large later layer learn "
    "length letter level light "
    "limit line little long machine matter mean measure member middle might minute model moment "
    "month morning mother mountain move music name nature near never night north note number "
    "object ocean offer often order "
    "other outside paper part past pattern people period person picture place plain plan plant "
    "point power present problem produce question quiet rather reach reason record region rest "
    "right river road round rule "
    "same science season second sentence separate several shape short show side simple single size "
    "small space special stand start state station step still stone story street strong study "
    "sudden summer sure system table"
).split()
LABELS = ("harbour", "orchard", "library")
TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "attention_window": [32, 32],
    "max_position_embeddings": 1024,
    "type_vocab_size": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def write_documents(path: Path, count: int, *, seed: int, words: tuple[int, int]) -> None:
    """JSON Lines of `count` documents with id, text and label, each of between words[0] and
    words[1] words.
    """
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            label = LABELS[index % len(LABELS)]
            text = draw.choices(WORDS, k=draw.randint(*words))
            for _ in range(max(1, len(text) // 40)):
                text.insert(draw.randrange(len(text)), label)
            file.write(
                json.dumps({"id": f"{path.stem}-{index}", "text": " ".join(text), "label": label})
                + "\n"
            )


def backbone_values(
    name: BackboneName, folder: Path, *, max_tokens: int, window: int = 128
) -> dict[str, Any]:
    """The `backbone` section of an experiment. `tiny`: two random layers saved below `folder`;
    `minilm`: the pretrained offline package, lengthened. No dropout.
    """
    positions = (
        -(-(max_tokens + 64) // window) * window
    )  # room for the longest prefix of the default search space
    minilm = {
        "source": "installed",
        "name_or_path": "all-MiniLM-L6-v2",
        "family": "longformer",
        "lengthen_to": positions,
        "attention_window": window,
    }
    minilm |= {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    return (
        minilm
        if name == "minilm"
        else {
            "source": "local",
            "name_or_path": str(_tiny_backbone(folder / "tiny-backbone", minilm)),
            "family": "longformer",
        }
    )


def _tiny_backbone(folder: Path, tokenizer_of: dict[str, Any]) -> Path:
    import torch
    from transformers import LongformerConfig, LongformerModel

    from components.backbones import load_tokenizer
    from components.backbones.settings import BackboneConfig

    tokenizer = load_tokenizer(BackboneConfig.model_validate(tokenizer_of))
    torch.manual_seed(0)
    config = LongformerConfig(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **TINY
    )
    LongformerModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
