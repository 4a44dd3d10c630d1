"""A Ray head that ends while it starts is started once more, and not for ever: stand-ins of the two
servers, real processes that only sleep or end.
"""

import sys
from pathlib import Path

import pytest

from components.errors import ClusterError
from pipelines.local_cluster import lifecycle
from pipelines.local_cluster.state_file import LocalCluster

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("endings", "comes_up"), [(0, True), (1, True), (2, False)])
def test_a_ray_head_that_ends_while_it_starts_is_started_once_more(
    endings: int, comes_up: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def command(name: str, cluster: LocalCluster, state_folder: Path) -> list[str]:
        started.append(name)
        ends = name == "ray" and started.count("ray") <= endings
        code = "raise SystemExit(1)" if ends else "import time; time.sleep(120)"
        return [sys.executable, "-c", code]

    def ray_answers(cluster: LocalCluster) -> bool:
        return started.count("ray") > endings

    monkeypatch.setattr(lifecycle, "server_command", command)
    monkeypatch.setattr(lifecycle, "_ray_answers", ray_answers)
    monkeypatch.setattr(lifecycle, "_mlflow_answers", lambda cluster: True)
    said: list[str] = []
    try:
        if comes_up:
            cluster = lifecycle.up(tmp_path, environ={}, say=said.append)
            assert set(cluster.pids) == {"ray", "mlflow"}
        else:
            with pytest.raises(ClusterError, match="ray server ended"):
                lifecycle.up(tmp_path, environ={}, say=said.append)
        assert started.count("ray") == min(endings, 1) + 1 and started.count("mlflow") == 1
        again = [line for line in said if "once more" in line]
        assert len(again) == min(endings, 1)
    finally:
        lifecycle.down(tmp_path)
