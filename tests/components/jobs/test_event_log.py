"""One line of JSON per event, in one place."""

import json
from pathlib import Path

import pytest

from components.jobs.event_log import event_log, tell_event
from components.jobs.events import Failed, Left
from tests.components.jobs.test_slot import DONE, evaluated


def lines(folder: Path) -> list[dict[str, object]]:
    (file,) = (folder / "logs").glob("*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_line_has_time_event_and_context(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = event_log(tmp_path, "rank0", experiment="toy", echo=True).of(rank=0)
    log.tell("backbone loaded", ranks=2)
    of_job = log.of(trial="abc")
    for event in (evaluated(3), DONE, Left("a", "a notice", 5), Failed("a", "x", "training")):
        tell_event(of_job, event)
    found = lines(tmp_path)
    assert [line["event"] for line in found] == [
        "backbone loaded",
        "evaluated",
        "trained",
        "left",
        "failed",
    ]
    assert all((line["experiment"], line["rank"]) == ("toy", 0) for line in found)
    assert "trial" not in found[0] and {line["trial"] for line in found[1:]} == {"abc"}
    assert (found[1]["step"], found[3]["step"]) == (3, 5)
    assert found == [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert sorted(map(str, (line["time"] for line in found))) == [line["time"] for line in found]


def test_a_line_holds_no_secret(tmp_path: Path) -> None:
    event_log(tmp_path, "driver", experiment="toy").tell("x", error="http://ann:s3cr3t@host")
    assert "s3cr3t" not in json.dumps(lines(tmp_path))


def test_a_folder_that_takes_no_line_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    event_log(tmp_path, "driver", experiment="toy").tell("x")
