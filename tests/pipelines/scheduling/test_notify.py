"""A real listener and a real command."""

import hashlib
import hmac
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from components.errors import ConfigError
from components.secrets import without_secrets
from pipelines.scheduling.notify import SIGNATURE, NotifyConfig, notify
from pipelines.scheduling.schedules import load_schedules

KEY = "a key"


@pytest.fixture
def listener() -> Iterator[tuple[str, list[tuple[bytes, str | None]]]]:
    """Address of a web server, and what was posted there: body and signature."""
    posted: list[tuple[bytes, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((body, self.headers.get(SIGNATURE)))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_gets_a_signed_body(listener: tuple[str, list[tuple[bytes, str | None]]]) -> None:
    address, posted = listener
    config = NotifyConfig(webhook=address, secret_variable="HOOK_KEY")
    notify(config, schedule="weekly", job="weekly-1-1", status="failed", environ={"HOOK_KEY": KEY})
    ((body, signature),) = posted
    assert json.loads(body).items() >= {"schedule": "weekly", "status": "failed"}.items()
    assert signature == "sha256=" + hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()


def test_a_command_is_told_in_its_environment(tmp_path: Path) -> None:
    code = f"import os; open({str(tmp_path / 'told')!r}, 'w').write(os.environ['STATUS'])"
    config = NotifyConfig(command=(sys.executable, "-c", code), statuses=("refused",))
    notify(config, schedule="weekly", job="j", status="failed")
    assert not (tmp_path / "told").exists(), "only what is asked for"
    notify(config, schedule="weekly", job="j", status="refused")
    assert (tmp_path / "told").read_text() == "refused"


def test_an_address_that_only_its_owner_may_know_comes_from_the_environment_and_is_never_said(
    listener: tuple[str, list[tuple[bytes, str | None]]], tmp_path: Path
) -> None:
    address, posted = listener
    config = NotifyConfig(webhook_variable="HOOK")
    notify(config, schedule="w", job="j", status="failed", environ={"HOOK": f"{address}/T0/k3y"})
    assert len(posted) == 1
    said: list[str] = []
    for wrong in ("https://127.0.0.1:9/T0/k3y", "http://host/T0/k3y with spaces", "http://h:k3y/"):
        notify(
            config,
            schedule="w",
            job="j",
            status="failed",
            environ={"HOOK": wrong},
            say=said.append,
        )
    assert len(said) == 3 and "k3y" not in " ".join(said)
    assert without_secrets(f"posting to {address}/T0/k3y now") == "posting to *** now"
    one = {"name": "w", "command": ["retrain", "w.yaml"], "cron": "0 3 * * *"}
    for notification in (
        {"webhook": "https://hooks.example/x?token=k3y-of-ann"},
        {"webhook": "https://ann:k3y-of-ann@hooks.example/x"},
        {"webhook": "https://hooks.example/x", "webhook_variable": "HOOK"},
    ):
        file = tmp_path / "s.yaml"
        file.write_text(yaml.safe_dump({"schedules": [one | {"notify": notification}]}))
        with pytest.raises(ConfigError, match="webhook_variable") as refused:
            load_schedules(file)
        assert "k3y" not in str(refused.value)


def test_what_goes_wrong_is_said_and_harms_nothing(
    listener: tuple[str, list[tuple[bytes, str | None]]],
) -> None:
    address, posted = listener
    said: list[str] = []
    for config in (
        NotifyConfig(webhook=f"{address}/broken"),
        NotifyConfig(webhook="http://127.0.0.1:9"),
        NotifyConfig(webhook="file:///etc/passwd"),
        NotifyConfig(webhook=address, secret_variable="NOT_SET"),
        NotifyConfig(command=("/nowhere/program",)),
        NotifyConfig(command=(sys.executable, "-c", "raise SystemExit(3)")),
    ):
        notify(config, schedule="weekly", job="j", status="failed", environ={}, say=said.append)
    assert len(said) == 6 and all(line.startswith("weekly: ") for line in said)
    assert len(posted) == 1, "nothing unsigned is sent where a signature is asked for"
