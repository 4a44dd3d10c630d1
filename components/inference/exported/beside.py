"""What every exported folder holds beside the adapter itself: head, tokenizer, what the loader is
told, and the loader.

The fact a newcomer gets wrong: the folder is loaded by stock libraries, so that the backbone must
be a checkpoint as those read it, not one that this project changes while it is read.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.adapters.reading import TOKENIZER_FOLDER
from components.errors import ConfigError

if TYPE_CHECKING:
    from components.backbones import BackboneConfig
    from components.inference.classifier import Classifier

HEAD = "head.safetensors"
BACKBONE = "backbone"
"""Folder of a backbone that is nowhere else to be had."""


def write_beside(
    classifier: "Classifier", folder: Path, *, loader: Path, more: Mapping[str, Any] | None = None
) -> None:
    """Write head (of a classifier), tokenizer, the loader, by the last word of its name, and what
    it is told into a folder that is there. `more`: of what it is told. Raises ConfigError for what
    no loader of a few lines can answer with.
    """
    from safetensors.torch import save_file

    if reason := _fault(classifier):
        raise ConfigError(f"{reason}. Nothing was written.")
    backbone = classifier.backbone
    lengthened = backbone.lengthen_to is not None
    told = {
        "backbone": None if lengthened else backbone.name_or_path,
        "revision": backbone.revision,
        "labels": classifier.labels,
        "pooling": getattr(classifier.model.head_config, "pooling", None),
        "max_tokens": classifier.max_tokens,
        "temperature": classifier.temperature,
        **(more or {}),
    }
    name = loader.stem.rpartition("_")[2]
    write_json(folder / f"{name}.json", told)
    if not classifier.task.generates:
        save_file(_head(classifier), folder / HEAD, metadata={"format": "pt"})
    classifier.tokenizer.save_pretrained(folder / TOKENIZER_FOLDER)
    shutil.copyfile(loader, folder / f"{name}.py")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Indented, for people too."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _head(classifier: "Classifier") -> dict[str, Any]:
    """The head's tensors, float32, by their names in it."""
    return {
        name.removeprefix("head."): tensor
        for name, tensor in classifier.model.artifact_tensors().items()
        if name.startswith("head.")
    }


DENSE, LINEAR = {"dense.weight", "dense.bias"}, {"out_proj.weight", "out_proj.bias"}
KNOWN_HEADS = (DENSE | LINEAR, LINEAR)
"""Tensors of the heads that the loaders know: out_proj, with or without tanh(dense) before it."""


def _fault(classifier: "Classifier") -> str | None:
    task = classifier.task
    if task.generates:
        return _backbone_fault(classifier.backbone)
    if task.name != "classification":
        return f"data.task {task.name} is not exported; classification and language_modelling are"
    if (found := set(_head(classifier))) not in KNOWN_HEADS:
        return f"the head has tensors that no exported loader knows ({', '.join(sorted(found))})"
    return _backbone_fault(classifier.backbone)


def _backbone_fault(backbone: "BackboneConfig") -> str | None:
    """Why stock libraries would load another model from where the backbone comes from."""
    from components.backbones import checkpoint_folder, quantization_of, read_backbone_config
    from components.backbones.sources import stored_config
    from components.backbones.text_model import text_values

    if backbone.config_overrides:
        changed = ", ".join(backbone.config_overrides)
        return f"backbone.config_overrides changes {changed}, which stock libraries would not know"
    if (quantization := quantization_of(read_backbone_config(backbone))) is not None:
        return (
            f"the backbone's weights are quantised ({quantization.kind}), and an export is checked "
            "in float32"
        )
    values = stored_config(checkpoint_folder(backbone))
    if text_values(values) != values:
        return (
            f"the backbone is the text model inside a {values['model_type']} checkpoint; give a "
            "checkpoint of the text model alone: --backbone FOLDER"
        )
    return None
