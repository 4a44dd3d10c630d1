"""From plain values to a validated model and back.

Values travel as JSON into pydantic's strict mode, so that a list is a tuple and a number is never
text.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from components.errors import ConfigError
from components.settings.chosen import UNKNOWN
from components.settings.paths import config_paths, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
FOLLOWS = ("default_factory_not_called",)
"""Errors that only follow from another one."""
MOST_SHOWN = 200


def validate(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Validate plain values in strict JSON mode; raises ConfigError that names each path, what was
    given, and the fix.
    """
    try:
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        found = [each for each in error.errors(include_url=False) if each["type"] not in FOLLOWS]
        raise ConfigError("; ".join(_explain(model, item) for item in found)) from error
    except TypeError as error:
        raise ConfigError(
            f"The configuration holds a value that is no text, number, list or mapping: {error}. "
            "Quote it."
        ) from error


def _explain(model: type[BaseModel], item: Any) -> str:
    tags = [part[1:-1] for part in item["loc"] if _is_tag(part)]
    path = ".".join(str(part) for part in item["loc"] if not _is_tag(part))
    given = item["input"]
    if item["type"] == UNKNOWN:
        return str(item["msg"])
    if item["type"] == "extra_forbidden":
        if tags and path in config_paths(model):
            return f"{path} is no setting of '{tags[0]}'. Remove it or choose another method."
        return f"Unknown config path '{path}'.{did_you_mean(path, config_paths(model))}"
    if item["type"] == "missing":
        return (
            f"{path} is required and missing. Add it to the experiment file or give --set "
            f"{path}=..."
        )
    message = item["msg"].removeprefix("Value error, ")
    if not path and re.split(r"[ .:]", message)[0] in model.model_fields:
        return str(message)  # a rule across sections names its path itself
    shown = json.dumps(given, default=str)
    shown = shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}..."
    return f"{path or model.__name__}: {message}" + (
        "" if isinstance(given, dict) else f" (given {shown})"
    )


def _is_tag(part: Any) -> bool:
    """Locations inside a union carry the chosen member's tag, which is no part of the path."""
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def resolved(config: BaseModel) -> dict[str, Any]:
    """Every setting, defaults included, as JSON-able values: what is stored with each run."""
    values: dict[str, Any] = json.loads(config.model_dump_json())
    return values
