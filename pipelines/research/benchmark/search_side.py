"""One side of the `search` benchmark in a process of its own: `python -m
pipelines.research.benchmark.search_side FOLDER`. See `search`.
"""

import sys
import time
from pathlib import Path
from typing import Any

from components.config.experiment import ExperimentConfig
from components.settings import validate
from pipelines.research.benchmark.search_settings import (
    SideSettings,
    TrialRecord,
    read_settings,
    write_records,
)


def run_slots(settings: SideSettings, config: ExperimentConfig) -> list[TrialRecord]:
    """Our side: the points of the grid on `concurrent` trial slots, from slots that start to slots
    that ended, as `pipelines.search` does it.
    """
    from components.backbones import load_tokenizer, tokenizer_id
    from components.registry import code_fingerprint, code_version, open_tracker
    from components.tasks import prepare
    from components.tuning.assignments import SlotSettings
    from components.tuning.cluster import joined_cluster
    from components.tuning.run_search import run_trials
    from components.tuning.slot import close_slots, start_slot
    from components.tuning.trial_log import TrialLog
    from components.tuning.tune_trial import SearchContext

    times: dict[str, list[float]] = {}

    def listen(summary: Any) -> None:
        times.setdefault(summary.name, [time.time(), 0.0])
        if summary.outcome != "running" and not times[summary.name][1]:
            times[summary.name][1] = time.time()

    tracker = open_tracker("mlflow", f"sqlite:///{config.cluster.cache_path}/mlflow.db")
    tracker.ensure_experiment(config.name, "")
    with joined_cluster(None):
        slot_settings = SlotSettings(
            config=config.train_config(),
            cluster=config.cluster,
            cache_path=config.cluster.cache_path,
            storage_path=settings.folder,
            code_version=code_version(),
            code_fingerprint=code_fingerprint(),
        )
        slots = tuple(start_slot(slot_settings) for _ in range(settings.concurrent))
        data = prepare(
            config.data,
            load_tokenizer(config.backbone),
            tokenizer_id=tokenizer_id(config.backbone),
            cache_path=Path(config.cluster.cache_path),
        )
        search_run_id = tracker.start_search(
            config.name, run_name="benchmark", config={}, params={}, tags={}
        )
        log = TrialLog(
            config,
            search_run_id=search_run_id,
            search_folder=settings.folder,
            tracker=tracker,
            tags={"data_fingerprint": data.fingerprint},
            params=lambda _: {},
            listener=listen,
        )
        context = SearchContext(
            config=config,
            slots=slots,
            data_folder=str(data.folder),
            data_fingerprint=data.fingerprint,
            code_fingerprint=code_fingerprint(),
            folder=settings.folder,
        )
        run_trials(context, log, num_documents=len(data.splits["train"]))
        close_slots(slots)
    return [_record(summary, times[summary.name]) for summary in log.summaries.values()]


def _record(summary: Any, times: list[float]) -> TrialRecord:
    if summary.outcome != "completed":
        raise RuntimeError(
            f"{summary.name} {dict(summary.point)} ended as {summary.outcome}: {summary.reason}"
        )
    metrics = summary.metrics
    return TrialRecord(
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
