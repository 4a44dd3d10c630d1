"""From plain values to a validated model and back.

Values travel as JSON into pydantic's strict mode, so that a list is a tuple and a number is never
text.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from components.errors import ConfigError
from components.settings.chosen import UNKNOWN
from components.settings.paths import config_paths, did_you_mean

MOST_VALUES, DEEPEST, MOST_TOLD = 200_000, 50, 8

Model = TypeVar("Model", bound=BaseModel)
FOLLOWS = ("default_factory_not_called",)
"""Errors that only follow from another one."""
MOST_SHOWN = 200


def validate(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Validate plain values in strict JSON mode; raises ConfigError that names each path, what was
    given, and the fix.
    """
    check_plain(values)
    try:
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        found = [each for each in error.errors(include_url=False) if each["type"] not in FOLLOWS]
        told = [_explain(model, item) for item in found]
        more = f" (and {len(told) - MOST_TOLD} more)" if len(told) > MOST_TOLD else ""
        raise ConfigError("; ".join(told[:MOST_TOLD]) + more) from error


def check_plain(values: Mapping[str, Any]) -> None:
    """Raise ConfigError, with its path, for what no JSON holds: dates and sets of YAML, keys that
    are no text, half characters, aliases that hold themselves.
    """
    waiting: list[tuple[str, Any, int]] = [("", values, 0)]
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        path, value, depth = waiting.pop()
        if depth > DEEPEST:
            raise ConfigError(f"{path}: nested deeper than {DEEPEST} levels. Take it out.")
        for key, below in _below(path, value):
            waiting.append((f"{path}.{key}" if path else str(key), below, depth + 1))
    raise ConfigError(f"The configuration holds more than {MOST_VALUES:,} values.")


def _below(path: str, value: Any) -> "Iterable[tuple[Any, Any]]":
    """What a value holds, by key or place."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int | float | None) or not _whole(str(key)):
                raise ConfigError(f"{path or 'The file'}: the key {key!r} is no text. Quote it.")
        return value.items()
    if isinstance(value, list | tuple):
        return enumerate(value)
    if isinstance(value, str) and not _whole(value):
        raise ConfigError(f"{path}: {value!r} holds half a character. Write it anew.")
    if not isinstance(value, str | int | float | None):
        raise ConfigError(
            f"{path}: {str(value)[:100]!r} is a {type(value).__name__}, expected text, a number, a "
            "list or a mapping. Quote it."
        )
    return ()


def _whole(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


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
