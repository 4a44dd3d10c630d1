"""What a retraining tells monitoring at its end, through Ray's own metrics endpoint: that it ended
and how, since when the champion is champion, and whether it is more confident than right.

Told inside a job of a cluster only: nobody watches a retraining that was typed. The fact a newcomer
gets wrong: Ray serves these numbers for twenty seconds after the job has ended, so what collects
them has to come by oftener than that, and to look back.
"""

import os
import time
from calendar import timegm
from collections.abc import Callable, Sequence
from typing import Literal

from components.config import ExperimentConfig
from components.errors import RegistryError
from components.jobs import INSIDE_A_JOB
from components.registry import open_tracker
from components.registry.history import HistoryEntry
from pipelines.failures import one_line
from pipelines.retraining.champion_quality import Quality

Ended = Literal["done", "failed"]


def tell_monitoring(
    name: str,
    ended: Ended,
    config: ExperimentConfig,
    *,
    quality: Quality | None,
    tracking_uri: str,
    ray_address: str | None,
    say: Callable[[str], None],
) -> None:
    """Tell how the retraining `name` ended; outside of a job nothing. What goes wrong is said and
    harms nothing.
    """
    if INSIDE_A_JOB not in os.environ:
        return
    from components.jobs.cluster import joined_cluster

    try:
        since = _champion_since(config, tracking_uri)
        with joined_cluster(ray_address, code=()):
            _set(name, ended, config.model_name, since=since, quality=quality)
    # A service that is away may raise anything.
    except Exception as error:  # noqa: BLE001
        say(f"monitoring was not told how this ended: {one_line(error)}")


def _champion_since(config: ExperimentConfig, tracking_uri: str) -> float | None:
    """None too where the registry has no such model yet, or does not answer: that a retraining has
    ended is told all the same.
    """
    try:
        tracker = open_tracker(config.registry.kind, tracking_uri)
        return champion_since(tracker.history(config.model_name))
    except RegistryError:
        return None


def champion_since(history: Sequence[HistoryEntry]) -> float | None:
    """Unix time at which the present champion became it; None where there is none."""
    moved = [entry for entry in history if entry.champion_after != entry.champion_before]
    if not moved or moved[-1].champion_after is None:
        return None
    return float(timegm(time.strptime(moved[-1].time, "%Y-%m-%dT%H:%M:%SZ")))


def _set(
    name: str, ended: Ended, model: str, *, since: float | None, quality: Quality | None
) -> None:
    from ray.util.metrics import Gauge

    Gauge(
        "prefixprop_retraining_ended_timestamp_seconds",
        "Unix time at which a retraining ended, by outcome.",
        ("retraining", "outcome"),
    ).set(time.time(), {"retraining": name, "outcome": ended})
    found = {
        "since_timestamp_seconds": (since, "Unix time since when the champion is champion."),
        "overconfidence": (
            quality and quality.overconfidence,
            "Mean confidence minus accuracy of the champion on documents after its training.",
        ),
        "overconfidence_error": (
            quality and quality.overconfidence_error,
            "Standard error of that, were the champion calibrated.",
        ),
    }
    for what, (value, meaning) in found.items():
        if value is not None:
            Gauge(f"prefixprop_champion_{what}", meaning, ("model",)).set(value, {"model": model})
