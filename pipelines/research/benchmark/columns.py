"""What the tables of README.md show of `search`, `data` and `startup`: a head and a row per
case.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Cases = Sequence[Mapping[str, Any]]
Table = tuple[Sequence[str], list[Sequence[str]]]


def search_columns(cases: Cases) -> Table:
    """Ours / the peer's in one cell, and what reads each document once where it was measured; a
    peer that ran a part of the grid says how many trials.
    """
    head = (
        "case",
        "peer's loop",
        "24 trials, s",
        "trials per hour",
        "ratio",
        "a further trial beyond its training, s",
        "processor time, s",
        "peak memory, GB",
        "largest difference",
        "each document read once: s, trials per hour, ratio, processor time",
    )
    return head, [_search_row(case) for case in cases]


def _search_row(case: Mapping[str, Any]) -> Sequence[str]:
    mine, other, third = case["ours"], case["theirs"], case.get("read_once")
    part = "" if other["trials_run"] == mine["trials_run"] else f" ({other['trials_run']} run)"
    return (
        case["case"],
        case["peer"].removeprefix("one TorchTrainer per trial, "),
        f"{mine['seconds_for_the_grid']:.0f} / {other['seconds_for_the_grid']:.0f}{part}",
        f"{mine['trials_per_hour']:,.0f} / {other['trials_per_hour']:,.0f}",
        f"{case['ratio']:.1f}",
        (
            f"{mine['beyond_training_seconds']['median']:.2f} / "
            f"{other['beyond_training_seconds']['median']:.1f}"
        ),
        (
            f"{mine['cpu_seconds']:.0f} for {mine['trials_run']} / {other['cpu_seconds']:.0f} for "
            f"{other['trials_run']}"
        ),
        f"{mine['peak_memory_bytes'] / 1e9:.1f} / {other['peak_memory_bytes'] / 1e9:.1f}",
        f"{case['largest_difference']:.0e}",
        "-" if third is None else _read_once(third, case["ratio_read_once"]),
    )


def _read_once(side: Mapping[str, Any], ratio: float) -> str:
    return (
        f"{side['seconds_for_the_grid']:.0f}, {side['trials_per_hour']:,.0f}, {ratio:.1f}, "
        f"{side['cpu_seconds']:.0f} s"
    )


def data_columns(cases: Cases) -> Table:
    """Medians; padding of the peer shuffled and, as its best, grouped by length."""
    head = (
        "documents",
        "prepared per s",
        "ratio",
        "ratio in processor time",
        "prepared again, s",
        "batched per s",
        "ratio",
        "padding, ours",
        "shuffled",
        "grouped by length",
    )
    return head, [_data_row(case) for case in cases]


def _data_row(case: Mapping[str, Any]) -> Sequence[str]:
    def both(name: str, form: str) -> str:
        return f"{case['ours'][name]['median']:{form}} / {case['theirs'][name]['median']:{form}}"

    return (
        case["case"],
        both("prepared_documents_per_second", ",.0f"),
        f"{case['ratio']:.2f}",
        f"{case['cpu_ratio']:.2f}",
        both("prepare_again_seconds", ".3f"),
        both("batched_documents_per_second", ",.0f"),
        f"{case['batching_ratio']:.0f}",
        f"{case['ours']['padding_share']['median']:.1%}",
        f"{case['theirs']['padding_share']['median']:.1%}",
        f"{case['theirs']['padding_share_grouped']['median']:.1%}",
    )


def startup_columns(cases: Cases) -> Table:
    """Seconds with their range, and what they are held against."""
    head = ("what", "seconds (range)", "processor seconds", "against")
    return head, [_startup_row(case) for case in cases]


def _startup_row(case: Mapping[str, Any]) -> Sequence[str]:
    mine = case["ours"]
    against = (
        f"target {case['target_seconds']} s"
        if "target_seconds" in case
        else f"warm {case['warm']['median']:.2f} s"
    )
    processor = f"{mine['cpu_seconds']:.2f}" if "cpu_seconds" in mine else "-"
    return (
        case["case"],
        f"{mine['median']:.2f} ({mine['min']:.2f} to {mine['max']:.2f})",
        processor,
        against,
    )


def memory_columns(cases: Cases) -> Table:
    """The plan's estimate beside what was measured, and where the plan sees the worst."""
    head = ("setting", "estimate, MiB", "measured, MiB", "difference", "worst instant of the plan")
    return head, [
        (
            case["case"],
            f"{case['estimate_bytes'] / 2**20:,.0f}",
            f"{case['measured_bytes'] / 2**20:,.0f}",
            f"{case['difference']:+.1%}",
            case["estimate"]["worst_instant"],
        )
        for case in cases
    ]
