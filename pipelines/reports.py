"""What workflows return, print and hand on: frozen values, JSON-able by `dataclasses.asdict`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.data.drift.checks import Finding
    from components.evaluation import LengthBucket
    from components.evaluation.gate.decision import Decision
    from components.registry.history import Action, HistoryEntry
    from pipelines.retraining.champion_quality import Quality


@dataclass(frozen=True)
class SearchReport:
    """A search and the adapter it registered. `by_length` as in EvaluationReport; `metrics` are
    those of the best adapter on all validation and test documents; `seconds` is wall time;
    `lost_trials` are missing among those that the best was chosen of; `promotion`: what became of
    the version, None where the experiment has no gate.
    """

    experiment: str
    search_id: str
    search_run_id: str
    metric: str
    mode: str
    trials: tuple[Mapping[str, Any], ...]
    best_trial: str
    metrics: Mapping[str, float]
    calibration: Mapping[str, Any]
    by_length: tuple[Mapping[str, Any], ...]
    trainable_parameters: int
    data_fingerprint: str
    model_name: str
    model_version: int
    model_alias: str
    model_uri: str
    adapter_folder: str
    urls: Mapping[str, str]
    seconds: float
    lost_trials: tuple[str, ...] = ()
    promotion: "PromotionReport | None" = None


@dataclass(frozen=True)
class TrainReport:
    """One training without a search. `metrics` as in SearchReport; `by_length` as in
    EvaluationReport, of the test documents; `seconds` is training time, evaluation included.
    """

    experiment: str
    outcome: str
    reason: str
    world_size: int
    zero_stage: int
    steps: int
    tokens: int
    tokens_per_second: float
    metrics: Mapping[str, float]
    history: tuple[Mapping[str, float], ...]
    by_length: "tuple[LengthBucket, ...]"
    trainable_parameters: int
    adapter_folder: str
    seconds: float


@dataclass(frozen=True)
class PredictionReport:
    """`prefixprop predict`. `model` is the address with its alias resolved; `labels` counts the
    answers per label.
    """

    model: str
    output: Path
    documents: int
    labels: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class PredictionsReport:
    """`prefixprop predict` with several adapters. `labels` counts the answers per label of each, by
    its address; `passes`: as often was a document read, with the addresses of those that answered
    from each reading.
    """

    output: Path
    documents: int
    labels: Mapping[str, Mapping[str, int]]
    passes: tuple[tuple[str, ...], ...]
    seconds: float


@dataclass(frozen=True)
class EvaluationReport:
    """`prefixprop evaluate`. `metrics` are of calibrated probabilities, `uncalibrated` of
    temperature 1.

    `same_data_as_training`: whether documents, splits and tokenizer are those the adapter was
    trained with; None where the artifact does not say. `labels` and both axes of `confusion` (rows:
    true label, columns: answer) are in the order of the adapter's labels. `by_length`: accuracy,
    NLL and ECE of the calibrated answers by document length. `output` is the folder with
    evaluation.json, reliability.png and by_length.png, if one was asked for.
    """

    model: str
    split: str
    documents: int
    metrics: Mapping[str, float]
    uncalibrated: Mapping[str, float]
    temperature: float
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    by_length: "tuple[LengthBucket, ...]"
    truncated_documents: int
    data_fingerprint: str
    same_data_as_training: bool | None
    output: Path | None
    seconds: float


@dataclass(frozen=True)
class PromotionReport:
    """`prefixprop promote` and `rollback`. `previous` is the champion before, None where there was
    none; `action`: what the history calls it, None where there was nothing to do; `moved`: whether
    `version` is the champion now (after a dry run: would be); `decision`: of the gate, None where
    it was not asked, or was asked before this search was continued; `dry_run`: nothing was changed.
    """

    model_name: str
    version: int
    previous: int | None
    description: str
    url: str
    action: "Action | None" = None
    reason: str = ""
    dry_run: bool = False
    moved: bool = True
    decision: "Decision | None" = None

    @property
    def refused(self) -> str | None:
        """Why the gate did not let it; None where it did."""
        return None if self.moved else f"{self.action}: {self.reason}"

    @property
    def changed(self) -> bool:
        return self.moved and self.version != self.previous


@dataclass(frozen=True)
class RetrainReport:
    """`prefixprop retrain`. `status`: nothing to do, promoted, held or rejected; `findings`: what
    has changed in the documents; `quality`: of the champion on the new ones, None where there were
    none or an earlier try measured it; `version`: what was registered; `promotion`: None where an
    earlier try asked the gate. `seconds` is wall time.
    """

    name: str
    status: str
    reason: str
    seconds: float
    findings: "tuple[Finding, ...]" = ()
    quality: "Quality | None" = None
    version: int | None = None
    promotion: PromotionReport | None = None


@dataclass(frozen=True)
class HistoryReport:
    """`prefixprop history`: entries from old to new; `champion` is the version in use, None where
    there is none.
    """

    model_name: str
    champion: int | None
    entries: "tuple[HistoryEntry, ...]"


@dataclass(frozen=True)
class ExportReport:
    """`prefixprop export`. `files` maps each file's path below `folder` to its size in bytes.
    `largest_difference`: of the exported folder's logits from the adapter's, at most `tolerance`;
    None for a form that is not compared.
    """

    model: str
    form: str
    folder: Path
    files: Mapping[str, int]
    largest_difference: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class CompareReport:
    """`prefixprop compare`. `rows` and `pairs` are those of components/evaluation/comparison.py;
    `missing` says which cells have no result and why; `seconds` and `cells_run` are of this call.
    """

    comparison: str
    rows: tuple[Any, ...]
    pairs: tuple[Any, ...]
    missing: tuple[str, ...]
    cells: int
    cells_run: int
    output: Path
    run_id: str
    url: str
    seconds: float


@dataclass(frozen=True)
class StudyReport:
    """`prefixprop study`. `folder` holds `files`: findings.md, figures and study.json; `cells`
    trainings and measurements took `seconds` altogether, over all the runs that it took.
    """

    study: str
    experiment: str
    folder: Path
    files: tuple[str, ...]
    metrics: Mapping[str, float]
    cells: int
    seconds: float
    run_id: str
    url: str
