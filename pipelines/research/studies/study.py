"""What every study does around its question: one tracking run, measurements that survive an
interruption, and a report folder with findings, figures and numbers.

OUTPUT/report/ holds findings.md, the figures and study.json, and goes into the tracking run;
OUTPUT/cells/ (measurements) and OUTPUT/trainings/ are what it was made from.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.atomic_folder import atomic_folder
from components.config import ExperimentConfig, config_sha256, resolved
from components.errors import ConfigError
from components.registry import TolerantTracker, Tracker, code_version, open_tracker, run_tags
from components.settings import writable_folder
from pipelines.reports import StudyReport
from pipelines.research.studies import STUDIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

StudyName = Literal["kernel", "length", "warm_start"]


@dataclass(frozen=True)
class StudyOutcome:
    """`findings`: Markdown; `figures`: file name -> figure; `numbers`: all that the findings rest
    on, JSON-able; `metrics`: the few that a tracking run shows.
    """

    findings: str
    figures: "Mapping[str, Figure]"
    numbers: Mapping[str, Any]
    metrics: Mapping[str, float]


def study(
    name: StudyName,
    config: ExperimentConfig,
    *,
    output: Path,
    tracking_uri: str,
    command: str,
    say: Callable[[str], None] = print,
) -> StudyReport:
    """Answer the question `name` as the experiment's section `study.<name>` says; the same call
    goes on where an earlier one stopped.

    `command`: the command line, for the report. Raises ConfigError where the experiment has no such
    section, and whatever UserError its data or backbone give.
    """
    if getattr(config.study, name) is None:
        raise ConfigError(
            f"study.{name} is missing: the experiment '{config.name}' says nothing about it. Take "
            f"study_{name}, or add the section."
        )
    from pipelines.research.studies.study_session import StudySession

    module = import_module(STUDIES[name])
    module.check(config)
    writable_folder(output, "output")
    tracker = open_tracker(config.registry.kind, tracking_uri)
    tracker.check()
    run_id = _tracking_run(tracker, name, config)
    with _ending_with(tracker, run_id):
        session = StudySession(config, output, say)
        outcome: StudyOutcome = module.run(session)
    report = _write(output / "report", outcome, _provenance(command, session.measurements.used))
    tracker.log_folder(run_id, report, "study")
    tracker.log_metrics(run_id, outcome.metrics, step=0)
    tracker.finish(run_id, "completed", f"{len(session.measurements.used)} cells")
    return StudyReport(
        study=name,
        experiment=config.name,
        folder=report,
        files=tuple(sorted(path.name for path in report.iterdir())),
        metrics=outcome.metrics,
        cells=len(session.measurements.used),
        seconds=session.measurements.seconds,
        run_id=run_id,
        url=tracker.run_url(run_id),
    )


@contextmanager
def _ending_with(tracker: Tracker, run_id: str) -> Iterator[None]:
    """Whatever ends the study early stands in its run."""
    log = TolerantTracker(tracker)
    try:
        yield
    except KeyboardInterrupt:
        log.finish(run_id, "interrupted", "interrupted; the same command continues")
        raise
    except Exception as error:
        log.finish(run_id, "failed", str(error))
        raise


def _tracking_run(tracker: Tracker, name: StudyName, config: ExperimentConfig) -> str:
    """The run of this very study if there is one, else a new one."""
    tracker.ensure_experiment(config.name, config.description)
    tags = {"kind": "study", "study": name, "config_sha256": config_sha256(config)}
    existing = tracker.find_run(config.name, tags)
    if existing is not None:
        tracker.resume_run(existing, {"resumed": "true"})
        return existing
    params = {
        "backbone": config.backbone.name_or_path,
        "prefix_length": config.adapter.prefix_length,
        "max_tokens": config.data.max_tokens,
    }
    return tracker.start_run(
        config.name,
        run_name=f"study-{name}",
        config=resolved(config),
        params=params,
        tags=run_tags(config_sha256=tags["config_sha256"]) | tags,
    )


def _provenance(command: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    """How the numbers came about. `cell_seconds`: wall time of each cell when it was measured."""
    from pipelines.research.benchmark.hardware import hardware, versions

    machine = hardware()
    return {
        "command": command,
        "code_version": code_version(),
        "versions": versions(),
        "hardware": {
            "processor": machine["processor"],
            "cores": machine["cores"],
            "gpus": machine["gpus"],
        },
        "seconds": round(sum(seconds.values())),
        "cell_seconds": dict(seconds),
    }


def _write(folder: Path, outcome: StudyOutcome, provenance: Mapping[str, Any]) -> Path:
    machine, versions = provenance["hardware"], provenance["versions"]
    where = f"{', '.join(machine['gpus']) or machine['processor']}, {machine['cores']} cores"
    packages = ", ".join(
        f"{name} {version}"
        for name, version in versions.items()
        if name in ("python", "torch", "transformers", "numpy")
    )
    footer = (
        f"\n## How this was made\n\n    {provenance['command']}\n\n"
        f"{where}; {packages}; {provenance['seconds'] / 60:.0f} minutes for "
        f"{len(provenance['cell_seconds'])} cells, neighbours on the machine included. "
        "All numbers are in study.json.\n"
    )
    with atomic_folder(folder) as unfinished:
        (unfinished / "findings.md").write_text(
            outcome.findings.rstrip("\n") + "\n" + footer, encoding="utf-8"
        )
        numbers = {"provenance": provenance, **outcome.numbers}
        (unfinished / "study.json").write_text(
            json.dumps(numbers, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
        for name, figure in outcome.figures.items():
            figure.savefig(unfinished / name, dpi=110)
    return folder
