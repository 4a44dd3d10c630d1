"""The door of the embedded MLflow server: whoever has neither the token nor a cookie of it gets
nothing, however the request is made.
"""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

import pytest

from components.registry import entry
from components.registry.entry import PATH, cookie_name, entry_link, is_valid, signed
from components.registry.guard import Guard

TOKEN = "0f" * 32
HOST = "127.0.0.1:5000"
COOKIE = f"{cookie_name(TOKEN)}={signed('cookie', TOKEN, 3600)}"  # differs by the second


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """What the door stands before: answers 200 to everything."""
    if scope["type"] == "websocket":
        return await send({"type": "websocket.accept"})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(
    path: str = "/api/2.0/mlflow/experiments/search",
    *,
    method: str = "GET",
    kind: str = "http",
    **headers: str,
) -> tuple[int | str, dict[str, str], str]:
    """Status, headers and text of the answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    raw = {"host": HOST} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in raw.items()],
    }
    asyncio.run(Guard(behind, TOKEN)(scope, None, send))
    if kind == "websocket":
        return str(sent[0]["type"]), {}, ""
    got = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], got, sent[1]["body"].decode()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", basic("prefixprop", TOKEN)]
)
def test_a_client_with_the_token_is_let_in(authorization: str) -> None:
    assert ask(authorization=authorization)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}0"},
        {"authorization": "Bearer "},
        {"authorization": TOKEN},
        {"authorization": basic("prefixprop", "")},
        {"authorization": basic(TOKEN, "")},
        {"authorization": "Basic ***"},
        {"authorization": f"Digest {TOKEN}"},
        {"authorization": "Bearer wrong", "cookie": COOKIE},
        {"cookie": f"{cookie_name(TOKEN)}={TOKEN}"},
        {"cookie": f"{cookie_name(TOKEN)}={signed('link', TOKEN, 60)}"},
        {"cookie": f"{cookie_name(TOKEN)}={signed('cookie', TOKEN, -1)}"},
        {"cookie": f"other={signed('cookie', TOKEN, 60)}"},
        {"cookie": f"{cookie_name(TOKEN)}={signed('cookie', 'another', 60)}"},
    ],
)
def test_without_it_nothing_is_answered(headers: Mapping[str, str]) -> None:
    for path in ("/", "/version", "/static-files/a.js", "/health/", "//health", "/HEALTH"):
        status, _, text = ask(path, **headers)
        assert status == 401 and "inside" not in text
    assert ask(kind="websocket", **headers)[0] == "websocket.close"
    assert ask("/health", **headers)[0] == 200


def test_the_refusal_says_how_to_get_in_in_the_form_that_is_read() -> None:
    _, headers, text = ask()
    assert headers["content-type"] == "application/json" and "prefixprop status" in text
    assert headers["www-authenticate"].startswith("Bearer")  # or a browser asks for a password
    _, headers, text = ask("/", accept="text/html,*/*")
    assert "text/html" in headers["content-type"] and "prefixprop status" in text


def test_the_link_leaves_a_cookie_that_lets_in() -> None:
    link = entry_link(f"http://{HOST}", TOKEN, page="/experiments/1")
    address, _, page = link.partition("#")
    assert (address.startswith(f"http://{HOST}{PATH}"), page) == (True, "/experiments/1")
    status, headers, _ = ask(address.removeprefix(f"http://{HOST}"), accept="text/html")
    assert status == 200
    cookie = headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert headers["referrer-policy"] == "no-referrer"
    assert TOKEN not in link + cookie
    assert ask(cookie=f"a=b; {cookie.partition(';')[0]}; c=d")[0] == 200
    assert ask(cookie=cookie.partition(";")[0], kind="websocket")[0] == "websocket.accept"


@pytest.mark.parametrize("code", ["", "1", "x.y", f"9999999999.{'0' * 64}"])
def test_another_code_leaves_none(code: str) -> None:
    status, headers, _ = ask(PATH + code, accept="text/html")
    assert status == 401 and "set-cookie" not in headers


def test_what_a_cookie_holds_is_no_code_of_a_link() -> None:
    test_another_code_leaves_none(signed("cookie", TOKEN, 9))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"origin": f"http://{HOST}"}, 200),
        ({"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"}, 401),
        ({"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"}, 401),
        ({"sec_fetch_site": "cross-site"}, 401),
        ({"origin": "http://127.0.0.1:6000"}, 401),
        ({"origin": "null"}, 401),
        ({"origin": "http://127.0.0.1:6000", "sec_fetch_site": "same-origin"}, 401),
    ],
)
def test_a_page_of_another_port_cannot_use_the_cookie(
    headers: Mapping[str, str], status: int
) -> None:
    """To a browser it is the same site, so the cookie goes along."""
    assert ask(method="POST", cookie=COOKIE, **headers)[0] == status


def test_it_can_open_a_page_and_neither_frame_nor_send_one() -> None:
    opened = {"cookie": COOKIE, "sec_fetch_site": "same-site", "sec_fetch_mode": "navigate"}
    assert ask("/", sec_fetch_dest="document", **opened)[0] == 200
    assert ask("/", sec_fetch_dest="iframe", **opened)[0] == 401
    assert ask("/", sec_fetch_dest="document", method="POST", **opened)[0] == 401


def test_a_code_is_valid_for_its_purpose_its_token_and_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = signed("link", TOKEN, 60)
    assert is_valid("link", TOKEN, code)
    assert not is_valid("cookie", TOKEN, code)
    assert not is_valid("link", TOKEN + "0", code)
    expiry, _, signature = code.partition(".")
    assert not is_valid("link", TOKEN, f"{int(expiry) + 1}.{signature}")
    now = entry.time.time()
    monkeypatch.setattr(entry.time, "time", lambda: now + 61)
    assert not is_valid("link", TOKEN, code)
