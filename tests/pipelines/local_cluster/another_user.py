"""What another user of the machine tries on somebody's cluster; prints what came of each attempt.

Started by root and becomes `nobody` after its imports: an interpreter of this project may lie where
that user cannot start it. Argument: JSON {state, jobs_address, tracking_uri, ray_address, ports,
pids, socket}.
"""

import http.client
import json
import os
import pwd
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

PATHS = ("/", "/api/jobs/", "/api/v0/jobs", "/nodes?view=summary", "/metrics", "/logs", "/events")
MLFLOW = "/api/2.0/mlflow/experiments/search?max_results=9"


def ask(address: str, path: str, *, body: Any = None) -> str:
    parts = urlsplit(address)
    assert parts.hostname is not None
    client = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    try:
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        client.request("GET" if body is None else "POST", path, content, headers)
        answer = client.getresponse()
        return f"{answer.status} {answer.read().decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        client.close()


def attempt(what: Callable[[], Any]) -> str:
    try:
        return f"done: {what()!r}"
    except OSError as error:
        return type(error).__name__


def call_without_token(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            return f"done: {call(b'', timeout=5)!r}"
        except grpc.RpcError as error:
            return str(error.code().name)


def main() -> None:
    given = json.loads(sys.argv[1])
    nobody = pwd.getpwnam("nobody")
    ask(given["jobs_address"], "/")  # both import more when they are first called
    call_without_token(given["ray_address"])
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)
    state = Path(given["state"])
    found = {
        "submit": ask(given["jobs_address"], "/api/jobs/", body={"entrypoint": "id"}),
        "jobs": ask(given["jobs_address"], "/api/jobs/"),
        "runs": ask(given["tracking_uri"], MLFLOW),
        "call": call_without_token(given["ray_address"]),
        "list": attempt(lambda: os.listdir(state)),
        "socket": attempt(lambda: socket.socket(socket.AF_UNIX).connect(given["socket"])),
    }
    for name in ("cluster.json", "ray_token", "environment", "mlflow/mlflow.db", "logs/ray.log"):
        found[name] = attempt((state / name).read_bytes)
    for pid in given["pids"]:
        found[f"environ of {pid}"] = attempt(Path(f"/proc/{pid}/environ").read_bytes)
    for port in given["ports"]:
        for path in PATHS:
            found[f"{port}{path}"] = ask(f"http://127.0.0.1:{port}", path)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
