"""From a YAML file and dotted overrides to a validated configuration.

Values travel as JSON into pydantic's strict mode, so that a list is a tuple and a number is never
text. YAML 1.1 reads `1e-3` as text; the loader here reads it as a number.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from components.config.schema import ADAPTER_CONFIGS, DOMAIN_KINDS, ExperimentConfig
from components.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a float and refuses repeated keys."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


MERGE = "tag:yaml.org,2002:merge"  # `<<: *base`


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value if key.tag != MERGE]  # type: ignore[no-untyped-call]
    repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
    if repeated:
        raise ConfigError(
            f"Repeated key '{repeated[0]}' at line {node.start_mark.line + 1}. Keep one of them."
        )
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)


def load_experiment(path_or_name: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment file, or a checked-in experiment by its name, and apply `a.b=value`
    overrides.

    Raises ConfigError: the file is missing or is no YAML mapping, a path is unknown, a value is
    refused, the search space holds an invalid point.
    """
    from components.config.space import check_space

    path = find_file(path_or_name)
    values = read_yaml(path)
    if "methods" in values:
        raise ConfigError(
            f"{path} is a comparison of methods. Run it with: prefixprop compare {path_or_name}"
        )
    for override in overrides:
        apply_override(values, override)
    config = validate(ExperimentConfig, values)
    check_space(config)
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises ConfigError where it is none."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not readable as YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds {type(values).__name__}, expected a mapping of sections such as "
            "'backbone:' and 'data:'."
        )
    return values


def experiments_folder() -> Path:
    """Folder of the checked-in experiments."""
    return Path(__file__).resolve().parents[2] / "pipelines" / "experiments"


def find_file(path_or_name: str) -> Path:
    """The YAML file of a path, or of a checked-in name. Raises ConfigError where there is none."""
    path = Path(path_or_name)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise ConfigError(
            f"Experiment file '{path}' does not exist. Give the path of a YAML file or one of: "
            f"{', '.join(_names())}."
        )
    named = experiments_folder() / f"{path_or_name}.yaml"
    if named.is_file():
        return named
    raise ConfigError(
        f"Unknown experiment '{path_or_name}'.{_did_you_mean(path_or_name, _names())} Known: "
        f"{', '.join(_names())}."
    )


def _names() -> list[str]:
    return sorted(path.stem for path in experiments_folder().glob("*.yaml"))


def apply_override(
    values: dict[str, Any], override: str, check: Callable[[str], None] | None = None
) -> None:
    """Set `a.b.c=value` (value read as YAML) in nested mappings; raises ConfigError for a malformed
    or unknown path.

    `check` raises it for an unknown path; left out, the paths are those of an experiment.
    """
    path, equals, text = override.partition("=")
    path = path.strip()
    if not equals or not path:
        raise ConfigError(
            f"Override '{override}' is not of the form path=value, for example "
            "adapter.prefix_length=16."
        )
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path}: '{text}' is not readable as a YAML value: {' '.join(str(error).split())}"
        ) from error
    if path.startswith("search.space."):  # a key of its own, dots included
        _section(_section(values, "search"), "space")[path.removeprefix("search.space.")] = value
        return
    (check or check_path)(path)
    set_path(values, path, value)


def set_path(values: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path in nested mappings, making sections as needed."""
    *sections, last = path.split(".")
    for section in sections:
        values = _section(values, section)
    values[last] = value


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The mapping below a key, made where there is none (an empty `search:` reads as null)."""
    if not isinstance(values.get(name), dict):
        values[name] = {}
    section: dict[str, Any] = values[name]
    return section


def check_path(path: str, model: type[BaseModel] = ExperimentConfig, *, below: str = "") -> None:
    """Raise ConfigError with the nearest known path unless `path` names a setting or a section of
    the model, which stands `below` (`base.`) in its file.
    """
    known = config_paths(model)
    if path not in known:
        raise ConfigError(
            "Unknown config path "
            f"'{below}{path}'.{_did_you_mean(below + path, [below + each for each in known])}"
        )


@cache
def config_paths(model: type[BaseModel]) -> tuple[str, ...]:
    """Every dotted path of settings and sections below a model."""
    paths: list[str] = []
    for name, field in model.model_fields.items():
        paths.append(name)
        for section in _models_in(field.annotation):
            paths += [f"{name}.{path}" for path in config_paths(section)]
    return tuple(dict.fromkeys(paths))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    if get_origin(annotation) is Annotated:
        return _models_in(get_args(annotation)[0])
    return []


def validate(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Validate plain values in strict JSON mode; raises ConfigError that names each path, what was
    given, and the fix.
    """
    try:
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_explain(model, item) for item in error.errors(include_url=False))
        ) from error
    except TypeError as error:
        raise ConfigError(
            f"The configuration holds a value that is no text, number, list or mapping: {error}. "
            "Quote it."
        ) from error


def _explain(model: type[BaseModel], item: Any) -> str:
    # Locations inside a union carry the chosen member's tag, which is no part of the dotted path.
    tags = [part for part in item["loc"] if part in DOMAIN_KINDS or part in ADAPTER_CONFIGS]
    path = ".".join(str(part) for part in item["loc"] if part not in tags)
    given = item["input"]
    if item["type"] == "adapter_method":
        return (
            "adapter.method "
            f"{json.dumps(given.get('method') if isinstance(given, dict) else given, default=str)} "
            f"is unknown. Known: {', '.join(ADAPTER_CONFIGS)}."
        )
    if item["type"] == "extra_forbidden":
        if tags and path in config_paths(model):
            return f"{path} is no setting of '{tags[0]}'. Remove it or choose another method."
        return f"Unknown config path '{path}'.{_did_you_mean(path, config_paths(model))}"
    if item["type"] == "missing":
        return (
            f"{path} is required and missing. Add it to the experiment file or give --set "
            f"{path}=..."
        )
    message = item["msg"].removeprefix("Value error, ")
    if not path and re.split(r"[ .:]", message)[0] in model.model_fields:
        return str(message)  # a rule across sections names its path itself
    shown = json.dumps(given, default=str)
    return f"{path or model.__name__}: {message}" + (
        "" if isinstance(given, dict) else f" (given {shown})"
    )


def _did_you_mean(path: str, known: Sequence[str]) -> str:
    close = get_close_matches(path, known, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def resolved(config: BaseModel) -> dict[str, Any]:
    """Every setting, defaults included, as JSON-able values: what is stored with each run."""
    values: dict[str, Any] = json.loads(config.model_dump_json())
    return values


def config_sha256(config: BaseModel) -> str:
    """Hash of the resolved settings; equal for equal settings whatever the order in the file."""
    return hashlib.sha256(json.dumps(resolved(config), sort_keys=True).encode()).hexdigest()
