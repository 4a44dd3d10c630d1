"""The text model inside a model of several modalities: its part of config.json, its module, and its
tensors among those of the checkpoint.

The fact a newcomer gets wrong: transformers loads the whole model, the images' part too; it is
dropped as soon as the text model is taken out.
"""

from collections.abc import Mapping
from typing import Any

from components.errors import BackboneError

TEXT = "text_config"
LANGUAGE_MODEL = "language_model."
"""In the names of the text model's tensors and of no others."""


def text_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of the text model: `text_config` where there is one, else what was given."""
    inner = values.get(TEXT)
    if not isinstance(inner, Mapping) or "model_type" not in inner:
        return dict(values)
    return dict(inner)


def is_text_tensor(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a tensor of the checkpoint with this config.json belongs to the text model."""
    return TEXT not in values or LANGUAGE_MODEL in name


def text_model(model: Any) -> Any:
    """The stock text model inside a loaded one, or the model itself. Raises BackboneError where it
    has none with layers of its own.
    """
    config = model.config.get_text_config()
    if config.model_type == model.config.model_type:
        return model
    for _, module in model.named_modules():
        inner = getattr(module, "config", None)
        if (
            getattr(inner, "model_type", None) == config.model_type
            and hasattr(module, "layers")
            and hasattr(module, "get_input_embeddings")
        ):
            for told in ("_name_or_path", "_commit_hash"):
                setattr(inner, told, getattr(model.config, told, None))
            return module
    raise BackboneError(
        f"a {model.config.model_type} model holds no text model of type {config.model_type}. Give "
        "the checkpoint of the text model alone."
    )
