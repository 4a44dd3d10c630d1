"""Tracking of runs and the registry of adapters: MLflow, or a store in memory.

`REGISTRIES` is the table of kinds; components/README.md says how to add one. mlflow is imported
when the first call needs it, never by importing this package.
"""

from importlib import import_module

from components.registry.entry import MLFLOW_USER, entry_link
from components.registry.environment import code_fingerprint, code_version, environment, run_tags
from components.registry.mlflow_check import check_sqlite
from components.registry.pages import Chart, Dataset, Measured, View
from components.registry.store_address import check_passed_on, split_credentials
from components.registry.tolerant_tracker import TolerantTracker
from components.registry.tracking import (
    CHALLENGER,
    CHAMPION,
    OUTCOMES,
    Outcome,
    RegisteredAdapter,
    RegisteredVersion,
    RunLog,
    Tracker,
    check_model_name,
    parse_model_uri,
)

REGISTRIES = {
    "mlflow": "components.registry.mlflow_tracker:MlflowTracker",
    "memory": "components.registry.memory_tracker:MemoryTracker",
}


def open_tracker(kind: str, tracking_uri: str) -> Tracker:
    """The tracker listed under `kind` in REGISTRIES. Opening connects to nothing: call `check()`
    for that.
    """
    module, attribute = REGISTRIES[kind].split(":")
    tracker: Tracker = getattr(import_module(module), attribute)(tracking_uri)
    return tracker


__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "MLFLOW_USER",
    "OUTCOMES",
    "REGISTRIES",
    "Chart",
    "Dataset",
    "Measured",
    "Outcome",
    "RegisteredAdapter",
    "RegisteredVersion",
    "RunLog",
    "TolerantTracker",
    "Tracker",
    "View",
    "check_model_name",
    "check_passed_on",
    "check_sqlite",
    "code_fingerprint",
    "code_version",
    "entry_link",
    "environment",
    "open_tracker",
    "parse_model_uri",
    "run_tags",
    "split_credentials",
]
