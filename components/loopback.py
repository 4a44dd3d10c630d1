"""This machine's own addresses are reached directly, whatever proxy the environment names.

Offices and HPC sites set `http_proxy` without 127.0.0.1 in `no_proxy`; a proxy then answers for
servers that listen here, or nobody does. requests, urllib, httpx, MLflow and Ray's jobs client all
read these variables, in a job's workers too, so the variables are what is mended.
"""

import ipaddress
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
# Read in this order: where one is there, the next is not looked at.
EXCEPTIONS = ("no_proxy", "NO_PROXY")
GRPC_EXCEPTIONS = "no_grpc_proxy"


def direct_loopback(environ: Mapping[str, str]) -> dict[str, str]:
    """What to set in an environment so that no proxy stands before this machine's own addresses;
    nothing where no proxy is set. The other hosts of its exceptions stay.
    """
    if not any(environ.get(name) or environ.get(name.upper()) for name in PROXIES):
        return {}
    either = next((environ[name] for name in EXCEPTIONS if environ.get(name)), "")
    changes = {name: _with_loopback(environ.get(name) or either) for name in EXCEPTIONS}
    if environ.get(GRPC_EXCEPTIONS):
        changes[GRPC_EXCEPTIONS] = _with_loopback(environ[GRPC_EXCEPTIONS])
    return {name: value for name, value in changes.items() if environ.get(name) != value}


def _with_loopback(exceptions: str) -> str:
    hosts = [host.strip() for host in exceptions.split(",") if host.strip()]
    if "*" in hosts:
        return exceptions
    return ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def opener(url: str) -> urllib.request.OpenerDirector:
    """What opens a URL: through the environment's proxy, but this machine's own addresses
    directly.
    """
    own = is_loopback(urlsplit(url).hostname or "")
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if own else []))


def is_proxied(url: str) -> bool:
    """Whether a proxy stands before a URL, so that its host need not be reachable from here."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies: Mapping[str, Any] = urllib.request.getproxies()
    return (
        not is_loopback(host)
        and bool(proxies.get(parts.scheme) or proxies.get("all"))
        and not urllib.request.proxy_bypass(host)
    )
