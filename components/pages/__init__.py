"""A finished search as pictures and as one HTML page, from plain values: no store, no torch."""

from components.pages.champion import against_champion
from components.pages.cost import cost_and_quality
from components.pages.curves import learning_curves
from components.pages.marks import trial_colours
from components.pages.report import report_html
from components.pages.settings_picture import searched_settings
from components.pages.values import (
    Contestant,
    Evaluation,
    GateVerdict,
    Outcome,
    Rule,
    Score,
    SearchPage,
    TrialLine,
)

__all__ = [
    "Contestant",
    "Evaluation",
    "GateVerdict",
    "Outcome",
    "Rule",
    "Score",
    "SearchPage",
    "TrialLine",
    "against_champion",
    "cost_and_quality",
    "learning_curves",
    "report_html",
    "searched_settings",
    "trial_colours",
]
