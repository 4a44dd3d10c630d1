"""What runs are called for people: short enough for a column, the telling part first."""

from collections.abc import Mapping
from typing import Any

SHORT = {
    "adapter.prefix_length": "P",
    "optimizer.learning_rate": "lr",
    "optimizer.head_learning_rate": "head_lr",
    "training.epochs": "epochs",
}
LONGEST_VALUE = 24


def point_words(point: Mapping[str, Any]) -> str:
    """`P=4 lr=5e-3`."""
    return " ".join(f"{_name(path)}={_value(value)}" for path, value in point.items())


def trial_name(name: str, point: Mapping[str, Any]) -> str:
    """`001 P=4 lr=5e-3` of trial-001."""
    return f"{name.removeprefix('trial-')} {point_words(point)}".strip()


def ended_name(name: str, outcome: str) -> str:
    """The name of a run whose trial did not simply complete."""
    return name if outcome == "completed" else f"{name} - {outcome}"


def _name(path: str) -> str:
    return SHORT.get(path, path.rpartition(".")[2])


def _value(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)[:LONGEST_VALUE]
    if value == 0 or 0.1 <= abs(value) < 1000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
