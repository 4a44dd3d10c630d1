"""No proxy stands before this machine's own servers, whatever the environment says."""

import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from components.loopback import direct_loopback, is_loopback, is_proxied, opener

NAMES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "no_proxy", "no_grpc_proxy")
DEAD = "http://127.0.0.1:9"


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("name", [*NAMES[:3], *(name.upper() for name in NAMES[:3])])
def test_every_variable_that_names_a_proxy_is_met(
    name: str, clean: pytest.MonkeyPatch, server: str
) -> None:
    clean.setenv(name, DEAD)
    clean.setenv("no_proxy", "localhost,.example.org")
    with opener(server).open(server, timeout=5) as answer:
        assert answer.status == 200
    for changed, value in direct_loopback({name: DEAD, "no_proxy": "localhost"}).items():
        clean.setenv(changed, value)
    assert requests.get(server, timeout=5).status_code == 200
    with urllib.request.urlopen(server, timeout=5) as answer:
        assert answer.status == 200
    assert requests.utils.get_environ_proxies("http://example.org") or name.lower() == "https_proxy"


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        ({}, {}),
        ({"no_proxy": "a"}, {}),
        (
            {"http_proxy": DEAD},
            {"no_proxy": "127.0.0.1,localhost,::1", "NO_PROXY": "127.0.0.1,localhost,::1"},
        ),
        (
            {"HTTPS_PROXY": DEAD, "NO_PROXY": ".corp, localhost"},
            {
                "no_proxy": ".corp,localhost,127.0.0.1,::1",
                "NO_PROXY": ".corp,localhost,127.0.0.1,::1",
            },
        ),
        (
            {"ALL_PROXY": DEAD, "no_proxy": "a", "NO_PROXY": "b"},
            {"no_proxy": "a,127.0.0.1,localhost,::1", "NO_PROXY": "b,127.0.0.1,localhost,::1"},
        ),
        ({"http_proxy": DEAD, "no_proxy": "*", "NO_PROXY": "*"}, {}),
        (
            {"grpc_proxy": DEAD, "no_proxy": "*", "NO_PROXY": "*", "no_grpc_proxy": "a"},
            {"no_grpc_proxy": "a,127.0.0.1,localhost,::1"},
        ),
    ],
)
def test_other_hosts_of_the_exceptions_stay(given: dict[str, str], changes: dict[str, str]) -> None:
    assert direct_loopback(given) == changes
    assert direct_loopback(given | changes) == {}


def test_own_addresses_are_told_from_others(clean: pytest.MonkeyPatch) -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]")))
    assert not any(map(is_loopback, ("10.0.0.1", "example.org", "", "127.0.0.1.example.org")))
    clean.setenv("http_proxy", DEAD)
    assert is_proxied("http://mlflow.corp") and not is_proxied("http://127.0.0.1:5000")
    clean.setenv("no_proxy", ".corp")
    assert not is_proxied("http://mlflow.corp")
