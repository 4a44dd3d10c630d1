"""Start from another adapter's values instead of fresh ones: what was learnt before need not be
learnt again.

Tensors of equal name are taken over. Where they differ in one dimension (a longer or shorter
prefix, another rank), what both have is taken over, from the first row on; further rows stay as
they were drawn. A reparametrised prefix is stored as its values, so that its network starts afresh.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from components.adapters import read_adapter_config
from components.adapters.model import AdaptedModel
from components.adapters.reading import TENSOR_FILE, read_header
from components.errors import ConfigError
from components.training.zero3 import gathered


def start_from(model: AdaptedModel, folder: Path, *, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Copy the values of the adapter in `folder` into `model`; returns the names that were taken
    over. Called by every rank together.

    Raises ConfigError where the adapter is of another method, label set or head.form, or has
    nothing in common with the model.
    """
    _check(model, folder, labels)
    read_header(folder)
    stored, named = load_file(folder / TENSOR_FILE), model.trainable_parameters()
    taken = []
    with torch.no_grad(), gathered(list(named.values()), write=True):
        for name, parameter in named.items():
            if name not in stored or not _overlap(parameter.shape, stored[name].shape):
                continue
            taken.append(name)
            if parameter.numel():
                common = _overlap(parameter.shape, stored[name].shape)
                parameter[common].copy_(stored[name][common])
    if not taken:
        raise ConfigError(
            f"training.warm_start: the adapter in '{folder}' has no tensor in common with this "
            "one. Remove the setting, or name an adapter of the same method and backbone."
        )
    return tuple(taken)


def _check(model: AdaptedModel, folder: Path, labels: tuple[str, ...]) -> None:
    stored = read_adapter_config(folder)
    form = getattr(model.head_config, "form", None)
    stored_form = None if form is None else stored["head"].get("form", "mlp")
    pairs = (
        ("method", stored.get("method"), model.adapter_config.method),
        ("labels", stored["head"].get("labels") or None, list(labels) or None),
        ("head.form", stored_form, form),
    )
    for what, there, here in pairs:
        if there is not None and there != here:
            raise ConfigError(
                f"training.warm_start: the adapter in '{folder}' has {what} {there}, this training "
                f"has {here}. Remove the setting, or name an adapter of the same {what}."
            )


def _overlap(
    wanted: torch.Size | tuple[int, ...], stored: torch.Size | tuple[int, ...]
) -> tuple[slice, ...]:
    """What both have, where they differ in one dimension at most; empty where they do not fit."""
    if len(wanted) != len(stored) or sum(a != b for a, b in zip(wanted, stored, strict=True)) > 1:
        return ()
    return tuple(slice(0, min(a, b)) for a, b in zip(wanted, stored, strict=True))
