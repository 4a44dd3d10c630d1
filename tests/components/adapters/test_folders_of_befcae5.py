"""Adapter folders written by commit befcae5, one for each method: they load, and answer bit for bit
what they answered then.

The backbone is filled by a formula, so that it is the same wherever the test runs.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from components.adapters import load_adapter
from components.adapters.methods import METHODS

FOLDERS = Path(__file__).with_name("folders_of_befcae5")
LOGITS = json.loads((FOLDERS / "logits.json").read_text())
TEXTS = torch.tensor([[0, 5, 6, 7, 8, 9, 10, 2], [0, 11, 12, 13, 2, 1, 1, 1]])
QUESTION = torch.tensor([[0, -4, 5, -3, -2, 6, -1, -2, 7, -1, 2, 8, 9, 2]])


def backbone() -> Any:
    from transformers import LongformerConfig, LongformerModel

    config = LongformerConfig(
        vocab_size=24,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        attention_window=[4, 4],
        max_position_embeddings=40,
        type_vocab_size=1,
        pad_token_id=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = LongformerModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for index, (_, parameter) in enumerate(sorted(model.named_parameters())):
            places = torch.arange(parameter.numel(), dtype=torch.float64)
            values = torch.sin(places * 0.7 + index).float() * 0.3
            parameter.copy_(values.view_as(parameter))
    return model


def test_there_is_a_folder_of_every_method_of_that_time() -> None:
    assert set(METHODS) <= set(LOGITS)


@pytest.mark.parametrize("name", LOGITS)
def test_it_loads_and_answers_what_it_answered(name: str) -> None:
    model = load_adapter(backbone(), FOLDERS / name)
    with torch.no_grad():
        found = model(QUESTION) if name == "multiple_choice" else model(TEXTS, TEXTS.ne(1).long())
    assert found.logits.tolist() == LOGITS[name]
