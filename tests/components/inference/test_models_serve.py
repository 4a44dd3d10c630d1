"""`mlflow models serve` answers from the registry in a process of its own, without this checkout:
its example, within its limits, by the version in use, also after another one became champion.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.inference.package import adapter_package
from components.registry import Tracker, open_tracker
from tests.registry_fixtures import LABELS, make_tiny_adapter, sample_texts

pytestmark = pytest.mark.slow
NAME, TENSORS = "served", "adapter_model.safetensors"
SECONDS = 120.0
SETTINGS = {
    "follow": f"models:/{NAME}@champion",
    "follow_seconds": 0.2,
    "max_documents": 5,
    "max_characters": 2_000,
    "max_bytes": 4_000,
}
# An editable install is found by a finder that its .pth file puts into place.
HIDE = """
import sys
names = [getattr(each, "__name__", "") for each in sys.meta_path]
sys.meta_path[:] = [each for each, name in zip(sys.meta_path, names) if "Editable" not in name]
"""


@dataclass(frozen=True)
class Served:
    """A server and the registry behind it."""

    address: str
    tracker: Tracker
    adapters: tuple[Path, ...]

    def ask(self, texts: Any, **params: Any) -> tuple[int, Any]:
        """(HTTP status, the JSON) of a request with these texts."""
        content: dict[str, Any] = {"dataframe_split": {"columns": ["text"], "data": texts}}
        return self.post(content | ({"params": params} if params else {}))

    def post(self, content: Any) -> tuple[int, Any]:
        body = json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}/invocations", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def version(self) -> str:
        """The version that answers now."""
        status, answer = self.ask([["space"]], with_version=True)
        assert status == 200, answer
        return str(answer["predictions"][0]["model"])


def environment(
    folder: Path, tracking_uri: str, further: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What the server is told: nothing of this checkout."""
    hidden = folder / "hidden"
    hidden.mkdir(exist_ok=True)
    (hidden / "sitecustomize.py").write_text(HIDE)
    ours = ("PYTHONPATH", "MLFLOW_", "RAY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {
        "PYTHONPATH": str(hidden),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_PYFUNC_INFERENCE_CONFIG": json.dumps(SETTINGS | {"cache_path": str(folder)}),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        **(further or {}),
    }


