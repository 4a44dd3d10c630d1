"""How good, and how honest, are class probabilities? Plain numpy: no torch, no store."""

from components.evaluation.bootstrap import bootstrap_interval, mean_interval
from components.evaluation.by_length import (
    LengthBucket,
    by_document_length,
    ece_if_calibrated,
    length_bucket,
)
from components.evaluation.by_length_figure import plot_by_length
from components.evaluation.calibration import (
    adaptive_ece,
    ece,
    ece_upper_edge_10,
    mce,
    overconfidence,
)
from components.evaluation.metrics import (
    accuracy_interval,
    brier,
    classification_metrics,
    macro_f1,
    multiple_choice_metrics,
    nll,
)
from components.evaluation.reliability import (
    ReliabilityDiagram,
    before_and_after,
    reliability_diagram,
)
from components.evaluation.reliability_figure import plot_reliability
from components.evaluation.temperature import calibration_report, fit_temperature, softmax

__all__ = [
    "LengthBucket",
    "ReliabilityDiagram",
    "accuracy_interval",
    "adaptive_ece",
    "before_and_after",
    "bootstrap_interval",
    "brier",
    "by_document_length",
    "calibration_report",
    "classification_metrics",
    "ece",
    "ece_if_calibrated",
    "ece_upper_edge_10",
    "fit_temperature",
    "length_bucket",
    "macro_f1",
    "mce",
    "mean_interval",
    "multiple_choice_metrics",
    "nll",
    "overconfidence",
    "plot_by_length",
    "plot_reliability",
    "reliability_diagram",
    "softmax",
]
