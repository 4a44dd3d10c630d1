"""Temperature scaling (Guo et al. 2017, section 4.2): one number that divides the logits. It
changes confidences and no answer. Fit it on VALIDATION documents only.

Shapes: N documents, C classes.
"""

import numpy as np

from components.evaluation.calibration import Floats, Integers, ece, top_class
from components.evaluation.metrics import nll

# On documents that are all answered right the best temperature is 0: the ends of the range keep
# every probability finite.
LOWEST, HIGHEST = 0.05, 20.0
BISECTIONS = 60


def softmax(logits: Floats, *, temperature: float = 1.0) -> Floats:
    """Probabilities (N, C), float64, of logits (N, C) divided by the temperature."""
    scaled_NC = logits.astype(np.float64) / temperature
    exponent_NC = np.exp(scaled_NC - scaled_NC.max(axis=1, keepdims=True))
    result: Floats = exponent_NC / exponent_NC.sum(axis=1, keepdims=True)
    return result


def fit_temperature(logits: Floats, label_ids: Integers) -> float:
    """The temperature in [0.05, 20] with the least NLL for logits (N, C) and labels (N,).
    Log-probabilities do as logits.

    NLL is convex in the inverse temperature b, with slope mean(expected logit - logit of the
    label): its zero is found by bisection. Raises ValueError for logits that are not finite.
    """
    if logits.ndim != 2 or label_ids.shape != logits.shape[:1] or len(label_ids) == 0:
        raise ValueError(
            f"a temperature needs logits (N, C) and labels (N,) with N > 0, got {logits.shape} and "
            f"{label_ids.shape}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite to fit a temperature")
    logits_NC = logits.astype(np.float64)
    of_label_N = logits_NC[np.arange(len(label_ids)), label_ids]

    def slope(inverse: float) -> float:
        expected_N = (softmax(logits_NC, temperature=1 / inverse) * logits_NC).sum(axis=1)
        return float((expected_N - of_label_N).mean())

    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(BISECTIONS):
        # In the logarithm: the range spans a factor of 400.
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(min(max((low * high) ** -0.5, LOWEST), HIGHEST))


def calibration_report(
    logits: Floats, label_ids: Integers, *, num_bins: int = 15
) -> dict[str, float | int]:
    """The content of an adapter's calibration.json: the temperature fitted on these validation
    documents, ECE and NLL without and with it, and how many documents there were.

    ECE and NLL after fitting are measured on the same documents, so they flatter: the honest
    figures are those on test data.
    """
    temperature = fit_temperature(logits, label_ids)
    report: dict[str, float | int] = {"temperature": temperature}
    for moment, value in (("before", 1.0), ("after", temperature)):
        probabilities_NC = softmax(logits, temperature=value)
        confidence_N, correct_N = top_class(probabilities_NC, label_ids)
        report[f"ece_{moment}"] = ece(confidence_N, correct_N, num_bins=num_bins)
        report[f"nll_{moment}"] = nll(probabilities_NC, label_ids)
    return report | {"validation_size": len(label_ids)}
