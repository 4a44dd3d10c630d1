"""What the driver keeps of every trial: a summary for people, and one run of the tracker per trial.

All tracking happens in the driver's process, so that trials never wait for it; Tune calls these
methods between its decisions.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ray.tune import Callback

from components.config import ExperimentConfig, TrainConfig, config_sha256, trial_config
from components.registry import Outcome, RunLog, code_fingerprint, run_tags
from components.tuning.reuse import TrialRecord, record
from components.tuning.tune_trial import POINT, trial_folder


@dataclass(frozen=True)
class TrialSummary:
    """One trial. `best_metrics`: metrics of its best evaluation; `rungs`: (evaluation, step,
    metric) of each report; `outcome` is "running" until it ended.
    """

    name: str
    point: Mapping[str, Any]
    config_sha256: str
    folder: str
    run_id: str
    outcome: str = "running"
    reason: str = ""
    evaluations: int = 0
    step: int = 0
    best_evaluation: int = 0
    best_metrics: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    trainable_parameters: int | None = None
    rungs: tuple[tuple[int, int, float], ...] = ()


class TrialLog(Callback):
    """Tune callback: summaries by trial, and their runs."""

    def __init__(
        self,
        config: ExperimentConfig,
        *,
        search_run_id: str,
        search_folder: str,
        tracker: RunLog,
        tags: Mapping[str, str],
        params: Callable[[TrainConfig], Mapping[str, Any]],
        listener: Callable[[TrialSummary], None],
    ) -> None:
        self.config, self.search_run_id, self.search_folder = config, search_run_id, search_folder
        self.tracker, self.tags, self.params, self.listener = tracker, tags, params, listener
        self.summaries: dict[str, TrialSummary] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks to disk, where no search is ever restored from, and a
        tracker or listener may hold what cannot be pickled.
        """
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._summary(trial)

    def _summary(self, trial: Any) -> TrialSummary:
        """What is known of the trial; its run is started now where it has none. A trial that is
        started again keeps its run, and one that could not start has one too.
        """
        if trial.trial_id not in self.summaries:
            self._start(trial)
        return self.summaries[trial.trial_id]

    def _start(self, trial: Any) -> None:
        point = dict(trial.config[POINT])
        config = trial_config(self.config, point)
        sha256 = config_sha256(config)
        name = f"trial-{len(self.summaries):03d}"
        run_id = self.tracker.start_trial(
            self.search_run_id,
            trial_name=f"{name}-{sha256[:8]}",
            params=dict(self.params(config)) | point,
            tags=dict(self.tags) | run_tags(config_sha256=sha256),
        )
        self.tracker.log_dict(run_id, config.model_dump(mode="json"), "config.json")
        self._update(
            trial,
            TrialSummary(
                name=name,
                point=point,
                config_sha256=sha256,
                folder=str(trial_folder(self.search_folder, sha256)),
                run_id=run_id,
            ),
        )

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        summary = self.summaries[trial.trial_id]
        evaluation = int(result["evaluation"])
        if evaluation > summary.evaluations:
            metrics = {
                name: float(value) for name, value in result.items() if _is_metric(name, value)
            }
            self.tracker.log_metrics(summary.run_id, metrics, step=int(result["step"]))
            metric = metrics[self.config.training.metric]
            summary = replace(
                summary,
                evaluations=evaluation,
                step=int(result["step"]),
                metrics=metrics,
                rungs=(*summary.rungs, (evaluation, int(result["step"]), metric)),
            )
            if summary.trainable_parameters is None:
                summary = replace(summary, trainable_parameters=int(result["trainable_parameters"]))
                self.tracker.log_params(
                    summary.run_id, {"trainable_parameters": summary.trainable_parameters}
                )
                if result["reused_run_id"]:
                    self.tracker.set_tags(
                        summary.run_id, {"reused_from_run": result["reused_run_id"]}
                    )
            if result["is_best"]:
                summary = replace(summary, best_evaluation=evaluation, best_metrics=metrics)
        if "outcome" in result:
            summary = replace(summary, outcome=result["outcome"], reason=result["reason"])
        self._update(trial, summary)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        summary = self.summaries[trial.trial_id]
        if summary.outcome == "running":
            reason = (
                f"stopped by {self.config.search.trial_scheduler} after evaluation "
                f"{summary.evaluations}: others were better at that point"
            )
            summary = replace(summary, outcome="stopped", reason=reason)
        self._finish(trial, summary)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = _last_line(trial)
        out_of_memory = "OutOfMemory" in error or "out of memory" in error
        outcome = "infeasible" if out_of_memory else "failed"
        self._finish(trial, replace(self._summary(trial), outcome=outcome, reason=error))

    def settle(self, real_run_id: Callable[[str], str | None]) -> None:
        """Replace provisional run ids, given while the store was away, by the store's own."""
        for trial_id, summary in self.summaries.items():
            self.summaries[trial_id] = replace(
                summary, run_id=real_run_id(summary.run_id) or summary.run_id
            )

    def interrupt(self) -> None:
        """Mark what still runs as interrupted."""
        for trial_id, summary in self.summaries.items():
            if summary.outcome == "running":
                self.summaries[trial_id] = replace(
                    summary, outcome="interrupted", reason="the search was interrupted"
                )
                self.tracker.finish(summary.run_id, "interrupted", "the search was interrupted")

    def best(self) -> TrialSummary | None:
        """The trial with the best evaluation of all, the earlier one of equals; trials that
        diverged or failed do not count.
        """
        name, sign = (
            self.config.training.metric,
            1.0 if self.config.training.mode == "max" else -1.0,
        )
        usable = [
            summary
            for summary in self.summaries.values()
            if summary.best_metrics and summary.outcome in ("completed", "stopped")
        ]
        return max(usable, key=lambda summary: sign * summary.best_metrics[name], default=None)

    def _finish(self, trial: Any, summary: TrialSummary) -> None:
        best = {
            f"best/{name}": value
            for name, value in summary.best_metrics.items()
            if name.startswith("validation/")
        }
        if best:
            self.tracker.log_metrics(summary.run_id, best, step=summary.step)
        self.tracker.log_dict(
            summary.run_id,
            {
                "rungs": [
                    {"evaluation": e, "step": s, self.config.training.metric: m}
                    for e, s, m in summary.rungs
                ],
                "best_evaluation": summary.best_evaluation,
            },
            "rungs.json",
        )
        ended = TrialRecord(
            summary.run_id,
            summary.outcome,
            train_batch_size=trial_config(self.config, summary.point).training.batch_size(
                self.config.cluster.num_workers
            ),
            data_fingerprint=self.tags["data_fingerprint"],
            code_fingerprint=code_fingerprint(),
        )
        record(Path(summary.folder), ended)
        outcomes: dict[str, Outcome] = {
            name: name for name in ("completed", "stopped", "diverged", "infeasible", "failed")
        }
        self.tracker.finish(summary.run_id, outcomes[summary.outcome], summary.reason)
        self._update(trial, summary)

    def _update(self, trial: Any, summary: TrialSummary) -> None:
        self.summaries[trial.trial_id] = summary
        self.listener(summary)


def _is_metric(name: str, value: Any) -> bool:
    """Our own numbers, not those that Tune adds (time_total_s, pid, ...)."""
    own = ("/" in name and not name.startswith("config/")) or name in (
        "epoch",
        "tokens",
        "seconds",
        "tokens_per_second",
    )
    return (
        own
        and isinstance(value, int | float)
        and not (isinstance(value, float) and math.isinf(value))
    )


def _last_line(trial: Any) -> str:
    """Why Tune gave a trial up, in one line."""
    text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the trial ended without a message"
