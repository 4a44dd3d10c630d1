"""The application that `mlflow server --app-name prefixprop` runs: MLflow's own, answering those
who have the token of the state folder.

The fact a newcomer gets wrong: MLflow finds it by the entry point in pyproject.toml, in what is
installed, not in this folder.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.registry.guard import App

APP = "prefixprop"
TOKEN_FILE = "PREFIXPROP_MLFLOW_TOKEN_FILE"
"""Variable with the file of the token. MLflow calls a factory without arguments."""


def create_app() -> "App":
    """Raises ClusterError where there is no token."""
    from components.errors import ClusterError
    from components.registry.guard import guarded_app

    file = os.environ.get(TOKEN_FILE, "")
    token = Path(file).read_text(encoding="ascii").strip() if file else ""
    if not token:
        raise ClusterError(
            f"The server wants a token. Set {TOKEN_FILE} to a file that holds one, or start it "
            "with: prefixprop up"
        )
    return guarded_app(token)
