"""Driver and workers compute with the same code and the same packages, or results would belong to
neither. Compared when a slot's workers start.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.errors import ClusterError
from components.registry import code_fingerprint
from components.registry.environment import installed_version

if TYPE_CHECKING:
    from components.training.world import World

PACKAGES = ("torch", "transformers", "deepspeed", "numpy", "ray")
"""Whose versions decide numbers, or whether processes understand each other."""


def versions() -> dict[str, str]:
    """Of this process: the code's fingerprint and installed versions. Imports nothing heavy. Of
    torch the build (+cpu, +cu126) is left out: a driver may have no GPU.
    """
    found = {package: installed_version(package) or "none" for package in PACKAGES}
    return {"code": code_fingerprint()} | {
        package: version.partition("+")[0] for package, version in found.items()
    }


def check_versions(driver: Mapping[str, str]) -> dict[str, str]:
    """This worker's versions, which are the driver's. Raises ClusterError with all that differ."""
    found = versions()
    other = [
        f"{name} {found[name]} (the driver: {driver[name]})"
        for name in found
        if name in driver and found[name] != driver[name]
    ]
    if other:
        raise ClusterError(
            f"A worker runs {', '.join(other)}. Submit with --working-dir, and install "
            "constraints.txt on every node (or take one image), so that all run the same."
        )
    return found


def check_builds(world: "World", *, build: str) -> None:
    """Compare what torch was built for (CUDA's version) between ranks; the driver may have another.
    Raises ClusterError.
    """
    builds = world.gather(build)
    if len(set(builds)) > 1:
        told = ", ".join(f"rank {rank}: {each}" for rank, each in enumerate(builds))
        raise ClusterError(
            f"The ranks' torch was built for different CUDA versions ({told}). Install the same "
            "build on every node of the slot."
        )
