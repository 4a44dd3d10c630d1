"""Loading a checkpoint without transformers' progress bars and load reports: a frozen base model
leaves a head or a pooler behind by intention.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Only errors of transformers are shown in the block; its settings are put back afterwards."""
    import torch

    if not torch.cuda.is_available():
        # transformers imports accelerate, accelerate imports deepspeed, and that warns about a
        # missing GPU unless it is told.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
