"""Addresses that are wrong are told in seconds, in one line that says how to fix it. Small real
servers stand in for the ones that refuse.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest

from components.errors import ClusterError
from pipelines.local_cluster.addresses import (
    Addresses,
    check_jobs,
    check_ray,
    connection_environment,
    find_addresses,
)
from pipelines.local_cluster.lifecycle import free_port

TOKEN = "right"
WITH_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
LOCAL = {
    "ray_address": "127.0.0.1:1",
    "jobs_address": "http://127.0.0.1:2",
    "tracking_uri": "http://127.0.0.1:3",
    "environment": {"A": "1", "RAY_AUTH_MODE": "token"},
}


@pytest.fixture
def job_server() -> Iterator[str]:
    """An HTTP server that wants the token, as Ray's dashboard does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            self.send_response(200 if given == f"Bearer {TOKEN}" else 401 if given is None else 403)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def control_service() -> Iterator[str]:
    """A gRPC server with the one method that is asked, wanting the token."""
    with serving_alive(lambda found: found == f"Bearer {TOKEN}") as address:
        yield address


@contextmanager
def serving_alive(accepts: Callable[[str | None], bool]) -> Iterator[str]:
    def alive(_: bytes, context: grpc.ServicerContext) -> bytes:
        if not accepts(
            dict(tuple(pair) for pair in context.invocation_metadata()).get("authorization")
        ):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        return b""

    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.method_handlers_generic_handler(
        "ray.rpc.NodeInfoGcsService", {"CheckAlive": grpc.unary_unary_rpc_method_handler(alive)}
    )
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_the_right_token_is_accepted(job_server: str, control_service: str) -> None:
    assert check_jobs(job_server, WITH_TOKEN) == job_server
    assert check_ray(control_service, WITH_TOKEN) == control_service


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong"},
        {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": TOKEN},
    ],
)
def test_a_wrong_or_missing_token_is_told_with_the_settings_to_mend(
    job_server: str, control_service: str, environ: dict[str, str], tmp_path: Path
) -> None:
    environ = environ | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    with pytest.raises(
        ClusterError, match=r"refuses the token\. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    ):
        check_jobs(job_server, environ)
    with pytest.raises(
        ClusterError, match=r"refuses the token\. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    ):
        check_ray(control_service, environ)


def test_a_token_that_nobody_asks_for_is_told() -> None:
    """Ray itself connects then, and its first actor is cancelled without a reason."""
    with serving_alive(lambda _: True) as address:
        assert check_ray(address, {}) == address
        with pytest.raises(ClusterError, match=r"runs without tokens.*Unset RAY_AUTH_MODE"):
            check_ray(address, WITH_TOKEN)


def test_an_address_where_nothing_listens_is_told_within_seconds() -> None:
    port, started = free_port(), time.monotonic()
    with pytest.raises(
        ClusterError,
        match=rf"127\.0\.0\.1:{port} cannot be reached \(Connection refused\).*prefixprop up",
    ):
        check_ray(f"127.0.0.1:{port}", {})
    with pytest.raises(ClusterError, match=r"cannot be reached"):
        check_jobs(f"http://127.0.0.1:{port}", {})
    assert time.monotonic() - started < 5.0


@pytest.mark.slow
def test_a_port_that_never_answers_is_told_within_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(ClusterError, match=r"is no Ray cluster that answers"):
            check_ray(f"127.0.0.1:{silent.getsockname()[1]}", {})
        assert time.monotonic() - started < 10.0


def test_another_server_on_the_port_is_no_ray_cluster(job_server: str) -> None:
    with pytest.raises(ClusterError, match=r"is no Ray cluster that answers"):
        check_ray(job_server.removeprefix("http://"), {})


@pytest.mark.parametrize(
    "address", ["nonsense", "http://127.0.0.1:8265", "127.0.0.1:port", "127.0.0.1"]
)
def test_a_malformed_address_is_told_with_the_form(address: str) -> None:
    with pytest.raises(ClusterError, match=r"is not of the form host:port or ray://host:port"):
        check_ray(address, {})


def test_unknown_addresses_say_how_to_get_one() -> None:
    with pytest.raises(ClusterError, match=r"prefixprop up"):
        check_ray(None, {})
    with pytest.raises(ClusterError, match=r"prefixprop up"):
        check_jobs(None, {})


@pytest.fixture
def state_folder(tmp_path: Path) -> Path:
    (tmp_path / "cluster.json").write_text(json.dumps(LOCAL))
    return tmp_path


def test_the_environment_comes_before_the_local_cluster(state_folder: Path) -> None:
    assert find_addresses({}, state_folder=state_folder) == Addresses(
        "127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"
    )
    own = {"RAY_ADDRESS": "head:6379", "MLFLOW_TRACKING_URI": "http://mlflow"}
    assert find_addresses(own, state_folder=state_folder) == Addresses(
        "head:6379", None, "http://mlflow"
    )


def test_an_http_ray_address_is_the_job_server(state_folder: Path) -> None:
    assert (
        find_addresses({"RAY_ADDRESS": "http://head:8265"}, state_folder=state_folder).jobs_address
        == "http://head:8265"
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "http://127.0.0.1:2"])
def test_either_address_of_the_local_cluster_names_it(state_folder: Path, address: str) -> None:
    assert find_addresses({"RAY_ADDRESS": address}, state_folder=state_folder) == find_addresses(
        {}, state_folder=state_folder
    )


def test_the_local_cluster_says_how_to_connect_and_the_users_own_settings_stay(
    state_folder: Path,
) -> None:
    local, other = find_addresses({}, state_folder=state_folder), Addresses("head:6379", None, None)
    assert connection_environment(local, {}, state_folder=state_folder) == {
        "A": "1",
        "RAY_AUTH_MODE": "token",
    }
    assert connection_environment(
        local, {"RAY_AUTH_MODE": "disabled"}, state_folder=state_folder
    ) == {"A": "1"}
    assert connection_environment(other, {}, state_folder=state_folder) == {
        "RAY_AUTH_MODE": "disabled"
    }


def test_the_local_mlflow_server_gets_its_own_credentials_whatever_is_set_for_another(
    state_folder: Path,
) -> None:
    (state_folder / "mlflow_token").write_text("secret\n")
    own = {"MLFLOW_TRACKING_USERNAME": "prefixprop", "MLFLOW_TRACKING_PASSWORD": "secret"}
    team = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "hers"}
    for environ in ({}, team, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:3"} | team):
        found = find_addresses(environ, state_folder=state_folder)
        added = connection_environment(found, environ, state_folder=state_folder)
        assert environ | added == environ | added | own
    for environ in (
        {"MLFLOW_TRACKING_URI": "http://mlflow"} | team,
        {"MLFLOW_TRACKING_URI": "http://ann:hers@mlflow"} | own,
        {"MLFLOW_TRACKING_URI": "http://ann:hers@mlflow"},
    ):
        found = find_addresses(environ, state_folder=state_folder)
        added = connection_environment(found, environ, state_folder=state_folder)
        assert environ | added == environ | added | team


def test_the_local_credentials_are_not_sent_to_another_machine(state_folder: Path) -> None:
    """As in a job of the local cluster that logs to a server without passwords."""
    own = {"MLFLOW_TRACKING_USERNAME": "prefixprop", "MLFLOW_TRACKING_PASSWORD": "secret"}
    environ = {"MLFLOW_TRACKING_URI": "http://mlflow"} | own
    found = find_addresses(environ, state_folder=state_folder)
    added = connection_environment(found, environ, state_folder=state_folder)
    assert not any((environ | added)[name] for name in own)
    environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    found = find_addresses(environ, state_folder=state_folder)
    assert connection_environment(found, environ, state_folder=state_folder).keys().isdisjoint(own)
