"""How good, and how honest, are class probabilities? Plain numpy: no torch, no store."""

from components.evaluation.calibration import adaptive_ece, ece, ece_upper_edge_10, mce
from components.evaluation.metrics import accuracy_interval, brier, classification_metrics, macro_f1, multiple_choice_metrics, nll
from components.evaluation.reliability import ReliabilityDiagram, plot_reliability, reliability_diagram
from components.evaluation.temperature import calibration_report, fit_temperature, softmax

__all__ = [
    "ReliabilityDiagram",
    "accuracy_interval",
    "adaptive_ece",
    "brier",
    "calibration_report",
    "classification_metrics",
    "ece",
    "ece_upper_edge_10",
    "fit_temperature",
    "macro_f1",
    "mce",
    "multiple_choice_metrics",
    "nll",
    "plot_reliability",
    "reliability_diagram",
    "softmax",
]
