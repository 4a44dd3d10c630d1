"""A store that cannot be used is named within seconds, with the way out."""

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.errors import ClusterError, ConfigError
from components.registry import open_tracker


@contextmanager
def server(status, body):
    """An HTTP server on a free port that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *arguments):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


def check(tracking_uri):
    open_tracker("mlflow", tracking_uri).check()


def test_server_that_is_not_there_is_named_quickly():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(
        ClusterError, match=rf"http://127\.0\.0\.1:{port} cannot be reached .*prefixprop up"
    ):
        check(f"http://127.0.0.1:{port}")
    assert time.monotonic() - started < 5


def test_server_that_answers_passes():
    with server(200, b'{"experiments": []}') as address:
        check(address)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b"You are not authenticated.", "refused the credentials"),
        (403, b"Invalid Host header - possible DNS rebinding attack detected", "allowed-hosts"),
        (404, b"<html>not found</html>", "no working MLflow server"),
        (200, b"<html>a web page</html>", "no working MLflow server"),
        (500, b"oops", "no working MLflow server"),
    ],
)
def test_server_that_refuses_or_is_no_mlflow_is_told_apart(status, body, message):
    with server(status, body) as address, pytest.raises(ClusterError, match=message) as caught:
        check(address)
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_connection_without_an_answer_times_out():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(ClusterError, match="gave no answer"):
            check(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < 8


def test_database_in_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ClusterError, match="does not exist"):
        check(f"sqlite:///{tmp_path}/absent/mlflow.db")


@pytest.mark.parametrize("tracking_uri", ["./mlruns", "file:///somewhere", "localhost:5000"])
def test_address_of_no_store_is_named(tracking_uri):
    with pytest.raises(ClusterError, match="no server and no database"):
        check(tracking_uri)


def test_empty_address_says_how_to_get_one():
    with pytest.raises(ConfigError, match="prefixprop up"):
        open_tracker("mlflow", "")
