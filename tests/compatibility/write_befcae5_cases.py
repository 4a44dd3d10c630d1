"""What of commit befcae5 is stored: part of write_befcae5.py, kept to be read."""

from typing import Any

TEMPERATURE = 1.7

PREFIX = {"prefix_length": 3}
METHODS: dict[str, dict[str, Any]] = {
    "prefix_propagation": PREFIX,
    "prefix_tuning": PREFIX,
    "prompt_tuning": PREFIX,
    "propagation_and_prefix_tuning": PREFIX,
    "head_only": {},
    "full_fine_tuning": {},
    "lora": {"rank": 2, "alpha": 6.0},
    "adaptive_prefix_propagation": PREFIX,
    "adaptive_prefix_tuning": PREFIX,
    "prefix_memory": {},
    "kernel_prefix": PREFIX | {"kernel": "rbf", "lengthscale": 2.0},
    "kernel_propagation": PREFIX | {"kernel": "polynomial"},
}
OTHERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "rank": (
        "longformer",
        {"method": "prefix_propagation", "prefix_length": 3, "rank": 2},
        "prefix",
    ),
    "reparametrised": (
        "longformer",
        {
            "method": "prefix_tuning",
            "prefix_length": 3,
            "reparametrization": "mlp",
            "reparametrization_hidden": 6,
        },
        "cls",
    ),
    "released_indexing": (
        "longformer",
        {"method": "prefix_tuning", "prefix_length": 3, "released_indexing": True},
        "last",
    ),
    "questions": ("longformer", {"method": "prefix_propagation", "prefix_length": 3}, ""),
    "decoder": ("decoder", {"method": "prefix_propagation", "prefix_length": 3}, "mean"),
    "decoder_prefix_tuning": ("decoder", {"method": "prefix_tuning", "prefix_length": 3}, "last"),
    "decoder_suffix": (
        "decoder",
        {"method": "prefix_propagation", "prefix_length": 3, "placement": "suffix"},
        "last",
    ),
}
CASES = {name: ("longformer", {"method": name, **own}, "mean") for name, own in METHODS.items()}
CASES |= OTHERS
"""Adapter folder -> (family, its settings, pooling; none for multiple choice)."""
MODELS = [*METHODS, "questions", "decoder", "decoder_prefix_tuning", "decoder_suffix"]
"""Those that are stored as MLflow models too."""
