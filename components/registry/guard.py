"""The door of an MLflow server that belongs to one person: nobody is answered without its token,
and what runs commands on the machine has no route at all.

MLflow itself asks nobody who they are, and 127.0.0.1 is reached by every user of the machine and by
every page that a browser opens. Clients send the token as password (MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD) or as MLFLOW_TRACKING_TOKEN; a browser comes by a link (entry.py) and has
a cookie from then on. The fact a newcomer gets wrong: a path can be spelt in many ways, so what is
closed is not compared with the path that was asked for, but taken out of the application.
"""

import base64
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from components.registry.entry import COOKIE_SECONDS, PATH, cookie_name, is_valid, signed

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

KEPT_MODULES = frozenset(
    f"mlflow.server.{name}" for name in ("artifact_router", "otel_api", "server_info_api")
)
"""Native routes that a tracking server needs. The others are the Assistant, whose tools include a
shell on the host, jobs that run in the server, and the gateway that calls language models.
"""
HEALTH = "/health"
"""Answered to everybody, as MLflow does: it says OK and nothing else."""
HOW = "`prefixprop status` prints the link and the line that let you in."
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>MLflow of prefixprop</title>
<body style="font-family: sans-serif; max-width: 40em; margin: 4em auto; line-height: 1.5">
<h1>{title}</h1><p>{text}</p><script>{script}</script></body></html>"""
# A link that another page opened comes without the cookie, one that this page opens with it; the
# part behind # stays.
_AGAIN = (
    f"fetch('{PATH}').then(answer => answer.ok && Date.now() - (sessionStorage.again || 0) > 9e3 "
    "&& (sessionStorage.again = Date.now(), location.reload()))"
)
BROWSER_DEFAULTS = {
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.telemetry.info.alert.dismissed_v1": "true",
    "mlflow.settings.telemetry.enabled_v1": "false",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "_mlflow_model_registry_promo_modal_dismissed_v1": "true",
}
"""What MLflow's pages keep in the browser, where they kept nothing yet: otherwise they open in the
view of language models, where a training is not to be seen, behind a banner about telemetry, the
panel of the Assistant and an advertisement of the model registry.
"""
_HOME = (
    f"for (const [key, value] of Object.entries({json.dumps(BROWSER_DEFAULTS)})) "
    "if (localStorage.getItem(key) === null) localStorage.setItem(key, value);"
    "location.replace('/' + location.hash)"
)


def guarded_app(token: str) -> App:
    """MLflow's own server behind the door. Raises RuntimeError where this MLflow has its routes
    arranged otherwise, so that nobody can tell what is open.
    """
    from mlflow.server.fastapi_app import app
    from starlette.routing import Mount

    kept = [each for each in app.router.routes if isinstance(each, Mount) or _is_kept(each)]
    if {name for each in kept for name in _modules(each)} != KEPT_MODULES:
        raise RuntimeError("This version of MLflow arranges the routes of its server otherwise")
    app.router.routes[:] = kept
    return Guard(app, token)


def _is_kept(route: Any) -> bool:
    modules = _modules(route)
    return bool(modules) and modules <= KEPT_MODULES


def _modules(route: Any) -> frozenset[str]:
    """Where the functions behind a route, or behind all routes of an included router, stand."""
    if (router := getattr(route, "original_router", None)) is not None:
        return frozenset(name for each in router.routes for name in _modules(each))
    endpoint = getattr(route, "endpoint", None)
    return frozenset() if endpoint is None else frozenset({str(endpoint.__module__)})


class Guard:
    """An ASGI application before another one, which only sees requests of those who have the
    token.
    """

    def __init__(self, app: App, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._admits(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["path"].startswith(PATH):
            await self._enter(scope, send)
        else:
            await _refuse(scope, send)

    def _admits(self, scope: Scope) -> bool:
        headers = {name.lower(): value for name, value in scope.get("headers", ())}
        path = scope["path"]
        if path.startswith(PATH):
            return False
        if path == HEALTH and scope["type"] == "http":
            return True
        if given := headers.get(b"authorization"):
            return _is_token(given, self._token)
        return self._has_cookie(headers) and _is_own_page(scope, headers)

    def _has_cookie(self, headers: dict[bytes, bytes]) -> bool:
        given = headers.get(b"cookie", b"").decode("latin-1").split(";")
        found = dict(part.strip().partition("=")[::2] for part in given)
        return is_valid("cookie", self._token, found.get(cookie_name(self._token), ""))

    async def _enter(self, scope: Scope, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope.get("headers", ())}
        code = scope["path"].removeprefix(PATH)
        if not code and self._has_cookie(headers):
            return await _answer(send, 200, "")
        if not is_valid("link", self._token, code):
            return await _refuse(scope, send)
        cookie = (
            f"{cookie_name(self._token)}={signed('cookie', self._token, COOKIE_SECONDS)}; "
            f"Max-Age={COOKIE_SECONDS}; Path=/; HttpOnly; SameSite=Strict"
        )
        # No redirect: what follows one is still the visit of whoever opened the link, and a strict
        # cookie does not go with it.
        page = _PAGE.format(title="You are in", text='<a href="/">MLflow</a>', script=_HOME)
        await _answer(send, 200, page, {"set-cookie": cookie})


def _is_token(authorization: bytes, token: str) -> bool:
    scheme, _, value = authorization.decode("latin-1").partition(" ")
    given = value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given, token.encode())


def _is_own_page(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether a request that carries the cookie comes from a page of this server, or opens one. A
    page of another port is the same site to the browser, which sends the cookie along.
    """
    origin, host = headers.get(b"origin"), headers.get(b"host", b"")
    if origin is not None and origin not in (b"http://" + host, b"https://" + host):
        return False
    if headers.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin"):
        return True
    opens = headers.get(b"sec-fetch-mode") == b"navigate"
    return opens and headers.get(b"sec-fetch-dest") == b"document" and scope["method"] == "GET"


async def _refuse(scope: Scope, send: Send) -> None:
    """401 in the form that the caller reads: a page, or the JSON of MLflow's errors. The scheme
    keeps a browser from asking for a password.
    """
    accepted = dict(scope.get("headers", ())).get(b"accept", b"")
    more = {"www-authenticate": 'Bearer realm="prefixprop"'}
    if b"text/html" in accepted:
        text = "This MLflow server answers its owner only. " + HOW.replace("`", "")
        page = _PAGE.format(title="Not in yet", text=text, script=_AGAIN)
        return await _answer(send, 401, page, more)
    error = {
        "error_code": "UNAUTHENTICATED",
        "message": f"This MLflow server wants its token. {HOW}",
    }
    await _answer(send, 401, json.dumps(error), more | {"content-type": "application/json"})


async def _answer(
    send: Send, status: int, body: str, headers: dict[str, str] | None = None
) -> None:
    content = body.encode()
    given = {
        "content-type": "text/html; charset=utf-8",
        "content-length": str(len(content)),
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    } | (headers or {})
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})
