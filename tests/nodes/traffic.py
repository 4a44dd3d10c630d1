"""Bytes that one rank sends in a step, by its machine's own counter: `python -m tests.nodes.traffic
RANK SIZE FOLDER` on every machine, for the cases of FOLDER/cases.json (name -> experiment).

Two trainings that differ in nothing but their number of steps are subtracted from one another, so
that the meeting of the ranks, the optimizer's first step and the evaluation drop out. What the
counter has beside that is headers: FRAME_BYTES for each packet that was handed to the link.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

LINK = "eth0"
FRAME_BYTES = 14 + 20 + 32
"""Ethernet, IP, TCP with time stamps. The virtual link takes up to 64 KB as one packet."""
SHORT, LONG = 3, 11
"""Steps of the two trainings."""
SETTLE_SECONDS = 0.3
"""Until the last acknowledgement is sent."""


def sent() -> tuple[int, int]:
    """Bytes and packets that this machine has put on its link."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == LINK:
            fields = numbers.split()
            return int(fields[8]), int(fields[9])
    raise AssertionError(f"no link {LINK}")


def main(rank: int, size: int, folder: Path) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": "0"}
    os.environ["GLOO_SOCKET_IFNAME"] = LINK
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size
    )
    from components.training.world import join_world

    world = join_world()
    cases = json.loads((folder / "cases.json").read_text())
    found = {name: measure(values, world, folder / name) for name, values in cases.items()}
    (folder / f"sent{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def measure(values: dict[str, Any], world: Any, folder: Path) -> dict[str, float]:
    """Payload bytes and packets that this rank sends in a step, and what is trained and sharded."""
    from components.config import ExperimentConfig, validate
    from components.tasks import prepare
    from components.training.session import open_session
    from components.training.trial import run_trial

    config = validate(ExperimentConfig, values).train_config()
    cache = Path(values["cluster"]["cache_path"])
    session = open_session(config, world, cache_path=cache)
    data = prepare(config.data, session.tokenizer, tokenizer_id="toy", cache_path=cache)
    counted: dict[int, list[int]] = {}
    for steps in (SHORT, LONG):
        training = config.training.model_copy(update={"max_steps": steps})
        before = settled(world)
        result = run_trial(
            session,
            data,
            config.model_copy(update={"training": training}),
            checkpoint_folder=folder / str(steps),
        )
        after = settled(world)
        counted[steps] = [late - early for late, early in zip(after, before, strict=True)]
    in_bytes, packets = (
        (long - short) / (LONG - SHORT)
        for long, short in zip(counted[LONG], counted[SHORT], strict=True)
    )
    return {
        "payload": in_bytes - FRAME_BYTES * packets,
        "packets": packets,
        "trained": result.trainable_parameters,
        "loss": result.progress.history[-1]["train/loss"],
        "frozen": sum(
            getattr(each, "ds_numel", each.numel())
            for name, each in session.backbone.named_parameters()
            if "embed" not in name
        ),
    }


def settled(world: Any) -> tuple[int, int]:
    """The counter while no rank sends."""
    world.barrier()
    time.sleep(SETTLE_SECONDS)
    found = sent()
    world.barrier()
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
