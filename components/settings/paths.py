"""Dotted paths of settings: which there are below a model, and setting one in nested mappings."""

from collections.abc import Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from components.errors import ConfigError
from components.settings.chosen import Chosen


def set_path(values: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path in nested mappings, making sections as needed."""
    *sections, last = path.split(".")
    for name in sections:
        values = section(values, name)
    values[last] = value


def section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The mapping below a key, made where there is none (an empty `search:` reads as null)."""
    if not isinstance(values.get(name), dict):
        values[name] = {}
    found: dict[str, Any] = values[name]
    return found


def check_path(path: str, model: type[BaseModel], *, below: str = "") -> None:
    """Raise ConfigError with the nearest known path unless `path` names a setting or a section of
    the model, which stands `below` (`base.`) in its file.
    """
    known = config_paths(model)
    if path not in known:
        raise ConfigError(
            "Unknown config path "
            f"'{below}{path}'.{did_you_mean(below + path, [below + each for each in known])}"
        )


def config_paths(model: type[BaseModel]) -> tuple[str, ...]:
    """Every dotted path of settings and sections below a model."""
    paths: list[str] = []
    for name, field in model.model_fields.items():
        paths.append(name)
        for model_below in _models_in(field.annotation, field.metadata):
            paths += [f"{name}.{path}" for path in config_paths(model_below)]
    return tuple(dict.fromkeys(paths))


def _models_in(annotation: Any, metadata: Sequence[Any] = ()) -> list[type[BaseModel]]:
    for each in metadata:
        if isinstance(each, Chosen):
            return list(each.classes().values())
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return _models_in(inner, metadata)
    return []


def did_you_mean(path: str, known: Sequence[str]) -> str:
    """A sentence with the nearest known one, or nothing."""
    close = get_close_matches(path, known, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
