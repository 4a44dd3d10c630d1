"""A registry is backed up by infra's scripts and restored onto a fresh server: the champion answers
the same. Real PostgreSQL, an S3 store (moto's), rclone.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from components.registry import open_tracker
from pipelines.local_cluster.servers import free_port
from tests.components.inference.test_models_serve import register
from tests.infra.references import INFRA
from tests.registry_fixtures import make_tiny_adapter, sample_texts
from tests.s3 import CREDENTIALS, make_bucket

pytestmark = pytest.mark.slow
SCRIPTS = INFRA / "mlflow" / "kubernetes"
START_SECONDS = 300.0


@contextmanager
def server(folder: Path, database: str, bucket: str, endpoint: str) -> Iterator[str]:
    """The address of an MLflow server on a database and a bucket."""
    port = free_port()
    options = {
        "host": "127.0.0.1",
        "port": port,
        "workers": 1,
        "backend-store-uri": database,
        "artifacts-destination": f"s3://{bucket}",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--serve-artifacts"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    settings = {
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / f"{bucket}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | CREDENTIALS | settings,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    uri, until = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while not _is_up(uri):
            assert process.poll() is None and time.monotonic() < until, f"{bucket} did not come up"
            time.sleep(0.5)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def _is_up(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5):
            return True
    except OSError:
        return False


def variables(database: str, bucket: str, endpoint: str) -> dict[str, str]:
    """What the scripts read."""
    parts = urlsplit(database)
    return CREDENTIALS | {
        "PATH": os.environ["PATH"],
        "PGHOST": parse_qs(parts.query)["host"][0],
        "PGUSER": str(parts.username),
        "PGDATABASE": parts.path.lstrip("/"),
        "BUCKET": bucket,
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "Other",
        "RCLONE_CONFIG_STORE_ENV_AUTH": "true",
        "RCLONE_CONFIG_STORE_ENDPOINT": endpoint,
    }


def script(name: str, folder: Path, environment: dict[str, str]) -> Any:
    return subprocess.run(
        ["sh", SCRIPTS / name, folder],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def answers(uri: str, folder: Path) -> list[dict[str, Any]]:
    """What the champion answers, by the command line in a process of its own."""
    (folder / "in.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in sample_texts(8))
    )
    words = ["predict", "-m", "models:/toy@champion", "-i", "in.jsonl", "-o", "out.jsonl"]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *words],
        cwd=folder,
        env=os.environ
        | {
            "MLFLOW_TRACKING_URI": uri,
            "PYTHONPATH": str(INFRA.parent),
            "RAY_AUTH_MODE": "disabled",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_a_restored_registry_has_the_champion_and_its_answers(
    tmp_path: Path, new_postgres_database: Any, s3_endpoint: str
) -> None:
    if shutil.which("rclone") is None:
        pytest.skip("no rclone here: apt-get install rclone")
    adapter, _ = make_tiny_adapter(tmp_path, "longformer")
    first, second = new_postgres_database(), new_postgres_database()
    for bucket in ("first-bucket", "second-bucket"):
        make_bucket(s3_endpoint, bucket)
    with server(tmp_path, first, "first-bucket", s3_endpoint) as uri:
        register(open_tracker("mlflow", uri), adapter, experiment="toy", name="toy")
        before = answers(uri, tmp_path)
        kept = tmp_path / "backup"
        done = script("backup.sh", kept, variables(first, "first-bucket", s3_endpoint))
        assert done.returncode == 0, done.stderr
    back = variables(second, "second-bucket", s3_endpoint)
    half = tmp_path / "half"
    shutil.copytree(kept, half)
    (half / "mlflow.dump").rename(half / "mlflow.dump.part")
    refused = script("restore.sh", half, back)
    assert refused.returncode == 2 and "no complete backup" in refused.stderr
    done = script("restore.sh", kept, back)
    assert done.returncode == 0, done.stderr
    with server(tmp_path, second, "second-bucket", s3_endpoint) as uri:
        assert answers(uri, tmp_path) == before
    again = script("restore.sh", kept, back)
    assert again.returncode != 0 and "already exists" in again.stderr
