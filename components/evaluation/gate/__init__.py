"""Is a challenger better than the champion, on documents that neither was chosen by? Plain numpy
and scipy: no torch, no store.
"""

from components.evaluation.gate.decision import Answers, Check, Decision, decide
from components.evaluation.gate.settings import GateConfig
from components.evaluation.gate.slices import SliceGain

__all__ = ["Answers", "Check", "Decision", "GateConfig", "SliceGain", "decide"]
