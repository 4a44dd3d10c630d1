"""A lengthened BERT or RoBERTa answers as the original does where the original can answer, and its
position table is the tiled one.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, LongformerModel, RobertaConfig, RobertaModel

from components.backbones.lengthen import is_whole, lengthen, longformer_config
from components.errors import BackboneError

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "type_vocab_size": 2,
    "initializer_range": 0.2,
}


def original(kind: str, folder: Path) -> Any:
    """24 usable positions: RoBERTa's table starts with pad_token_id + 1 rows that no token uses."""
    torch.manual_seed(0)
    if kind == "bert":
        model: Any = BertModel(
            BertConfig(max_position_embeddings=24, pad_token_id=0, **SIZES), add_pooling_layer=False
        )
    else:
        model = RobertaModel(
            RobertaConfig(
                max_position_embeddings=26, pad_token_id=1, bos_token_id=0, eos_token_id=2, **SIZES
            ),
            add_pooling_layer=False,
        )
    model.eval().save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_lengthened_model_equals_the_original_within_its_positions(
    kind: str, tmp_path: Path
) -> None:
    """With a window over the whole document local attention is full attention. Tokens are given as
    they are: each model numbers its own positions.
    """
    model = original(kind, tmp_path / "original")
    long = LongformerModel.from_pretrained(
        lengthen(tmp_path / "original", tmp_path / "long", positions=80, attention_window=48),
        add_pooling_layer=False,
    ).eval()
    ids = torch.randint(3, 60, (2, 24), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[1, 17:], mask[1, 17:] = model.config.pad_token_id, 0
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
        for global_rows in (0, 1):  # the global twins are copies, so a global row answers the same
            global_mask = torch.zeros_like(ids)
            global_mask[:, :global_rows] = 1
            found = long(
                input_ids=ids, attention_mask=mask, global_attention_mask=global_mask
            ).last_hidden_state
            torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_position_table_is_tiled(kind: str, tmp_path: Path) -> None:
    model = original(kind, tmp_path / "original")
    long = LongformerModel.from_pretrained(
        lengthen(tmp_path / "original", tmp_path / "long", positions=60), add_pooling_layer=False
    )
    pad = model.config.pad_token_id
    learnt = model.embeddings.position_embeddings.weight[0 if kind == "bert" else pad + 1 :]
    table = long.embeddings.position_embeddings.weight
    assert table.shape[0] == 60 + pad + 1
    assert torch.equal(table[pad + 1 :], torch.cat([learnt, learnt, learnt[:12]]))
    layer = long.encoder.layer[1].attention.self
    assert torch.equal(layer.key_global.weight, layer.key.weight) and torch.equal(
        layer.value_global.bias, layer.value.bias
    )


def test_relative_positions_and_other_models_are_refused() -> None:
    config = BertConfig(**SIZES).to_dict()
    with pytest.raises(
        BackboneError, match="absolute learnt positions; this checkpoint has relative_key"
    ):
        longformer_config(
            config | {"position_embedding_type": "relative_key"}, positions=80, attention_window=8
        )
    with pytest.raises(
        BackboneError,
        match=(
            r"works on bert, roberta, .* checkpoints; this one is 'llama'. Remove "
            r"backbone.lengthen_to"
        ),
    ):
        longformer_config({"model_type": "llama"}, positions=80, attention_window=8)


@pytest.mark.slow
def test_module_runs_on_its_own(tmp_path: Path) -> None:
    original("roberta", tmp_path / "original")
    command = [
        sys.executable,
        "-m",
        "components.backbones.lengthen",
        str(tmp_path / "original"),
        str(tmp_path / "long"),
        "--positions",
        "64",
        "--attention-window",
        "16",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.strip().endswith("long")
    assert json.loads((tmp_path / "long" / "config.json").read_text())["attention_window"] == [
        16,
        16,
    ]


def test_any_rank_can_lengthen(tmp_path: Path) -> None:
    """The first worker to come writes the folder for all, whatever its rank."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    original("bert", tmp_path / "original")
    dist.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
    try:
        long = lengthen(tmp_path / "original", tmp_path / "long", positions=80, attention_window=8)
    finally:
        dist.destroy_process_group()
    assert json.loads((long / "config.json").read_text())["model_type"] == "longformer"
    LongformerModel.from_pretrained(long, add_pooling_layer=False)


def test_a_damaged_copy_is_found_out(tmp_path: Path) -> None:
    source = tmp_path / "source"
    original("bert", source)
    folder = lengthen(source, tmp_path / "long", positions=48, attention_window=8)
    assert is_whole(folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-100] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert not is_whole(folder) and not is_whole(tmp_path / "none")
