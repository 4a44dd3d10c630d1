"""Which tags people see, and which only this package reads.

MLflow's pages show every tag of a run, a version or a model in one cell, but leave out those that
begin with `mlflow.`. What no person filters or compares by is therefore kept under such a name; it
is given to callers under its own, whatever it is stored as.
"""

from collections.abc import Mapping

PREFIX = "mlflow.prefixprop."
HIDDEN_OF_RUNS = frozenset(
    {
        "best_run_id",
        "code_fingerprint",
        "code_fingerprint_at_begin",
        "config_sha256",
        "data_fingerprint",
        "trial",
    }
)
SHOWN_OF_VERSIONS = frozenset(
    {
        "test_accuracy",
        "prefix_length",
        "learning_rate",
        "data",
        "search_id",
        "gate",
    }
)
"""At most six: the versions' table gives them one cell."""


def of_run(tags: Mapping[str, str]) -> dict[str, str]:
    """A run's tags as they are stored."""
    return {_hidden(name) if name in HIDDEN_OF_RUNS else name: tags[name] for name in tags}


def of_version(tags: Mapping[str, str]) -> dict[str, str]:
    """A version's tags as they are stored."""
    return {name if name in SHOWN_OF_VERSIONS else _hidden(name): tags[name] for name in tags}


def told(tags: Mapping[str, str]) -> dict[str, str]:
    """Stored tags under the names that were given."""
    return {name.removeprefix(PREFIX): value for name, value in tags.items()}


def _hidden(name: str) -> str:
    return name if name.startswith("mlflow.") else PREFIX + name
