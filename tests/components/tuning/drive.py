"""A search in a process of its own, so that a test can interrupt it: `python -m
tests.components.tuning.drive FOLDER NAME ADDRESS TRACKING_URI [--resume]`.

Reads FOLDER/NAME.json (an experiment as plain values); appends every change of a trial to
FOLDER/NAME.events and writes the report to FOLDER/NAME.report.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_SECONDS = 400


@dataclass
class Driver:
    """A running search and where its traces lie."""

    process: subprocess.Popen[bytes]
    folder: Path
    name: str
    seconds: float = TIMEOUT_SECONDS
    """Within which it ends, and within which a condition is met."""

    def events(self) -> list[dict[str, Any]]:
        file = self.folder / f"{self.name}.events"
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        return [json.loads(line) for line in lines]

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The events as soon as they meet the condition."""
        deadline = time.monotonic() + self.seconds
        while not condition(self.events()):
            assert self.process.poll() is None, f"ended before:\n{self.log()}"
            assert time.monotonic() < deadline, f"too slow:\n{self.log()}"
            time.sleep(0.02)
        return self.events()

    def wait(self) -> int:
        return self.process.wait(timeout=self.seconds)

    def report(self) -> dict[str, Any]:
        assert self.wait() == 0, self.log()
        values: dict[str, Any] = json.loads((self.folder / f"{self.name}.report").read_text())
        return values

    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()[-4000:]


def start_driver(
    folder: Path,
    name: str,
    *,
    address: str,
    tracking_uri: str,
    values: dict[str, Any] | None = None,
    resume: bool = False,
    on: Callable[..., list[str]] = lambda *command: [*command],
    environment: Mapping[str, str] = os.environ,
    seconds: float = TIMEOUT_SECONDS,
) -> Driver:
    """Start (or with `resume` continue) a search; `on`: how a command is run where it shall be."""
    if values is not None:
        (folder / f"{name}.json").write_text(json.dumps(values))
    (folder / f"{name}.events").unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "tests.components.tuning.drive",
        str(folder),
        name,
        address,
        tracking_uri,
        *["--resume"] * resume,
    ]
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            on(*command),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT)},
        )
    return Driver(process, folder, name, seconds)


def main(folder: Path, name: str, address: str, tracking_uri: str, *, resume: bool) -> None:
    from dataclasses import asdict

    from components.config import ExperimentConfig, validate
    from pipelines.search import search

    config = validate(ExperimentConfig, json.loads((folder / f"{name}.json").read_text()))
    with (folder / f"{name}.events").open("a", buffering=1) as events:

        def note(summary: Any) -> None:
            events.write(json.dumps(asdict(summary)) + "\n")

        report = search(
            config,
            tracking_uri=tracking_uri,
            ray_address=address,
            resume=resume,
            on_trial=note,
            state_path=folder,
        )
    (folder / f"{name}.report").write_text(json.dumps(asdict(report)))


if __name__ == "__main__":
    try:
        main(
            Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], resume="--resume" in sys.argv
        )
    except KeyboardInterrupt:
        sys.exit(130)
