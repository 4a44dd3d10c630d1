"""Bytes of what is trained, by ZeRO stage: what stays, and what the end of the backward pass and
the optimizer's update need for a moment. Everything trained is float32.

The facts a newcomer gets wrong: from stage 1 on DeepSpeed keeps a second, flat copy of the rank's
share even of float32 parameters (stage_1_and_2.py, `single_partition_of_fp32_groups`; stage3.py,
`fp32_partitioned_groups_flat`); and its bucket of gradients has the size of the setting, however
few gradients there are: 200 MB beside an adapter of one, as soon as the memory is a GPU's. On a CPU
what is never written takes no room.
"""

from dataclasses import dataclass

FLOAT32 = 4
REDUCED_ELEMENTS = 500_000_000
"""DeepSpeed's MEMORY_OPT_ALLREDUCE_SIZE: gradients that stage 0 flattens at a time."""


@dataclass(frozen=True)
class TrainedMemory:
    """Bytes of one rank. `stays`: parameters, copies and moments; `after_backward`,
    `reduction`, `update`: at these moments, beyond that; `bucket`: of gradients, while they come.
    """

    stays: int
    after_backward: int
    reduction: int
    update: int
    bucket: int


def trained_memory(
    trainable: int, *, stage: int, num_workers: int, bucket_elements: int, gpu: bool
) -> TrainedMemory:
    """For `trainable` scalars shared by `num_workers` ranks."""
    whole, share = FLOAT32 * trainable, FLOAT32 * -(-trainable // num_workers)
    if stage == 0:
        # Gradients are flattened for the reduction, alone too (engine.py, allreduce_bucket);
        # AdamW's temporaries are those of one parameter on a CPU, of all on a GPU (foreach).
        temporaries = 2 * whole if gpu else 0
        return TrainedMemory(
            stays=3 * whole,
            after_backward=whole,
            reduction=whole + min(whole, FLOAT32 * REDUCED_ELEMENTS),
            update=whole + temporaries,
            bucket=0,
        )
    bucket = FLOAT32 * (bucket_elements if gpu else min(trainable, bucket_elements))
    # The gradients' share flattened for the update, and AdamW's two temporaries over it.
    update = 3 * share
    if stage < 3:
        # Stage 1 keeps the other ranks' gradients until the update.
        gradients = whole if stage == 1 else share
        return TrainedMemory(
            stays=whole + 3 * share,
            after_backward=gradients + bucket,
            reduction=0,
            update=update,
            bucket=bucket,
        )
    # Parameters, their copy, gradients and two moments, all of this rank's share; the bucket stays.
    return TrainedMemory(
        stays=5 * share + bucket, after_backward=whole, reduction=0, update=update, bucket=0
    )


def times(memory: TrainedMemory, count: int) -> TrainedMemory:
    """Of so many adapters, whose engines take their gradients and update one after the other."""
    return TrainedMemory(
        stays=count * memory.stays,
        after_backward=count * memory.after_backward,
        reduction=(count - 1) * memory.after_backward + memory.reduction,
        update=(count - 1) * memory.after_backward + memory.update,
        bucket=count * memory.bucket,
    )
