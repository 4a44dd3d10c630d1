"""From a YAML file and dotted overrides to a validated experiment.

YAML 1.1 reads `1e-3` as text; the loader here reads it as a number.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from components.config.experiment import ExperimentConfig
from components.config.side_by_side import check_side_by_side
from components.config.space import check_space
from components.errors import ConfigError
from components.secrets import holds_secret
from components.settings import check_path, section, set_path, validate


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a float and refuses repeated keys."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


MERGE = "tag:yaml.org,2002:merge"  # `<<: *base`


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    construct: Any = loader.construct_object
    keys = [construct(key) for key, _ in node.value if key.tag != MERGE]
    repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
    if repeated:
        raise ConfigError(
            f"Repeated key '{repeated[0]}' at line {node.start_mark.line + 1}. Keep one of them."
        )
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)


UNREADABLE = (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError)
"""What PyYAML raises over a text: dates and numbers that are none, and keys that are lists, come
out of it as they are.
"""


def _read(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)


def _told(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return " ".join(str(error).split())[:300]


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment file and apply `a.b=value` overrides.

    Raises ConfigError: the file is missing or is no YAML mapping, a path is unknown, a value is
    refused, the search space holds an invalid point.
    """
    values = read_yaml(Path(path))
    if "methods" in values:
        raise ConfigError(
            f"{path} is a comparison of methods. Run it with: prefixprop compare {path}"
        )
    for override in overrides:
        apply_override(values, override)
    check_no_secrets(values)
    config = validate(ExperimentConfig, values)
    check_space(config)
    check_side_by_side(config)
    return config


def check_no_secrets(values: Any, path: str = "", seen: set[int] | None = None) -> None:
    """Raise ConfigError naming a setting that holds a password or a token: settings are kept with
    every run and adapter, and `--set` values are read on the dashboard. `seen`: what YAML's aliases
    name again is looked at once.
    """
    seen = set() if seen is None else seen
    if isinstance(values, dict | list):
        if id(values) in seen:
            return
        seen.add(id(values))
    if isinstance(values, dict):
        for name, value in values.items():
            check_no_secrets(value, f"{path}.{name}" if path else str(name), seen)
    elif isinstance(values, list):
        for value in values:
            check_no_secrets(value, path, seen)
    elif isinstance(values, str) and holds_secret(values):
        raise ConfigError(
            f"{path}: '{values}' holds a password or a token, and settings are kept with every "
            "run and shown. Take it out; secrets belong into the environment."
        )


def check_overrides(config: ExperimentConfig, overrides: Sequence[str]) -> None:
    """Raise ConfigError for an override of a setting whose values the experiment's search tries: no
    trial would ever have it. A training without a search takes it.
    """
    for override in overrides:
        path, _, text = override.partition("=")
        for searched in config.search.space:
            if _sets(path.strip(), text, searched):
                where = f"search.space.{searched}"
                raise ConfigError(
                    f"{where}: its values are searched, so that --set {override} would change "
                    f"nothing about {searched}. Give the values there, --set "
                    f"'{where}={{choice: [...]}}', or train without a search: prefixprop train."
                )


def _sets(path: str, text: str, searched: str) -> bool:
    """Whether an override of `path` sets what is searched: the setting, one below it, or a section
    whose value names it.
    """
    if path == searched or path.startswith(searched + "."):
        return True
    if not searched.startswith(path + "."):
        return False
    value = _read(text)
    for name in searched.removeprefix(path + ".").split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises ConfigError where it is none."""
    if not path.is_file():
        raise ConfigError(f"Experiment file '{path}' does not exist. Give the path of a YAML file.")
    try:
        values = _read(path.read_text(encoding="utf-8"))
    except (*UNREADABLE, OSError) as error:
        raise ConfigError(f"{path} is not readable as YAML: {_told(error)}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds {type(values).__name__}, expected a mapping of sections such as "
            "'backbone:' and 'data:'."
        )
    return values


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
        value = _read(text)
    except UNREADABLE as error:
        raise ConfigError(
            f"{path}: '{text}' is not readable as a YAML value: {_told(error)}"
        ) from error
    if path.startswith("search.space."):  # a key of its own, dots included
        section(section(values, "search"), "space")[path.removeprefix("search.space.")] = value
        return
    if check is None:
        check_path(path, ExperimentConfig)
    else:
        check(path)
    set_path(values, path, value)
