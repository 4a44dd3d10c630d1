"""What the two kernel-decomposed methods have in common: a prefix outside the softmax, through a
kernel smoother, times a trained factor alpha per layer.
"""

from typing import Annotated, Literal

from pydantic import Field

from components.adapters.methods.method import Prefix


class KernelPrefixSettings(Prefix):
    """A prefix outside the softmax: a kernel smoother over it, added with a trained factor alpha
    per layer.
    """

    trains_with_prefix = True

    kernel: Literal["exp", "rbf", "polynomial"] = "exp"
    """K'(q, k): exp(q.k/sqrt(E)), exp(-|q-k|^2 / (2 lengthscale^2)), or (q.k/sqrt(E) + 1)^2, E the
    head size.
    """
    lengthscale: Annotated[float, Field(ge=1e-6, le=1e6)] = 64.0
    """Width of the RBF kernel. Only read with `rbf`."""
    alpha_init: Annotated[float, Field(ge=-1e3, le=1e3)] = 0.005
    """Starting value of alpha in every layer."""
