"""Debian's Prometheus for a test, on loopback."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.local_cluster.lifecycle import free_port


@contextmanager
def prometheus(folder: Path, config: Path) -> Iterator[str]:
    """The address of one that works by this configuration and keeps its data and its log
    (prometheus.log) in the folder. Skips where there is no such program.
    """
    program, port = shutil.which("prometheus"), free_port()
    if program is None:
        pytest.skip("no prometheus here: apt-get install prometheus")
    command = [program, f"--config.file={config}"]
    command += [f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
