"""What the loss over a large vocabulary adds to the memory of a step: at most a third of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
MOST = 1.3
"""Times the step with a linear classifier of the mean row in the place of the language-model head:
both read every row of the last layer.
"""
TOKENS, VOCABULARY = 8_192, 131_072
SIDE = f"""
import json, sys, tempfile
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from components.adapters import (
    ClassificationHeadConfig, LanguageModellingHeadConfig, PrefixPropagationConfig, adapt
)
from components.backbones import BackboneConfig, load_backbone
from pipelines.research.benchmark.call_memory import call_memory

torch.manual_seed(0)
torch.set_num_threads(2)
sizes = dict(hidden_size=512, intermediate_size=1376, num_hidden_layers=4, num_attention_heads=8,
             num_key_value_heads=4, max_position_embeddings={2 * TOKENS}, pad_token_id=0)
writes = sys.argv[1] == "language_modelling"
head = (
    LanguageModellingHeadConfig()
    if writes
    else ClassificationHeadConfig(num_labels=2, pooling="mean", form="linear")
)
with tempfile.TemporaryDirectory() as folder:
    LlamaForCausalLM(LlamaConfig(vocab_size={VOCABULARY}, **sizes)).save_pretrained(folder)
    source = BackboneConfig(source="local", name_or_path=folder, family="decoder")
    model = adapt(
        load_backbone(source, cache_path=folder), PrefixPropagationConfig(prefix_length=8), head
    ).train()
    for parameter in [*model.parameters(), *model.buffers()]:
        float(parameter.sum())  # mapped weights are there before the count
    leaves = list(model.trainable_parameters().values())
    for tokens in (64, {TOKENS}):
        ids = torch.randint(4, {VOCABULARY}, (1, tokens))
        labels = torch.zeros(1, dtype=torch.long)
        loss, taken = call_memory(lambda: model(ids, labels=labels).loss, leaves)
    print(json.dumps([float(loss), taken]))
"""


def step(head: str) -> int:
    """Bytes of a forward and backward pass beside the weights."""
    command = [sys.executable, "-W", "ignore", "-c", SIDE, head]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    loss, taken = json.loads(ended.stdout.splitlines()[-1])
    assert loss > 0
    return int(taken)


def test_a_large_vocabulary_adds_little_to_a_step() -> None:
    with_head, without = step("language_modelling"), step("classification")
    print(f"{with_head / 2**20:.0f} MiB against {without / 2**20:.0f} MiB")
    assert with_head <= MOST * without
    # Whole logits alone would be more than the step.
    assert without < 4 * TOKENS * VOCABULARY
