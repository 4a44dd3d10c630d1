"""Hashes of settings: what tells one configuration from another.

A setting that is added later must not change the hash of the experiments that were run without it
(tests/components/config/test_hashes.py): `LATER` names it, and at its default it is left out.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from components.data.settings import default_task
from components.evaluation.gate.settings import GateConfig
from components.settings import resolved


def _null(section: Mapping[str, Any]) -> None:
    """The default of a setting that may be left out."""


def _of_no_effect(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """For a setting that decides no number and may differ when a search is continued: whatever it
    is, it is left out.
    """
    return lambda section: section[name]


LATER: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "backbone.config_overrides": lambda _: {},
    "backbone.quantization": _null,
    "data.task": default_task,
    "data.letters": _null,
    "data.template": _null,
    "data.label_words": _null,
    "data.chat": lambda _: False,
    "data.max_new_tokens": lambda _: 128,
    "data.columns.prompt": lambda _: "prompt",
    "data.columns.completion": lambda _: "completion",
    "data.columns.messages": lambda _: "messages",
    "study.length.real.task": default_task,
    "study.length.real.letters": _null,
    "head.form": lambda _: "mlp",
    "adapter.init": lambda _: "normal",
    "adapter.init_text": _null,
    "methods.*.adapter.init": lambda _: "normal",
    "methods.*.adapter.init_text": _null,
    "study.length.real.template": _null,
    "study.length.real.label_words": _null,
    "study.length.real.chat": lambda _: False,
    "study.length.real.max_new_tokens": lambda _: 128,
    "study.length.real.columns.prompt": lambda _: "prompt",
    "study.length.real.columns.completion": lambda _: "completion",
    "study.length.real.columns.messages": lambda _: "messages",
    "optimizer.head_learning_rate": _null,
    "cluster.min_workers": _of_no_effect("min_workers"),
    "cluster.progress_timeout_seconds": _of_no_effect("progress_timeout_seconds"),
    "cluster.placement": _of_no_effect("placement"),
    "cluster.accelerator_type": _of_no_effect("accelerator_type"),
    "cluster.node_labels": _of_no_effect("node_labels"),
    "cluster.cache": _of_no_effect("cache"),
    "search.trials_per_slot": _of_no_effect("trials_per_slot"),
    "search.allow_lost_trials": _of_no_effect("allow_lost_trials"),
    "training.warm_start": _null,
    "training.text_states": lambda _: "anew",
    "training.offload_activations": lambda _: False,
    "training.feed_forward_tile_rows": _null,
    "zero.max_live_parameters": _of_no_effect("max_live_parameters"),
    "zero.prefetch_bucket_size": _of_no_effect("prefetch_bucket_size"),
    "study.warm_start": _null,
    "gate": lambda _: resolved(GateConfig()),
}
"""Dotted path of a setting that came after the first release, `*` for every name of a section ->
its default, given its section.
"""


def hashed_settings(config: BaseModel) -> dict[str, Any]:
    """The resolved settings without those of LATER that stand at their default."""
    values = resolved(config)
    for path, default in LATER.items():
        *sections, name = path.split(".")
        for section in _sections(values, sections):
            if name in section and section[name] == default(section):
                del section[name]
    return values


def _sections(values: dict[str, Any], path: Iterable[str]) -> list[dict[str, Any]]:
    found = [values]
    for each in path:
        found = [
            section[name]
            for section in found
            for name in (section if each == "*" else (each,))
            if isinstance(section.get(name), dict)
        ]
    return found


def config_sha256(config: BaseModel) -> str:
    """Hash of the resolved settings; equal for equal settings whatever the order in the file."""
    return hashlib.sha256(json.dumps(hashed_settings(config), sort_keys=True).encode()).hexdigest()
