"""What one retraining may take: trials and tokens are reckoned before anything trains, time is
watched.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from components.config import ExperimentConfig
from components.config.retraining import LimitsConfig
from components.config.steps import most_steps, steps_per_epoch
from components.errors import ConfigError, WorkFailed
from components.planning import search_wanted

if TYPE_CHECKING:
    from components.data import PreparedData


def check_trials(limits: LimitsConfig, config: ExperimentConfig) -> None:
    """Raise ConfigError where the search has more trials than are allowed."""
    trials = search_wanted(config).trials
    if limits.trials is not None and trials > limits.trials:
        raise ConfigError(
            f"limits.trials: the search has {trials} trials, {limits.trials} are allowed. Give "
            "round_champion (or search, before there is a champion) fewer values, or raise it."
        )


def check_tokens(limits: LimitsConfig, config: ExperimentConfig, data: "PreparedData") -> None:
    """Raise ConfigError where all trials and confirming seeds, each to its end, train on more
    tokens than are allowed.
    """
    if limits.tokens is None:
        return
    wanted = tokens_at_most(config, data)
    if wanted > limits.tokens:
        raise ConfigError(
            f"limits.tokens: the search may train on {wanted:,} tokens, {limits.tokens:,} are "
            "allowed. Give it fewer trials or epochs, or raise it."
        )


def tokens_at_most(config: ExperimentConfig, data: "PreparedData") -> int:
    """Tokens of all trials and confirming seeds, none of them stopped early."""
    wanted, train = search_wanted(config), data.splits["train"]
    trainings = [training for _, training in wanted.trainings]
    shape = {"num_documents": len(train), "world_size": config.cluster.num_workers}
    steps = most_steps(trainings, **shape)
    assert steps is not None  # the number of documents is known
    epoch = min(steps_per_epoch(training, **shape) for training in trainings)
    confirming = 0 if config.gate is None else config.gate.confirm_seeds
    return round(int(train.tokens.sum()) * steps / epoch * (wanted.trials + confirming))


@contextmanager
def deadline(limits: LimitsConfig) -> Iterator[None]:
    """Interrupt the block, as Ctrl-C does, when the allowed time is over; raises WorkFailed then.
    For the main thread.
    """
    if limits.hours is None:
        yield
        return
    over = threading.Event()

    def interrupt() -> None:
        over.set()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(limits.hours * 3600, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt:
        if not over.is_set():
            raise
        raise WorkFailed(
            f"limits.hours: {limits.hours:g} hours are over. What was trained is kept."
        ) from None
    finally:
        timer.cancel()
