"""Adapters that answer: texts -> probabilities, questions -> candidates, the registered model."""

from components.inference.choose import choose
from components.inference.classify import classify

__all__ = ["choose", "classify"]
