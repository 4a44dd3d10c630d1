"""DeepSpeed, imported where it is needed, and quiet."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

import torch


def import_deepspeed() -> Any:
    """DeepSpeed without its CPU shared-memory operator. Which accelerator it uses was decided when
    this process joined its world; alone it is torch's.

    Symptom: on a CPU the first start compiles that C++ operator (20 s, needs a compiler), which
    only inference kernels use. Remove once DeepSpeed builds it on first use.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings(
        "ignore", message=r".*torch\.distributed\.\w+` is deprecated", category=FutureWarning
    )
    with _without("mlflow"):
        import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return deepspeed


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Let `import <name>` fail within the block, unless it was imported before.

    Symptom: DeepSpeed's autotuner, which nobody uses here, imports all of MLflow where it is
    installed: 3 s and 60 MiB in every worker. Remove once DeepSpeed imports it where it is used.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = cast(ModuleType, None)
    try:
        yield
    finally:
        del sys.modules[name]