@contextmanager
def serving(
    model: str, folder: Path, tracking_uri: str, further: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Any, Path]]:
    """`mlflow models serve`; ended by its process group. Yields address, process and log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder, tracking_uri, further),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}", process, log
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def wait_for(address: str, process: Any, log: Path) -> None:
    """Return once the server answers."""
    until = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{address}/ping", timeout=2):
                return
        except OSError:
            time.sleep(0.3)


def variant(folder: Path, number: int) -> Path:
    """The same adapter with values of its own."""
    other = folder.with_name(f"{folder.name}-{number}")
    shutil.copytree(folder, other)
    draw = torch.Generator().manual_seed(number)
    tensors = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=draw)
        for name, tensor in load_file(folder / TENSORS).items()
    }
    (other / TENSORS).unlink()
    save_file(tensors, other / TENSORS)
    return other


def register(tracker: Tracker, adapter: Path, *, experiment: str, name: str) -> int:
    """Version of the adapter in the registry."""
    tracker.ensure_experiment(experiment, "")
    run = tracker.start_run(experiment, run_name="s", config={}, params={}, tags={})
    registered = tracker.register_adapter(
        run,
        adapter_folder=adapter,
        package=adapter_package(adapter),
        model_name=name,
        metrics={},
        params={},
        description="",
        tags={},
    )
    return registered.version


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    first, _ = make_tiny_adapter(folder, "longformer")
    tracker = open_tracker("mlflow", mlflow_uri)
    assert register(tracker, first, experiment=NAME, name=NAME) == 1
    with serving(f"models:/{NAME}@champion", folder, mlflow_uri) as (address, process, log):
        wait_for(address, process, log)
        yield Served(address, tracker, (first, *(variant(first, number) for number in (1, 2))))


def test_the_server_cannot_import_this_checkout(served: Served, tmp_path: Path) -> None:
    """What hides it there, hides it here."""
    command = [sys.executable, "-c", "import pipelines"]
    told = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(tmp_path, "sqlite://"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'pipelines'" in told.stderr


def test_the_example_that_is_stored_with_the_model_is_answered(
    served: Served, tmp_path: Path
) -> None:
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    client = MlflowClient(served.tracker.tracking_uri, served.tracker.tracking_uri)
    location = client.get_model_version_download_uri(NAME, "1")
    example = download_artifacts(
        artifact_uri=f"{location}/serving_input_example.json",
        dst_path=str(tmp_path),
        tracking_uri=served.tracker.tracking_uri,
    )
    status, answer = served.post(json.loads(Path(example).read_text()))
    assert status == 200
    (found,) = answer["predictions"]
    assert set(found) == {"label", "probabilities"}
    assert found["label"] in LABELS and list(found["probabilities"]) == list(LABELS)


@pytest.mark.parametrize(
    ("texts", "params", "told"),
    [
        ([["a"]] * 6, {}, "request: 6 documents, at most 5 are answered at once."),
        ([["a" * 2_001]], {}, "a text of document 1 has 2,001 characters, at most 2,000 are read."),
        ([["\u00e4" * 1_001]] * 2, {}, "request: 4,004 bytes of text, at most 4,000"),
        ([["a"]], {"batch_size": 65}, "request: batch_size is 65, expected 1 to 64."),
        ([["a"]], {"batch_size": 0}, "request: batch_size is 0, expected 1 to 64."),
    ],
)
def test_what_goes_beyond_the_limits_is_refused_in_one_line_that_does_not_repeat_the_documents(
    texts: Any, params: Any, told: str, served: Served
) -> None:
    status, answer = served.ask(texts, **params)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), answer
    assert told in answer["message"]
    assert answer["message"].startswith("request: ") and "\n" not in answer["message"]
    assert "aaaa" not in answer["message"] and "stack_trace" not in answer
    assert served.ask([["a"]] * 5)[0] == 200


@pytest.mark.parametrize("texts", [[[17]], [[None]], [[["a", "b"]]], [[{"a": 1}]], [["a\ud800"]]])
def test_what_is_no_text_is_refused(texts: Any, served: Served) -> None:
    assert served.ask(texts)[0] == 400


def test_requests_at_once_get_the_answers_of_requests_one_by_one(served: Served) -> None:
    asked = [[[text]] for text in sample_texts(20)] * 3
    alone = [served.ask(texts) for texts in asked[:20]]
    assert all(status == 200 for status, _ in alone)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(served.ask, asked)) == alone * 3


def test_another_champion_answers_without_a_restart_and_a_damaged_one_never_does(
    served: Served,
) -> None:
    """While requests go on; each is answered by one version, whole."""
    tracker, texts = served.tracker, [[text] for text in sample_texts(4)]
    first, second, third = served.adapters
    by_version = {f"{NAME}/1": served.ask(texts)[1]}
    assert served.version() == f"{NAME}/1"
    assert register(tracker, second, experiment=NAME, name=NAME) == 2
    damaged = third.with_name("damaged")
    shutil.copytree(first, damaged)
    (damaged / TENSORS).write_bytes((damaged / TENSORS).read_bytes()[:-100])
    assert register(tracker, damaged, experiment=NAME, name=NAME) == 3
    assert register(tracker, third, experiment=NAME, name=NAME) == 4
    found: list[tuple[str, Any]] = []

    def until_answered_by(version: str) -> None:
        end = time.monotonic() + 60
        while not found or found[-1][0] != version:
            assert time.monotonic() < end, found[-1]
            status, answer = served.ask(texts, with_version=True)
            assert status == 200, answer
            (answering,) = {row.pop("model") for row in answer["predictions"]}
            found.append((answering, answer))

    for version in (2, 3, 4, 1):
        tracker.promote(NAME, version)
        if version == 3:
            time.sleep(2.0)  # ten looks
            assert served.version() == f"{NAME}/2"
        else:
            until_answered_by(f"{NAME}/{version}")
    for answering, answer in found:
        assert by_version.setdefault(answering, answer) == answer
    assert len(by_version) == 3
    assert len({json.dumps(answer) for answer in by_version.values()}) == 3


def test_a_damaged_adapter_is_not_served(tmp_path: Path, mlflow_uri: str, served: Served) -> None:
    """The server ends, and the one line stands in its log."""
    broken = tmp_path / "adapter"
    shutil.copytree(served.adapters[0], broken)
    (broken / TENSORS).write_bytes((broken / TENSORS).read_bytes()[:-100])
    register(served.tracker, broken, experiment="broken", name="broken")
    with serving("models:/broken@champion", tmp_path, mlflow_uri) as (_, process, log):
        assert process.wait(timeout=SECONDS) != 0
    assert "adapter_model.safetensors is cut off" in log.read_text()
