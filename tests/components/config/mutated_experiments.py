"""Experiment files with one to three things wrong, drawn from a seed: values of other kinds,
numbers beyond all bounds, settings left out, misspelt and moved, text cut and garbled.
"""

import copy
import datetime
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from components.config import ExperimentConfig
from components.settings import config_paths

Values = dict[str, Any]
SCHEMA = config_paths(ExperimentConfig)

ODD: tuple[Any, ...] = (
    *(None, True, False, "", "x", "8", "1e-3", "none", "mlp", "a" * 3000, "\u202e", "~", "\x00"),
    *(0, 1, 2, 3, 7, -1, 10**6, 2**31, 2**63, 2**64, 10**30, 10**400),
    *(0.0, 0.5, 1.0, -0.5, 1e-3, 1e-300, 1e30, 1e300, float("inf"), float("nan")),
    *([], [1], [0.9, 0.99], [[1]], {}, {"choice": [1]}, {"a": {"b": 1}}, ["a", "a"]),
    *(datetime.date(2024, 1, 1), b"bytes"),
    *("suffix", "last", "mean", "decoder", "longformer", "lora", "prefix_tuning", "bf16", "grid"),
)
DOMAINS: tuple[Any, ...] = (
    *({"choice": [4, 8]}, {"choice": []}, {"choice": [4, 4]}, {"choice": [float("inf")]}),
    *({"log_uniform": [1e-4, 1e-2]}, {"log_uniform": [0, 1]}, {"uniform": [1, 0]}),
    *({"integer": [1, 4]}, {"integer": [1, 10**12]}, {"grid": [1, 2]}, {"grid": 3}, 5, None, []),
)


def paths_of(values: Any, above: str = "") -> list[str]:
    """Every dotted path in the file; keys with dots (of a search space) are parts of one."""
    found = []
    if isinstance(values, dict):
        for key, value in values.items():
            path = f"{above}.{key}" if above else str(key)
            found += [path, *paths_of(value, path)]
    return found


def _place(values: Values, draw: random.Random) -> tuple[Values, str] | None:
    """A mapping somewhere in the file, and one of its keys."""
    mappings = [values]
    for mapping in mappings:
        mappings += [value for value in mapping.values() if isinstance(value, dict)]
    mapping = draw.choice([mapping for mapping in mappings if mapping] or [{}])
    return (mapping, draw.choice(list(mapping))) if mapping else None


def _changed(values: Values, draw: random.Random) -> None:
    if place := _place(values, draw):
        place[0][place[1]] = copy.deepcopy(draw.choice(ODD))


def _nudged(values: Values, draw: random.Random) -> None:
    """A number some way off, often still a good one."""
    place = _place(values, draw)
    if place and type(number := place[0][place[1]]) in (int, float):
        place[0][place[1]] = type(number)(number * draw.choice([0, 0.5, 1, 2, 3, 100, -1, 10**9]))


def _left_out(values: Values, draw: random.Random) -> None:
    if place := _place(values, draw):
        del place[0][place[1]]


def _misspelt(values: Values, draw: random.Random) -> None:
    if place := _place(values, draw):
        mapping, key = place
        cut = draw.randrange(len(str(key)) + 1)
        mapping[str(key)[:cut] + draw.choice(["", "x", "_", "-"]) + str(key)[cut + 1 :]] = (
            mapping.pop(key)
        )


def _set(values: Values, draw: random.Random) -> None:
    """Any setting of the schema, in the file or not."""
    *sections, last = draw.choice(SCHEMA).split(".")
    for section in sections:
        below = values.get(section)
        values[section] = below if isinstance(below, dict) else {}
        values = values[section]
    values[last] = copy.deepcopy(draw.choice(ODD))


def _searched(values: Values, draw: random.Random) -> None:
    search = values.get("search")
    if not isinstance(search, dict):
        search = values["search"] = {}
    path = draw.choice((*SCHEMA, "adapter.prefix_lengt", "", "."))
    search["space"] = {path: copy.deepcopy(draw.choice(DOMAINS))}


def _exchanged(values: Values, draw: random.Random) -> None:
    one, other = _place(values, draw), _place(values, draw)
    if one and other:
        first, second = one[0][one[1]], other[0][other[1]]
        one[0][one[1]], other[0][other[1]] = copy.deepcopy(second), copy.deepcopy(first)


CHANGES: tuple[Callable[[Values, random.Random], None], ...] = (
    *(_changed, _set, _set, _nudged, _nudged, _nudged),
    *(_left_out, _misspelt, _searched, _exchanged),
)


def _garbled(text: str, draw: random.Random) -> str:
    """The text cut, or with something put in."""
    place = draw.randrange(len(text))
    if draw.random() < 0.3:
        return text[:place]
    odd = (
        "\t",
        ": ",
        "- ",
        "{",
        "[",
        "*a ",
        "&a ",
        "!!python/object:os.system ",
        "\ufeff",
        "'",
        "\n",
    )
    return text[:place] + draw.choice(odd) + text[place + draw.randrange(3) :]


def mutated(whole: Values, draw: random.Random) -> tuple[str, Values]:
    """The text of a file, and the values that were meant with it."""
    values = copy.deepcopy(whole)
    for _ in range(draw.choice([1, 1, 2, 3])):
        draw.choice(CHANGES)(values, draw)
    text = yaml.safe_dump(values, allow_unicode=True, sort_keys=False)
    return (_garbled(text, draw) if draw.random() < 0.15 else text), values


def whole_experiment(folder: Path) -> Values:
    """An experiment whose backbone and documents lie in `folder`, with most sections."""
    from tests.conftest import build_tiny_longformer
    from tests.toy import make_experiment

    values = make_experiment(folder, build_tiny_longformer())
    values["training"] |= {"max_steps": 1, "metric": "validation/nll", "precision": "fp32"}
    values["optimizer"] |= {"betas": [0.9, 0.99], "weight_decay": 0.01, "lr_schedule": "cosine"}
    values["search"] = {
        "space": {"adapter.prefix_length": {"choice": [2, 4]}},
        "num_trials": 2,
        "asha": {"reduction_factor": 2},
    }
    return values
