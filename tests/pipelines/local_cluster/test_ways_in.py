"""A cluster as `prefixprop up` starts it by default, and everybody who wants in: its owner by hand
and in a browser, another user of the machine, a page that has taken its name.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.local_cluster import access, lifecycle, marked_processes
from pipelines.local_cluster.state_file import LocalCluster

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[3]
BINARIES = Path(sys.executable).parent
ASSISTANT = "/ajax-api/3.0/mlflow/assistant"
JOB = "kept-from-others"


@dataclass(frozen=True)
class Home:
    """A folder with a cluster in it, and the environment of a shell there that knows nothing."""

    folder: Path
    cluster: LocalCluster
    environ: dict[str, str]

    @property
    def state(self) -> Path:
        return self.folder / ".prefixprop"

    def shell(self, command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=self.environ | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    # Not below pytest's own folder, which is closed to others already.
    folder = Path(tempfile.mkdtemp(prefix="pp-home-", dir="/tmp"))
    folder.chmod(0o755)
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MLFLOW_", "PREFIXPROP_"))
    }
    environ["HOME"] = str(folder)
    for name, first in {"PATH": BINARIES, "PYTHONPATH": PROJECT}.items():
        environ[name] = os.pathsep.join(filter(None, (str(first), os.environ.get(name))))
    (folder / ".prefixprop").mkdir(mode=0o755)
    before = Path.cwd()
    os.chdir(folder)
    try:
        cluster = lifecycle.up(folder / ".prefixprop", environ=environ)
        yield Home(folder, cluster, environ)
    finally:
        lifecycle.down(folder / ".prefixprop")
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


def request(url: str, *, data: Any = None, **headers: str) -> tuple[int, str]:
    content = None if data is None else json.dumps(data).encode()
    given = {"Content-Type": "application/json", **headers}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, given), timeout=20) as got:
            return got.status, got.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def bearer(home: Home) -> dict[str, str]:
    return {"Authorization": f"Bearer {access.read_token(home.state / access.MLFLOW_TOKEN)}"}


def test_a_job_by_hand_is_taken_with_the_line_that_up_prints_and_refused_without(
    home: Home,
) -> None:
    submit = (
        f"ray job submit --address {home.cluster.jobs_address} --submission-id {JOB} -- "
        "python -c 'import mlflow; mlflow.set_experiment(\"by-hand\"); print(2**10)'"
    )
    refused = home.shell(submit)
    assert refused.returncode != 0 and "Missing authentication token" in refused.stderr
    wrong = {"Authorization": f"Bearer {'0' * 64}"}
    assert request(f"{home.cluster.jobs_address}/api/jobs/", **wrong)[0] == 403
    line = f". {access.access_to(home.cluster, home.state).environment_file}"
    taken = home.shell(f"{line} && {submit}")
    assert taken.returncode == 0 and "1024" in taken.stdout, taken.stderr
    assert not (home.folder / ".ray").exists()  # nothing is put beside the user's own tokens
    found = home.shell(f"{line} && mlflow experiments search")
    assert "by-hand" in found.stdout, found.stderr


@pytest.mark.parametrize("command", ["status", "jobs", "history toy", "doctor"])
def test_every_command_gets_in_by_itself(home: Home, command: str) -> None:
    ran = home.shell(f"python -m pipelines.cli {command} --json")
    assert "token" not in ran.stderr and "401" not in ran.stderr
    if command == "doctor":
        (ray,) = [each for each in json.loads(ran.stdout) if each["what"] == "ray on the cluster"]
        assert ray["found"].endswith("here and on the cluster")
    elif command == "history toy":
        assert "has no registered model 'toy'" in ran.stderr
    else:
        assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_gets_nothing(home: Home) -> None:
    members = marked_processes.members(home.cluster.mark)
    listening = {
        each.laddr.port
        for process in members
        for each in process.net_connections(kind="inet")
        if each.status == psutil.CONN_LISTEN
    }
    (raylet,) = (home.state / "ray").glob("session_2*/sockets/raylet*")
    given = {
        "state": str(home.state),
        "jobs_address": home.cluster.jobs_address,
        "tracking_uri": home.cluster.tracking_uri,
        "ray_address": home.cluster.ray_address,
        "ports": sorted(listening),
        "pids": [process.pid for process in members],
        "socket": str(raylet),
    }
    program = Path(__file__).with_name("another_user.py")
    ran = subprocess.run(
        [sys.executable, str(program), json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, str] = json.loads(ran.stdout)
    assert {found[name].split()[0] for name in ("submit", "jobs", "runs")} == {"401"}
    assert found.pop("call") == "UNAUTHENTICATED"
    own = {name: text for name, text in found.items() if not name[0].isdigit()}
    assert {own[name] for name in own if name not in ("submit", "jobs", "runs")} == {
        "PermissionError"
    }
    assert len(found) - len(own) > 50
    assert [name for name, text in found.items() if JOB in text or "by-hand" in text] == []


def test_a_page_that_takes_the_name_of_this_machine_reads_nothing(home: Home) -> None:
    """Its name leads to 127.0.0.1 by then, and the browser sends its requests here."""
    name = {"Host": "10.evil.example"}
    for path in ("/api/jobs/", "/api/v0/nodes", "/api/v0/logs", "/nodes?view=summary"):
        assert request(home.cluster.jobs_address + path, **name)[0] == 401
    search = f"{home.cluster.tracking_uri}/api/2.0/mlflow/experiments/search?max_results=1"
    assert request(search, **name)[0] == 401
    assert request(search, **bearer(home))[0] == 200
    status, text = request(search, **name, **bearer(home))
    assert status == 403 and "Invalid Host" in text


@pytest.mark.parametrize(
    "path",
    [
        f"{ASSISTANT}/config",
        f"{ASSISTANT}/providers",
        f"{ASSISTANT}/config/",
        f"/{ASSISTANT}/config",
        ASSISTANT.replace("mlflow/", "mlflow//") + "/config",
        ASSISTANT.replace("assistant", "%61ssistant") + "/config",
        ASSISTANT.replace("assistant", "%2561ssistant") + "/config",
        ASSISTANT.upper() + "/config",
        ASSISTANT.replace("mlflow", "x/../mlflow") + "/config",
        f"/static-prefix{ASSISTANT}/config",
        "/ajax-api/3.0/jobs/1",
        "/gateway/mlflow/v1/models",
    ],
)
def test_what_runs_commands_in_the_server_is_closed_to_its_owner_too(home: Home, path: str) -> None:
    assert request(home.cluster.tracking_uri + path, **bearer(home))[0] == 404
    asked = {"message": "run ls", "session_id": None}
    assert request(home.cluster.tracking_uri + path, data=asked, **bearer(home))[0] in (404, 405)
    assert request(home.cluster.tracking_uri + path)[0] == 401


def test_the_server_reports_nothing_to_the_outside(home: Home) -> None:
    told = request(f"{home.cluster.tracking_uri}/ajax-api/3.0/mlflow/ui-telemetry", **bearer(home))[
        1
    ]
    assert json.loads(told)["disable_ui_telemetry"] is True


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here (Debian's)")
def test_a_browser_is_let_in_by_the_link_and_opens_trainings(home: Home) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    link = access.access_to(home.cluster, home.state).mlflow_link
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        assert page.goto(f"{home.cluster.tracking_uri}/#/experiments/0").status == 401
        assert "prefixprop status" in page.inner_text("body")
        page.goto(link)
        page.wait_for_selector("text=by-hand")
        page.goto(f"{home.cluster.tracking_uri}/#/experiments/0")
        page.wait_for_selector("text=Model registry")  # not the view of language models
        page.goto(f"{home.cluster.tracking_uri}/#/")
        page.wait_for_selector("text=Recent Experiments")
        assert "usage data" not in page.inner_text("body")
        browser.close()
