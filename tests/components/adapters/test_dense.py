"""Prefix-propagation against a naive dense float64 reference that shares no code with the project:
logits and the gradient of every trained tensor.

A clone without ../shared proves the maths with this file.
"""

from typing import Any

import pytest

from components.adapters import (
    AdaptedModel,
    ClassificationHeadConfig,
    PrefixPropagationConfig,
    adapt,
)
from tests.components.adapters.dense_longformer import Parts
from tests.components.adapters.harness import BOTH, build, check_against_dense, randomise


@pytest.mark.parametrize(
    ("prefix_length", "pooling"), [(4, "prefix"), (13, "mean"), (3, "cls"), (2, "last")]
)
def test_longformer(prefix_length: int, pooling: Any) -> None:
    """Windows of 8: a prefix of 13 is longer than the window, and 15 tokens see past it; the second
    document is padded.
    """
    model = propagation(build("longformer"), prefix_length, pooling)
    check_against_dense(
        model,
        lambda leaves: Parts(offset=prefix_length, prefix_LPD=leaves["adapter.prefix"]),
        attentions=BOTH,
    )


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_decoder_with_grouped_query_attention(kind: str, pooling: Any) -> None:
    model = propagation(build(kind), 3, pooling)
    check_against_dense(model, lambda leaves: Parts(offset=3, prefix_LPD=leaves["adapter.prefix"]))


def propagation(backbone: Any, prefix_length: int, pooling: Any) -> AdaptedModel:
    model = adapt(
        backbone,
        PrefixPropagationConfig(prefix_length=prefix_length),
        ClassificationHeadConfig(num_labels=3, pooling=pooling),
    )
    randomise(model)
    return model
