"""The one record of a training, beside its checkpoint: record.json.

Who trained it (settings, documents, documents of a step, code), how it ended, and its evaluation on
test documents where there was one. Written by the driver when the job is over; what was written
before there was this file is read too: trial.json of searches, cell.json of comparisons.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.atomic_file import read_state, write_state
from components.errors import ArtifactError
from components.jobs.run_jobs import JobResult
from components.training.outcomes import FinalEvaluation, Progress, of_all_documents

if TYPE_CHECKING:
    from components.evaluation import ReliabilityDiagram

RECORD_FILE = "record.json"
OLD_TRIAL_FILE, OLD_CELL_FILE = "trial.json", "cell.json"
FORMAT = 1


@dataclass(frozen=True)
class Identity:
    """What makes two trainings the same one. `train_batch_size`: documents of an optimizer step,
    which the number of workers changes.
    """

    config_sha256: str
    train_batch_size: int
    data_fingerprint: str
    code_fingerprint: str


@dataclass(frozen=True)
class JobRecord:
    """What is known of a training. `outcome`: completed, stopped, diverged, infeasible or failed;
    `run_id`: the tracker's run; `about`: what tells a reader which one it is.
    """

    identity: Identity
    outcome: str
    reason: str
    run_id: str = ""
    progress: Progress = field(default_factory=Progress)
    trainable_parameters: int | None = None
    peak_memory_bytes: int | None = None
    final: FinalEvaluation | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether training it again would give nothing new."""
        return self.outcome in ("completed", "diverged")


def record_of(
    result: JobResult,
    identity: Identity,
    *,
    before: JobRecord | None = None,
    run_id: str = "",
    about: Mapping[str, Any] | None = None,
) -> JobRecord:
    """What is kept of a job's result. `before`: the record of a training that was only evaluated
    now.
    """
    told = result.trained
    if told is None and before is not None:
        known = before
    else:
        known = JobRecord(identity, result.outcome, result.reason)
    return JobRecord(
        identity=known.identity,
        outcome=result.outcome,
        reason=result.reason,
        run_id=run_id or known.run_id,
        progress=told.progress if told else known.progress,
        trainable_parameters=told.trainable_parameters if told else known.trainable_parameters,
        peak_memory_bytes=told.peak_memory_bytes if told else known.peak_memory_bytes,
        final=result.final,
        about=about or known.about,
    )


def write_record(folder: Path, record: JobRecord, *, config: Mapping[str, Any]) -> None:
    """Write a job's record, whole or not at all, with the settings for whoever reads it."""
    write_state(folder / RECORD_FILE, {"format": FORMAT} | asdict(record) | {"config": config})


def read_record(folder: Path) -> JobRecord | None:
    """The record of the job in this folder; None where there is none. Raises ArtifactError where
    the file is damaged.
    """
    for name, read in (
        (RECORD_FILE, _current),
        (OLD_CELL_FILE, _old_cell),
        (OLD_TRIAL_FILE, _old_trial),
    ):
        file = folder / name
        if file.is_file():
            try:
                return read(read_state(file), folder)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise ArtifactError(
                    f"'{file}' cannot be read ({error}). Remove its folder to run this training "
                    "again."
                ) from error
    return None


def _current(values: dict[str, Any], folder: Path) -> JobRecord:
    if values.pop("format") != FORMAT:
        raise ValueError(f"another format than {FORMAT}, written by another version")
    values.pop("config")
    parts: dict[str, Any] = {
        "identity": Identity(**values.pop("identity")),
        "progress": _progress(values.pop("progress")),
        "final": _final(values.pop("final")),
    }
    return JobRecord(**values, **parts)


def _progress(values: dict[str, Any]) -> Progress:
    return Progress(**(values | {"history": tuple(values["history"])}))


def _final(values: dict[str, Any] | None) -> FinalEvaluation | None:
    if values is None:
        return None
    from components.evaluation import LengthBucket

    parts: dict[str, Any] = {
        "folder": Path(values["folder"]),
        "reliability": _diagram(values["reliability"]),
        "by_length": tuple(LengthBucket(**bucket) for bucket in values["by_length"]),
    }
    return FinalEvaluation(**(values | parts | {"metrics": of_all_documents(values["metrics"])}))


def _diagram(values: dict[str, Any] | None) -> "ReliabilityDiagram | None":
    """None of a task that has none. Records of earlier versions have neither the diagram at
    temperature 1 nor `ece_if_calibrated`.
    """
    if values is None:
        return None
    from components.evaluation import ReliabilityDiagram

    parts: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    before = _diagram(parts.pop("uncalibrated", None))
    return ReliabilityDiagram(**parts, uncalibrated=before)


def _old_trial(values: dict[str, Any], folder: Path) -> JobRecord:
    """trial.json: the folder's name is the start of the settings' hash."""
    identity = Identity(
        folder.name,
        int(values.get("train_batch_size", 0)),
        values["data_fingerprint"],
        values["code_fingerprint"],
    )
    return JobRecord(identity, values["outcome"], reason="", run_id=values["run_id"])


def _old_cell(values: dict[str, Any], folder: Path) -> JobRecord:
    """cell.json: the folder's name stands for settings, documents and documents of a step."""
    old = values["record"]
    identity = Identity(
        values["config_sha256"], 0, values["data_fingerprint"], old["code_fingerprint"]
    )
    history = tuple(old["history"])
    known = {each.name for each in fields(Progress)}
    progress = {name: value for name, value in old.items() if name in known} | {
        "step": old["steps"],
        "evaluations": len(history),
        "history": history,
    }
    return JobRecord(
        identity=identity,
        outcome=old["outcome"],
        reason=old["reason"],
        progress=Progress(**progress),
        trainable_parameters=old["trainable_parameters"],
        peak_memory_bytes=old["peak_memory_bytes"],
        final=_final(old["final"]),
        about=values["cell"],
    )
