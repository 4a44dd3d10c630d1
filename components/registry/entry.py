"""How a browser is let into the MLflow server of one person: a link that works for a day, and the
cookie that it leaves.

Both hold an hour of expiry signed by the server's token, never the token itself: a link stays in a
terminal and in a browser's history. The fact a newcomer gets wrong: cookies know no ports. Another
program's page on 127.0.0.1 is the same site, and is sent the cookie where its own browser goes
there.
"""

import hmac
import time
from hashlib import sha256

MLFLOW_USER = "prefixprop"
"""The user name that clients give with the token as password."""
PATH = "/enter/"
HOME = "/experiments?workflowType=machine_learning"
LINK_SECONDS = 24 * 3600
COOKIE_SECONDS = 30 * 24 * 3600


def entry_link(address: str, token: str, page: str = HOME) -> str:
    """A link that lets a browser into the server at `address`, for LINK_SECONDS, and goes on to a
    page of it.
    """
    return f"{address.rstrip('/')}{PATH}{signed('link', token, LINK_SECONDS)}#{page}"


def cookie_name(token: str) -> str:
    """Its own for every server: a second one on this machine would overwrite the first's."""
    return f"prefixprop_{sha256(token.encode()).hexdigest()[:12]}"


def signed(purpose: str, token: str, seconds: int) -> str:
    """A code that `is_valid` takes for so many seconds, for the same purpose and token alone."""
    expiry = int(time.time()) + seconds
    return f"{expiry}.{_signature(purpose, token, expiry)}"


def is_valid(purpose: str, token: str, code: str) -> bool:
    """Whether a code was signed by this token and has not expired."""
    expiry, _, signature = code.partition(".")
    if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 12):
        return False
    right = _signature(purpose, token, int(expiry))
    return hmac.compare_digest(right.encode(), signature.encode()) and int(expiry) > time.time()


def _signature(purpose: str, token: str, expiry: int) -> str:
    return hmac.new(token.encode(), f"{purpose} {expiry}".encode(), sha256).hexdigest()
