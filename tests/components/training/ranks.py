"""Run trials in real DeepSpeed ranks: every rank is a process of its own, all meet through a file.

`python -m tests.components.training.ranks RANK SIZE FOLDER` runs the cases of FOLDER/cases.json one
after the other in ONE session per (backbone, zero, precision) and writes FOLDER/results.json. A
case is {"name", "values", "folder"?, "resume"?, "stop_after"?, "toy_tokenizer"?}; a result holds
the loss history, the trained tensors' exact bytes (hash) and their values.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[3]


def run_ranks(folder: Path, cases: list[dict[str, Any]], *, size: int) -> dict[str, Any]:
    """Results by case name."""
    folder.mkdir(parents=True)
    (folder / "cases.json").write_text(json.dumps(cases))
    run_module("tests.components.training.ranks", folder, size=size)
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def run_module(module: str, folder: Path, *, size: int, seconds: float = 900) -> None:
    """`python -m MODULE RANK SIZE FOLDER` for every rank, until all of them have ended well."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }
    logs = [(folder / f"rank{rank}.log").open("w") for rank in range(size)]
    command = [sys.executable, "-m", module]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(size), str(folder)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=ROOT,
        )
        for rank, log in enumerate(logs)
    ]
    try:
        codes = [rank.wait(timeout=seconds) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
        for log in logs:
            log.close()
    assert codes == [0] * size, "\n".join(
        (folder / f"rank{rank}.log").read_text()[-3000:] for rank in range(size)
    )


@contextmanager
def meeting(rank: int, size: int, folder: Path) -> Iterator[None]:
    """Context in which this process is a rank of those that meet in `folder`, on one thread."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size
    )
    yield
    dist.barrier()
    dist.destroy_process_group()


def main(rank: int, size: int, folder: Path) -> None:
    with meeting(rank, size, folder):
        from components.training.world import join_world

        world = join_world()
        sessions: dict[str, Any] = {}
        results = {
            case["name"]: run_case(case, world, sessions, folder)
            for case in json.loads((folder / "cases.json").read_text())
        }
        if world.is_main:
            (folder / "results.json").write_text(json.dumps(results))


def toy_tokenizer() -> Any:
    """Context in which a folder's tokenizer is the toy one that stands there: for some model types
    AutoTokenizer makes one of the type's own kind of its words.
    """
    from transformers import PreTrainedTokenizerFast

    return mock.patch(
        "components.training.session.load_tokenizer",
        lambda config: PreTrainedTokenizerFast.from_pretrained(config.name_or_path),
    )


def run_case(
    case: dict[str, Any], world: Any, sessions: dict[str, Any], folder: Path
) -> dict[str, Any]:
    from components.config import ExperimentConfig, validate
    from components.tasks import prepare
    from components.training.session import open_session
    from components.training.trial import run_trial

    config = validate(ExperimentConfig, case["values"]).train_config()
    cache = Path(case["values"]["cluster"]["cache_path"])
    key = json.dumps(
        [
            config.backbone.model_dump(),
            config.zero.model_dump(),
            config.training.precision,
            config.training.gradient_checkpointing,
        ]
    )
    if key not in sessions:
        with toy_tokenizer() if case.get("toy_tokenizer") else nullcontext():
            sessions[key] = open_session(config, world, cache_path=cache)
    data = prepare(config.data, sessions[key].tokenizer, tokenizer_id="toy", cache_path=cache)
    reports: list[Any] = []
    steps = iter(range(1, 10**9))

    def wanted() -> str:
        if next(steps) == case.get("leave_after"):
            return "leave"
        return "stop" if len(reports) >= case.get("stop_after", 10**9) else "steps"

    result = run_trial(
        sessions[key],
        data,
        config,
        checkpoint_folder=Path(case.get("folder") or folder / case["name"]),
        report=reports.append,
        wanted=wanted,
        resume=case.get("resume", False),
        ranks=case.get("ranks"),
    )
    digest = hashlib.sha256(
        b"".join(tensor.numpy().tobytes() for _, tensor in sorted(result.best.items()))
    ).hexdigest()
    return {
        "outcome": result.outcome,
        "reason": result.reason,
        "losses": [report["train/loss"] for report in result.progress.history],
        "validation": [report["validation/nll"] for report in result.progress.history],
        "best": {name: tensor.flatten().tolist() for name, tensor in result.best.items()},
        "digest": digest,
        "parameters": result.trainable_parameters,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
