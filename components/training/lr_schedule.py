"""The learning rate as a pure function of the step: linear warm-up, then linear, cosine or no
decay.
"""

import math


def lr_factor(step: int, *, total_steps: int, warmup_ratio: float, lr_schedule: str) -> float:
    """Share of the peak learning rate for optimizer step `step` (0 is the first of `total_steps`).

    The warm-up rises to 1 over ceil(warmup_ratio * total_steps) steps; the decay reaches 0 after
    the last step.
    """
    warmup_steps = math.ceil(warmup_ratio * total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if lr_schedule == "constant":
        return 1.0
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 1.0 - progress if lr_schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
