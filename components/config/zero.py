"""Settings of DeepSpeed ZeRO: the section `zero`."""

from typing import Annotated

from pydantic import Field

from components.settings import Config, Count, PositiveInt


class ZeroConfig(Config):
    """DeepSpeed ZeRO."""

    stage: Annotated[int, Field(ge=0, le=3)] = 2
    """0: none; 1: optimizer states sharded; 2: and gradients; 3: and parameters (for a backbone
    that does not fit on one device).
    """
    param_persistence_threshold: Count = 10_000
    """Stage 3: parameters with fewer elements stay whole on every worker."""
    reduce_bucket_size: PositiveInt = 50_000_000
    """Elements reduced in one collective."""
    max_live_parameters: Count | None = None
    """Stage 3: elements that a worker may keep whole for their next use. Null: two layers while
    they are computed with, and nothing afterwards.
    """
    prefetch_bucket_size: Count = 0
    """Stage 3: elements that are gathered ahead of their use."""
