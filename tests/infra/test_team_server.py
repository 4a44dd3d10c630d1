"""MLflow for a team, as compose.yaml starts it: who asks, and which version."""

from configparser import ConfigParser
from typing import Any

import yaml

from tests.infra.references import INFRA


def content() -> dict[str, Any]:
    return dict(yaml.safe_load((INFRA / "mlflow" / "compose.yaml").read_text(encoding="utf-8")))


def test_the_image_has_the_versions_that_were_tested_together() -> None:
    text = (INFRA / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert "-c /tmp/constraints.txt 'mlflow[auth]'" in text
    assert content()["services"]["mlflow"]["build"]["target"] == "mlflow"


def test_the_team_server_asks_who_they_are() -> None:
    compose = content()
    service = compose["services"]["mlflow"]
    assert "--app-name basic-auth" in " ".join(service["command"])
    assert "--allowed-hosts" in " ".join(service["command"])
    for name in ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
        assert service["environment"][name].startswith(f"${{{name}:?")
    (file,) = service["configs"]
    assert file["target"] == service["environment"]["MLFLOW_AUTH_CONFIG_PATH"]
    settings = ConfigParser(interpolation=None)
    settings.read_string(compose["configs"][file["source"]]["content"])
    assert {"default_permission", "database_uri", "admin_username"} <= set(settings["mlflow"])
