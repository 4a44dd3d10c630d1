"""Which device a rank computes on, and what follows from it: one function per question, each from
facts alone, so that a test asks them of machines that nobody has here.

The facts a newcomer gets wrong: Ray leaves all GPUs visible to a worker that asked for none;
DeepSpeed takes whatever accelerator it finds, and the device whose number stands in LOCAL_RANK,
whatever torch was told.
"""

from collections.abc import Mapping, Sequence

from components.errors import ClusterError


def rank_device(
    *,
    gpus_per_worker: float | None,
    visible: Sequence[str],
    assigned: Sequence[str] = (),
    local_rank: int = 0,
) -> str:
    """`cpu` or `cuda:<number>`, as torch counts in this process.

    gpus_per_worker: what the slot asked for; None outside of Ray, where a GPU is used if one is
    visible. visible: ids of the GPUs that this process sees, in torch's order. assigned: those of
    them that Ray gave to this worker. Raises ClusterError where the GPU is not there.
    """
    if gpus_per_worker == 0 or (gpus_per_worker is None and not visible):
        return "cpu"
    if gpus_per_worker is None:
        if local_rank >= len(visible):
            raise ClusterError(
                f"Rank {local_rank} of this machine has no GPU of its own: {len(visible)} are "
                "visible. Start one process per GPU (torchrun --nproc_per_node), or set "
                "CUDA_VISIBLE_DEVICES to nothing to compute on the CPU."
            )
        return f"cuda:{local_rank}"
    if not visible or not assigned or assigned[0] not in visible:
        raise ClusterError(
            f"cluster.gpus_per_worker is {gpus_per_worker:g}, but this worker sees no GPU of its "
            f"own (given: {', '.join(assigned) or 'none'}; visible: {', '.join(visible) or 'none'})"
            ". Install a torch with CUDA on every node, or set cluster.gpus_per_worker to 0."
        )
    return f"cuda:{visible.index(assigned[0])}"


def collective_backend(device: str) -> str:
    """What torch.distributed speaks between ranks on such devices."""
    return "nccl" if device.startswith("cuda") else "gloo"


def rank_environment(device: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which DeepSpeed finds the device: what it computes on, and in LOCAL_RANK the
    device's number; on a CPU no GPU is left in sight.
    """
    if device.startswith("cuda"):
        return {"DS_ACCELERATOR": "cuda", "LOCAL_RANK": device.partition(":")[2] or "0"}
    return {
        "DS_ACCELERATOR": "cpu",
        "LOCAL_RANK": environment.get("LOCAL_RANK", "0"),
        "CUDA_VISIBLE_DEVICES": "",
    }
