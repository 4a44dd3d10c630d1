"""What a checkpoint's config.json must hold to be computed with: fields by name, before anything
believes them. No torch, no transformers.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from components.backbones.quantization import quantization_of
from components.errors import BackboneError

SIZES = (
    "hidden_size num_hidden_layers num_attention_heads intermediate_size vocab_size "
    "max_position_embeddings"
).split()
"""Fields without which no size is known."""

LARGEST_SIZE = 2**31 - 1
SMALL = ("layer_norm_eps", "rms_norm_eps", "initializer_range")
DROPOUTS = (
    "hidden_dropout_prob attention_probs_dropout_prob attention_dropout classifier_dropout"
).split()


def check_fields(values: Mapping[str, Any], *, required: Iterable[str] = SIZES) -> None:
    """Raise BackboneError for a required size that is missing, for any field that is no number of
    its kind, and for numbers that are quantised in a way that nothing here reads.
    """
    quantization_of(values)
    for name in required:
        if values.get(name) is None:
            raise missing(name)
    for name in (*SIZES, "num_key_value_heads", "head_dim", "type_vocab_size"):
        if values.get(name) is not None:
            _check_size(name, values[name])
    for name in SMALL:
        if values.get(name) is not None and not (_number(values[name]) and 0 < values[name] < 1):
            raise wrong(name, values[name], "a number between 0 and 1")
    for name in DROPOUTS:
        if values.get(name) is not None and not (_number(values[name]) and 0 <= values[name] < 1):
            raise wrong(name, values[name], "a probability below 1")
    check_padding(values)
    _check_heads(values)


def check_padding(values: Mapping[str, Any], *, required: bool = False) -> None:
    """Raise BackboneError where pad_token_id is no row of the embedding."""
    pad, rows = values.get("pad_token_id"), values.get("vocab_size")
    if pad is None:
        if required:
            raise missing("pad_token_id")
        return
    # Some decoders write -1 for "none".
    if type(pad) is not int or pad < (0 if required else -1) or pad >= (rows or LARGEST_SIZE):
        raise wrong("pad_token_id", pad, f"a token id below vocab_size {rows}")


def missing(name: str) -> BackboneError:
    return BackboneError(
        f"config.json: {name} is missing. Save the model again with save_pretrained, or write the "
        "value with which it was trained."
    )


def wrong(name: str, given: Any, expected: str) -> BackboneError:
    shown = json.dumps(given, default=str)[:100]
    return BackboneError(
        f"config.json: {name} is {shown}, expected {expected}. Write the value with which the "
        "model was trained."
    )


def _check_size(name: str, given: Any) -> None:
    if type(given) is not int or not 0 < given <= LARGEST_SIZE:
        raise wrong(name, given, "a positive integer")


def _number(given: Any) -> bool:
    return type(given) in (int, float) and math.isfinite(given)


def _check_heads(values: Mapping[str, Any]) -> None:
    heads, hidden = values.get("num_attention_heads"), values.get("hidden_size")
    if heads and hidden and values.get("head_dim") is None and hidden % heads:
        raise wrong("num_attention_heads", heads, f"a divisor of hidden_size {hidden}")
    shared = values.get("num_key_value_heads")
    if heads and shared and heads % shared:
        raise wrong("num_key_value_heads", shared, f"a divisor of num_attention_heads {heads}")
