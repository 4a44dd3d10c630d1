"""A checkpoint folder as a stock transformers base model, whole or not at all."""

from pathlib import Path
from typing import Any

from components.backbones.quiet import quiet_loading
from components.backbones.told import told
from components.errors import BackboneError


def stock_model(folder: Path, *, name: str, **options: Any) -> Any:
    """The base model in a folder of save_pretrained; `name` is what errors call it, `options` are
    those of `from_pretrained`.

    Raises BackboneError where it cannot be loaded, and where tensors are missing: transformers
    would fill them with random numbers.
    """

    def refuse(reason: str) -> BackboneError:
        return BackboneError(
            f"cannot load the weights of '{name}'{reason} Get the checkpoint again, or mend its "
            "config.json."
        )

    with told(refuse, ""), quiet_loading():
        from transformers import AutoModel

        backbone, report = AutoModel.from_pretrained(
            folder,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, by name
            **options,
        )
    for tensor, stored, asked in sorted(report["mismatched_keys"]):
        raise BackboneError(
            f"the weights of '{name}' do not fit its config.json: {tensor} has shape "
            f"{list(stored)}, and {list(asked)} is asked for. Write the sizes with which the model "
            "was trained."
        )
    if missing := report["missing_keys"]:
        raise BackboneError(
            f"the weights of '{name}' lack {len(missing)} tensors of a "
            f"{backbone.config.model_type} model, for example {min(missing)}: they would be "
            "random. Get the checkpoint again."
        )
    return backbone
