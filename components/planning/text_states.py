"""What keeping documents' states takes on disk, and how often each document is read without it."""

from collections.abc import Sequence

from components.backbones import BackboneShape
from components.config.experiment import TrainConfig
from components.planning.memory import number_bytes
from components.planning.wanted import Wanted


def states_bytes_per_token(settings: Sequence[TrainConfig], shape: BackboneShape) -> int:
    """Keys and values of every layer for one token, in the numbers of the widest training."""
    numbers = 2 * shape.layers * shape.key_value_width
    return numbers * max(number_bytes(training, shape) for training in settings)


def keeping_advice(wanted: Wanted, shape: BackboneShape, documents: int | None) -> list[str]:
    """A line where states could be kept, are not, and each document would be read more than once.
    `documents`: of training; None: not known.
    """
    if not all(
        training.adapter.text_is_read_apart and training.training.text_states == "anew"
        for training in wanted.settings
    ):
        return []
    epochs = max(training.training.epochs for training in wanted.settings)
    readings = epochs * -(-wanted.trials // wanted.trials_per_slot)
    if readings == 1:
        return []
    of_token = states_bytes_per_token(wanted.settings, shape)
    if documents is None:
        size = f"{of_token / 1024:,.1f} KiB for each of their tokens"
    else:
        most = max(training.data.max_tokens for training in wanted.settings)
        size = f"{documents * most * of_token / 1024**3:.1f} GiB at most"
    return [
        "training.text_states=kept would read each training document once instead of up to "
        f"{readings:,} times, and keep {size} below cluster.cache_path."
    ]
