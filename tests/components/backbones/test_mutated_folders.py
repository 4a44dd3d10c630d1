"""100 backbone folders whose config.json or tokenizer has something wrong, drawn from a seed: a
trained step with a finite loss, or one BackboneError line. What is refused before anything is
loaded is refused by its field or file.
"""

import copy
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from components.adapters import ClassificationHeadConfig, PrefixPropagationConfig, adapt
from components.backbones import BackboneConfig, inspect_backbone, load_backbone, load_tokenizer
from components.errors import BackboneError
from tests.conftest import build_tiny_decoder, build_tiny_longformer
from tests.toy import make_tokenizer

FOLDERS = 100
ODD: tuple[Any, ...] = (
    *(None, True, "", "x", 0, 1, 2, 3, 7, 33, -1, 10**12, 2**70, 0.5, -0.5, 1e300, [], [8], {}),
    *([8, 8, 8], [8, 7], ["full_attention", "sliding_attention"], {"rope_type": "yarn"}),
    *({"rope_type": "linear", "factor": "x", "rope_theta": 1e4}, "float16", "relu", "nonsense"),
    *({"quant_method": "gptq"}, float("inf"), "\ud800"),
)
FURTHER = (
    "quantization_config layer_types sliding_window use_sliding_window rope_parameters "
    "rope_scaling head_dim auto_map tokenizer_class torch_dtype hidden_act "
    "partial_rotary_factor is_decoder "
    "add_cross_attention output_hidden_states return_dict chunk_size_feed_forward pruned_heads "
    "attn_implementation _attn_implementation use_cache use_return_dict tie_word_embeddings"
).split()


def _config(folder: Path, draw: random.Random) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    for _ in range(draw.choice([1, 1, 2])):
        name, how = draw.choice([*values, *FURTHER]), draw.random()
        if how < 0.15:
            values.pop(name, None)
        elif how < 0.45 and type(values.get(name)) in (int, float):
            values[name] = type(values[name])(values[name] * draw.choice([0, 0.5, 2, 3, -1, 1e6]))
        else:
            values[name] = copy.deepcopy(draw.choice(ODD))
    path.write_text(json.dumps(values))


def _tokenizer(folder: Path, draw: random.Random) -> None:
    path = folder / draw.choice(["tokenizer.json", "tokenizer_config.json"])
    values = json.loads(path.read_text())
    mappings = [values]
    for mapping in mappings:
        mappings += [value for value in mapping.values() if isinstance(value, dict)]
    mapping = draw.choice([mapping for mapping in mappings if mapping])
    key = draw.choice(list(mapping))
    if draw.random() < 0.3:
        del mapping[key]
    else:
        mapping[key] = copy.deepcopy(draw.choice(ODD))
    path.write_text(json.dumps(values))


def _cut(folder: Path, draw: random.Random) -> None:
    path = draw.choice(sorted(folder.iterdir()))
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def _removed(folder: Path, draw: random.Random) -> None:
    draw.choice(sorted(folder.iterdir())).unlink()


CHANGES: tuple[Callable[[Path, random.Random], None], ...] = (
    *(_config, _config, _config, _config, _tokenizer, _tokenizer),
    *(_cut, _removed),
)


def trained_step(config: BackboneConfig, cache: Path) -> float:
    """The loss after which an adapter's parameters were moved once."""
    inspect_backbone(config)
    backbone, tokenizer = load_backbone(config, cache_path=cache), load_tokenizer(config)
    pooling = "prefix" if config.family == "longformer" else "last"
    model = adapt(
        backbone,
        PrefixPropagationConfig(prefix_length=2),
        ClassificationHeadConfig(num_labels=2, pooling=pooling),
    ).train()
    batch = tokenizer(["w1 w2 alpha w3", "beta w5"], padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(model.trainable_parameters().values(), lr=1e-3)
    loss = model(batch["input_ids"], batch["attention_mask"], torch.tensor([0, 1])).loss
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def ended(config: BackboneConfig, cache: Path) -> str:
    try:
        loss = trained_step(config, cache)
    except BackboneError as error:
        line = str(error)
        assert "\n" not in line and len(line) < 1000 and config.name_or_path in line, line
        assert "weights_only" not in line and "trust_remote_code" not in line
        return "refused"
    assert torch.isfinite(torch.tensor(loss))
    return "trained"


def test_every_mutated_folder_gives_a_trained_step_or_one_line(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for family, model in (
        ("longformer", build_tiny_longformer()),
        ("decoder", build_tiny_decoder()),
    ):
        model.save_pretrained(tmp_path / family)
        make_tokenizer(tmp_path / family)
    draw, counted = random.Random(20261128), Counter[str]()
    for number in range(FOLDERS):
        family = ("longformer", "decoder")[number % 2]
        folder = tmp_path / f"folder-{number}"
        shutil.copytree(tmp_path / family, folder)
        draw.choice(CHANGES)(folder, draw)
        config = BackboneConfig(source="local", name_or_path=str(folder), family=family)
        counted[ended(config, tmp_path / "cache")] += 1
        shutil.rmtree(folder)
    assert counted.total() == FOLDERS and min(counted.values()) >= 15, counted
