"""What the parent of the `search` benchmark tells its two sides, and what they answer: plain values
in JSON files.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

SideName = Literal["slots", "trainers"]


@dataclass(frozen=True)
class SideSettings:
    """One side's work. `experiment`: plain values of an ExperimentConfig; `points`: the trials, of
    the peer (slots run the experiment's own grid); `concurrent`: trials at a time; `loop`:
    DeepSpeed, or for the peer a plain torch loop.
    """

    side: SideName
    folder: str
    experiment: Mapping[str, Any]
    points: tuple[Mapping[str, Any], ...]
    concurrent: int
    loop: Literal["deepspeed", "plain"] = "deepspeed"


@dataclass(frozen=True)
class TrialTimes:
    """One trial. `started`, `ended`: seconds since the epoch as the driver saw them;
    `training_seconds`: its steps and evaluations alone; the losses are those of its last report.
    """

    point: Mapping[str, Any]
    started: float
    ended: float
    training_seconds: float
    step: int
    train_loss: float
    validation_nll: float


def write_settings(settings: SideSettings) -> None:
    (Path(settings.folder) / "settings.json").write_text(
        json.dumps(asdict(settings)), encoding="utf-8"
    )


def read_settings(folder: Path) -> SideSettings:
    values = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    return SideSettings(**(values | {"points": tuple(values["points"])}))


def write_records(folder: Path, records: list[TrialTimes]) -> None:
    (folder / "trials.json").write_text(
        json.dumps([asdict(record) for record in records]), encoding="utf-8"
    )


def read_records(folder: Path) -> list[TrialTimes]:
    return [
        TrialTimes(**values)
        for values in json.loads((folder / "trials.json").read_text(encoding="utf-8"))
    ]
