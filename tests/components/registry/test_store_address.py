"""User and password of a tracking store reach the store, and stand in no address."""

import base64
import os
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.errors import ClusterError, ConfigError
from components.registry import open_tracker
from components.registry.store_address import check_passed_on, split_credentials

USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"


@pytest.mark.parametrize(
    ("given", "address", "user", "password"),
    [
        ("http://ann:s3cr3t@host:5000", "http://host:5000", "ann", "s3cr3t"),
        ("https://ann:p%40ss%2F@host/mlflow", "https://host/mlflow", "ann", "p@ss/"),
        ("HTTP://ann:a@b@[::1]:5000", "http://[::1]:5000", "ann", "a@b"),
    ],
)
def test_user_and_password_of_a_server_are_taken_apart(
    given: str, address: str, user: str, password: str
) -> None:
    assert split_credentials(given) == (address, {USER: user, PASSWORD: password})


@pytest.mark.parametrize(
    "given",
    [
        "",
        "http://host:5000",
        "sqlite:///folder/mlflow.db",
        "postgresql://ann:s3cr3t@host/db",
        "./mlruns",
    ],
)
def test_every_other_address_stays(given: str) -> None:
    assert split_credentials(given) == (given, {})


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ("http://s3cr3t@host:5000", "MLFLOW_TRACKING_TOKEN"),
        ("http://:s3cr3t@host:5000", USER),
        ("http://ann:@host:5000", PASSWORD),
        ("http://host:5000?token=s3cr3t", "MLFLOW_TRACKING_TOKEN"),
        ("http://ann:s3cr3t/x@host:5000", USER),
        ("http://ann:s3cr3t@host:port", USER),
    ],
)
def test_an_address_that_cannot_be_taken_apart_is_refused_without_showing_it(
    given: str, fix: str
) -> None:
    with pytest.raises(ConfigError, match=fix) as caught:
        open_tracker("mlflow", given)
    assert "s3cr3t" not in str(caught.value)


@pytest.fixture
def server_with_users(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An HTTP server that answers ann with her password, and 401 everybody else."""
    monkeypatch.setenv(USER, "before")
    monkeypatch.setenv(PASSWORD, "before")
    right = "Basic " + base64.b64encode(b"ann:p@ss").decode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200 if self.headers.get("Authorization") == right else 401)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


def test_they_reach_the_server_and_the_tracker_holds_the_address_alone(
    server_with_users: str,
) -> None:
    tracker = open_tracker("mlflow", f"http://ann:p%40ss@{server_with_users}/")
    tracker.check()
    assert tracker.tracking_uri == f"http://{server_with_users}"
    assert b"p@ss" not in pickle.dumps(tracker)
    assert (os.environ[USER], os.environ[PASSWORD]) == ("ann", "p@ss")


def test_a_refused_password_is_not_shown(server_with_users: str) -> None:
    with pytest.raises(ClusterError, match="refused the credentials") as caught:
        open_tracker("mlflow", f"http://ann:wr0ng-one@{server_with_users}").check()
    assert "wr0ng" not in str(caught.value)
    assert "ann" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql"])
def test_a_database_that_is_away_is_told_without_its_password(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.registry import mlflow_check

    monkeypatch.setattr(mlflow_check, "find_spec", lambda name: name)
    with pytest.raises(
        ClusterError, match=r"\*\*\*@127.0.0.1:9/db\?password=\*\*\* cannot be"
    ) as caught:
        open_tracker("mlflow", f"{scheme}://ann:s3cr3t@127.0.0.1:9/db?password=s3cr3t").check()
    assert "s3cr3t" not in str(caught.value)
    monkeypatch.setattr(mlflow_check, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match="needs the Python driver"):
        open_tracker("mlflow", f"{scheme}://ann:s3cr3t@127.0.0.1:9/db").check()


def test_only_an_address_without_a_password_is_passed_on() -> None:
    check_passed_on("postgresql://host/db")
    for address in ("postgresql://ann:s3cr3t@host/db", "mysql://host/db?password=s3cr3t"):
        with pytest.raises(ConfigError, match="dashboard") as caught:
            check_passed_on(address)
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"\x00" * 100, "not a database"), (b"SQLite format 3\0" + b"\1" * 4000, "")],
)
def test_a_damaged_database_file_is_told_with_the_fix(
    content: bytes, reason: str, tmp_path: "os.PathLike[str]"
) -> None:
    file = os.path.join(tmp_path, "mlflow.db")
    with open(file, "wb") as stream:
        stream.write(content)
    with pytest.raises(ClusterError, match=rf"no whole database \(.*{reason}.*move it away"):
        open_tracker("mlflow", f"sqlite:///{file}").check()


def test_an_empty_or_missing_database_file_is_a_new_one(tmp_path: "os.PathLike[str]") -> None:
    file = os.path.join(tmp_path, "mlflow.db")
    open_tracker("mlflow", f"sqlite:///{file}").check()
    open(file, "wb").close()
    open_tracker("mlflow", f"sqlite:///{file}").check()
