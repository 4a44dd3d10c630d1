"""DeepSpeed, imported where it is needed, and quiet."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar, cast

import torch

Decorated = TypeVar("Decorated")


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

    with _nothing_compiled():
        import_module("deepspeed.runtime.zero.muon.original_muon")
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


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Let DeepSpeed's decorator for torch.compile do nothing within the block.

    Symptom: DeepSpeed's Muon optimizer, which nobody uses here, compiles three functions where it
    is imported (by the first engine), and with them comes torch's inductor: 41 MiB and 1.2 s of
    processor time in every worker. Remove once it compiles them where they are called.
    """
    from deepspeed.runtime import compiler

    stock = compiler.compile
    compiler.compile = _as_it_is
    try:
        yield
    finally:
        compiler.compile = stock


def _as_it_is() -> Callable[[Decorated], Decorated]:
    return lambda function: function
