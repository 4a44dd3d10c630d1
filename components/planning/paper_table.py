"""The table of what would fit for large decoders, in this folder's README: computed, not measured.

    python -m components.planning.paper_table     # renews the table

The fact a newcomer gets wrong: more GPUs do not shorten a document. At stage 3 they share the
weights; each still holds the activations of its own documents.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.adapters.methods.prefix_propagation import PrefixPropagationConfig
from components.backbones import BackboneConfig, BackboneShape, backbone_shape
from components.config.experiment import TrainConfig
from components.config.training import TrainingConfig
from components.config.zero import ZeroConfig
from components.data.settings import DataConfig, FilesConfig
from components.planning.memory import worker_memory
from components.planning.recommend import TILE_ROWS, USABLE, Rung
from components.planning.trained_parameters import trainable_parameters
from components.tasks import HeadConfig

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- table: made by python -m components.planning.paper_table -->", "<!-- end -->"
GIB, GPU_GIB = 1024**3, 80
GPUS, TOKENS = (1, 2, 8, 64), (8_192, 32_768, 131_072, 500_000)
MODELS: Mapping[str, Mapping[str, Any]] = {
    "Llama-3-8B": {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "max_position_embeddings": 600_000,
    },
    "Qwen3-32B": {
        "model_type": "qwen3",
        "hidden_size": 5120,
        "num_hidden_layers": 64,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 25600,
        "vocab_size": 151936,
        "max_position_embeddings": 600_000,
    },
    "Llama-3-70B": {
        "model_type": "llama",
        "hidden_size": 8192,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "intermediate_size": 28672,
        "vocab_size": 128256,
        "max_position_embeddings": 600_000,
    },
}
"""Sizes of their config.json; positions as if they reached."""


LADDER = (
    ("", Rung(False, False, None)),
    (", recomputed", Rung(True, False, None)),
    (", offloaded", Rung(True, True, None)),
    (", in tiles", Rung(True, True, TILE_ROWS)),
)
"""Ways of keeping activations, with their words in a cell."""


def device_bytes(
    shape: BackboneShape, *, tokens: int, gpus: int, stage: int, rung: Rung = LADDER[0][1]
) -> int:
    """One document at a time on each GPU, bf16, prefix-propagation with 8 positions."""
    adapter = PrefixPropagationConfig(prefix_length=8)
    config = TrainConfig(
        backbone=BackboneConfig(name_or_path="computed", family="decoder"),
        adapter=adapter,
        head=HeadConfig(pooling="last"),
        data=DataConfig(files=FilesConfig(train="none.jsonl"), max_tokens=tokens),
        training=TrainingConfig(micro_batch_size=1, precision="bf16").model_copy(
            update=rung.settings()
        ),
        zero=ZeroConfig(stage=stage),
    )
    trainable = trainable_parameters(shape, adapter, num_labels=2)
    memory = worker_memory(config, shape, trainable=trainable, num_workers=gpus, gpu=True)
    return memory.device


def cell(shape: BackboneShape, tokens: int, gpus: int) -> str:
    """The first that fits of the ladder, with whole weights and then with shards."""
    needs: list[int] = []
    for stage in (2, 3) if gpus > 1 else (2,):
        for how, rung in LADDER:
            needs.append(device_bytes(shape, tokens=tokens, gpus=gpus, stage=stage, rung=rung))
            if needs[-1] <= USABLE * GPU_GIB * GIB:
                return f"stage {stage}{how}: {needs[-1] / GIB:.0f}"
    return f"no ({min(needs) / GIB:.0f})"


def table() -> str:
    """Markdown; numbers in GiB per GPU."""
    head = ["model", "tokens", *(f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS)]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for name, config in MODELS.items():
        shape = backbone_shape(config)
        for tokens in TOKENS:
            row = [name, f"{tokens:,}", *(cell(shape, tokens, gpus) for gpus in GPUS)]
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    README.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
