"""What a registry needs to package an adapter as a model that answers anywhere, as plain values: a
registry knows neither adapters nor tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.adapters.methods import METHODS
from components.backbones import packages
from components.backbones.quantization import distributions
from components.inference.serving import ServingConfig
from components.settings import resolved
from components.tasks import stored_task
from components.tasks.task import Signature, Usage

# What a fresh environment needs to answer; training's dependencies are not among them.
REQUIRED = (
    "mlflow",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pandas",
    "pydantic",
    "pyyaml",
    "filelock",
)
CODE_PACKAGES = (
    "settings",
    "evaluation",
    "data",
    "backbones",
    "tasks",
    "adapters",
    "inference",
)
"""Packages below components/ that pyfunc_model.py needs where it runs."""


@dataclass(frozen=True)
class AdapterPackage:
    """How an adapter folder becomes a model that answers."""

    code_file: Path
    """The file that is run where the model is loaded."""
    code_root: Path
    """The folder `components`, of which its own files and `code_packages` are copied."""
    code_packages: tuple[str, ...]
    requirements: tuple[str, ...]
    """Names of distributions."""
    signature: Signature
    usage: Usage
    model_config: Mapping[str, Any]
    """What it may be told when it is loaded, with the defaults."""


def adapter_package(folder: Path) -> AdapterPackage:
    """The package of an adapter folder. Raises ArtifactError where it cannot be read."""
    from components.adapters import read_adapter_config

    config = read_adapter_config(folder)
    task = stored_task(config)
    here = Path(__file__)
    return AdapterPackage(
        code_file=here.with_name("pyfunc_model.py"),
        code_root=here.parents[1],
        code_packages=CODE_PACKAGES,
        requirements=(*REQUIRED, *_further(config)),
        signature=task.signature,
        usage=task.usage,
        model_config=resolved(ServingConfig()),
    )


def _further(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What carries the backbone, what reads its quantised weights, and what the method needs."""
    backbone = config.get("backbone") or {}
    load = backbone.get("load") or {}
    carrying = packages(load.get("source"), load.get("name_or_path"))
    reading = distributions(backbone.get("quantization"))
    method = METHODS.get(config.get("method", "prefix_propagation"))
    return (*carrying, *reading, *(method.packages if method is not None else ()))
