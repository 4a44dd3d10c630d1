"""One side of the `search` benchmark in a process of its own: `python -m
pipelines.research.benchmark.search_side FOLDER`. See `search`.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from components.config.experiment import ExperimentConfig
from components.settings import validate
from pipelines.research.benchmark.search_settings import (
    SideSettings,
    TrialTimes,
    read_settings,
    write_records,
)

if TYPE_CHECKING:
    from components.jobs.summary import TrialSummary


class _Clock:
    """When each trial started and ended, as the driver saw it: name -> [start, end]."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def listen(self, summary: "TrialSummary") -> None:
        times = self.times.setdefault(summary.name, [time.time(), 0.0])
        if summary.outcome != "running" and not times[1]:
            times[1] = time.time()


def run_slots(settings: SideSettings, config: ExperimentConfig) -> list[TrialTimes]:
    """Our side: the grid on trial slots, from slots that start to slots that ended, as
    `pipelines.search` does it.
    """
    from components.backbones import load_tokenizer, tokenizer_id
    from components.jobs.cluster import joined_cluster
    from components.jobs.run_writer import RunWriter
    from components.jobs.slots import close_slots
    from components.registry import code_fingerprint, open_tracker
    from components.tasks import prepare
    from components.tuning.run_search import run_trials
    from components.tuning.trial_log import RunFacts, TrialLog
    from components.tuning.tune_trial import SearchContext
    from pipelines import code_folders
    from pipelines.trial_slots import start_trial_slots

    clock = _Clock()
    tracker = open_tracker("mlflow", f"sqlite:///{config.cluster.cache_path}/mlflow.db")
    tracker.ensure_experiment(config.name, "")
    folder = Path(settings.folder)
    with joined_cluster(None, code=code_folders()):
        slots = start_trial_slots(
            config.train_config(),
            config.cluster,
            count=config.search.concurrent_slots,
            storage=folder,
            experiment=config.name,
            capacity=config.search.trials_per_slot,
        )
        data = prepare(
            config.data,
            load_tokenizer(config.backbone),
            tokenizer_id=tokenizer_id(config.backbone),
            cache_path=Path(config.cluster.cache_path),
        )
        run_id = tracker.start_run(
            config.name, run_name="benchmark", config={}, params={}, tags={"kind": "search"}
        )
        context = SearchContext(
            config=config,
            slots=slots,
            data_folder=data.folder,
            data_fingerprint=data.fingerprint,
            code_fingerprint=code_fingerprint(),
            folder=folder,
        )
        log = TrialLog(
            config,
            RunWriter(tracker, run_id, on_change=clock.listen),
            facts=RunFacts(tags={"data_fingerprint": data.fingerprint}),
            identity=context.identity,
        )
        run_trials(context, log, num_documents=len(data.splits["train"]))
        close_slots(slots)
    return [_times(summary, clock.times[summary.name]) for summary in log.summaries]


def _times(summary: "TrialSummary", times: list[float]) -> TrialTimes:
    if summary.outcome != "completed":
        raise RuntimeError(
            f"{summary.name} {dict(summary.point)} ended as {summary.outcome}: {summary.reason}"
        )
    metrics = summary.metrics
    return TrialTimes(
        point=summary.point,
        started=times[0],
        ended=times[1],
        training_seconds=metrics["seconds"],
        step=summary.step,
        train_loss=metrics["train/loss"],
        validation_nll=metrics["validation/nll"],
    )


def main(folder: Path) -> None:
    settings = read_settings(folder)
    config = validate(ExperimentConfig, settings.experiment)
    if settings.side == "slots":
        records = run_slots(settings, config)
    else:
        from pipelines.research.benchmark.trainer_per_trial import run_trainers

        records = run_trainers(settings, config)
    write_records(folder, records)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
