"""A random Llama of 348M parameters on real ranks: what a rank holds in memory of its own, and what
a further trial costs beside its steps.

    python -m tests.memory.large_model FOLDER [--ranks 2] [--steps 4] [--limit-mib N]
        [--stored float32] [--tokens 128 --documents 2] [--set zero.stage=3 ...]

prints one JSON object. FOLDER keeps the model (1.4 GB in float32) for the next measurement.
`--tokens`: all documents have as many; without it between 10 and 64. `--documents`: of a rank, in
each step.
Memory is `RssAnon` of /proc/self/status, read every 5 ms: pages of files (weights that are mapped)
are left out, because the kernel may drop them. `--limit-mib` is RLIMIT_DATA (prlimit --data), which
the kernel holds for what is private and writable, touched or not; RESERVED_MIB are added to it for
what is reserved and not touched.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "vocab_size": 32_000,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "intermediate_size": 2912,
    "max_position_embeddings": 2048,
    "pad_token_id": 1,
}
"""348M parameters, 33M of them in the embedding."""

MIB = 1024**2
DOCUMENTS = 21
RESERVED_MIB = 256
"""What a rank reserves and does not touch: stacks, tables of libraries, buffers not yet filled (102
MiB before the model is read, 202 at most in a step).
"""


def make_model(folder: Path, *, stored: str, **sizes: int) -> dict[str, Any]:
    """Write backbone, tokenizer and documents, unless they are there; the experiment."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    from tests.toy import make_experiment

    kept = folder / "experiment.json"
    if not kept.exists():
        torch.manual_seed(0)
        model = LlamaModel(LlamaConfig(**(SIZES | sizes))).to(getattr(torch, stored))
        values = make_experiment(
            folder,
            model,
            **{
                "head.pooling": "last",
                "adapter.prefix_length": 8,
                "training.micro_batch_size": 1,
                "zero": {},
            },
        )
        kept.write_text(json.dumps(values))
    values = json.loads(kept.read_text())
    assert isinstance(values, dict)
    return values


def model_bytes(folder: Path) -> int:
    """Of the weights as they are stored."""
    return sum(path.stat().st_size for path in (folder / "backbone").glob("*.safetensors"))


def status_mib(field: str) -> int:
    """A line of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) // 1024


def weights_mib(backbone: Any) -> dict[str, int]:
    """How much of the mapping of weight files is this process's own, and how much it shares with
    others, in MiB (smaps); and the weights themselves.
    """
    found = {
        "in tensors": sum(each.numel() * each.element_size() for each in backbone.parameters())
    }
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if not first.endswith(":"):
            inside = line.endswith(".safetensors")
        elif inside and first.startswith(("Private", "Shared", "Anonymous")):
            kind = first.rstrip(":").partition("_")[0]
            found[kind] = found.get(kind, 0) + int(line.split()[1]) * 1024
    return {name: value // MIB for name, value in found.items()}


class Meter:
    """The highest anonymous memory of this process in each phase, in MiB."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.phase = "start"
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.read()
            time.sleep(0.005)

    def read(self) -> int:
        """MiB now."""
        now = status_mib("RssAnon")
        untouched = f"{self.phase}, untouched"
        self.peaks[untouched] = max(self.peaks.get(untouched, 0), status_mib("VmData") - now)
        self.peaks[self.phase] = max(self.peaks.get(self.phase, 0), now)
        return now

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Peaks count for this phase until the block ends."""
        self.phase = phase
        self.read()
        yield
        self.phase = f"after {phase}"
        self.read()


def _prepare(folder: Path, values: dict[str, Any], tokens: int) -> None:
    """Tokenise once, as a search's driver does: ranks read what is there."""
    from components.backbones import load_tokenizer
    from components.config import ExperimentConfig, validate
    from components.tasks import prepare
    from tests.toy import make_documents

    words = {"min_words": tokens, "max_words": tokens} if tokens else {}
    make_documents(folder / "train.jsonl", DOCUMENTS, seed=1, **words)
    config = validate(ExperimentConfig, values).train_config()
    tokenizer = load_tokenizer(config.backbone)
    prepare(config.data, tokenizer, tokenizer_id="toy", cache_path=folder / "cache")


def run(folder: Path, values: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Start the ranks and wait for them; what each of them wrote, or its last lines."""
    _prepare(folder, values, options.tokens)
    meeting = folder / "meeting"
    meeting.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    logs = [folder / f"rank{rank}.log" for rank in range(options.ranks)]
    command = [sys.executable, "-m", "tests.memory.large_model", *sys.argv[1:]]
    ranks = []
    for rank, log in enumerate(logs):
        environment |= {"LARGE_MODEL_RANK": str(rank)}
        with log.open("w") as file:
            ranks.append(
                subprocess.Popen(
                    command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=ROOT
                )
            )
    try:
        while any(rank.poll() is None for rank in ranks):
            if any(rank.poll() for rank in ranks):
                break
            time.sleep(0.2)
    finally:
        for each in ranks:
            each.kill()
    codes = [rank.wait() for rank in ranks]
    if any(code > 0 for code in codes):
        failed = next(index for index, code in enumerate(codes) if code > 0)
        return {"failed": logs[failed].read_text().strip().splitlines()[-1]}
    lines = [log.read_text().strip().splitlines()[-1] for log in logs]
    return {"model MiB": model_bytes(folder) // MIB, "ranks": [json.loads(line) for line in lines]}


def one_rank(folder: Path, values: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Load, and two trials of some steps each."""
    meter = Meter()
    rank = int(os.environ["LARGE_MODEL_RANK"])
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(options.ranks), "LOCAL_RANK": str(rank)}
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=options.ranks
    )
    from components.config import ExperimentConfig, validate
    from components.tasks import prepare
    from components.training.deepspeed_import import import_deepspeed
    from components.training.session import open_session
    from components.training.world import join_world

    import_deepspeed()
    world = join_world()
    config = validate(ExperimentConfig, values).train_config()
    cache = folder / "cache"
    if options.limit_mib:
        limit = (options.limit_mib + RESERVED_MIB) * MIB
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    started = time.monotonic()
    with meter.during("load"):
        session = open_session(config, world, cache_path=cache)
    seconds = {"load": time.monotonic() - started}
    loaded = meter.read()
    data = prepare(config.data, session.tokenizer, tokenizer_id="toy", cache_path=cache)
    losses: list[list[float]] = []
    for name in ("first trial", "second trial"):
        with meter.during(name):
            timed, of_steps = _trial(session, data, config, options)
        seconds |= {f"{name}: {what}": value for what, value in timed.items()}
        losses.append(of_steps)
    assert losses[0] == losses[1], losses
    after = meter.read()
    world.barrier()
    return {
        "anonymous MiB": meter.peaks | {"loaded": loaded, "at the end": after},
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "losses": losses[0],
        "weights MiB": weights_mib(session.backbone),
        "linear": torch.nn.functional.linear.__module__,
    }


def _trial(
    session: Any, data: Any, config: Any, options: argparse.Namespace
) -> tuple[dict[str, float], list[float]]:
    from components.tasks import task_named

    task, times, losses = task_named(config.data.task), [time.monotonic()], []
    split = data.splits["train"]
    with session.engine(config, data.labels) as (_, engine):
        times.append(time.monotonic())
        for step in range(options.steps):
            first = options.documents * (options.ranks * step + session.world.rank)
            rows = [(first + each) % DOCUMENTS for each in range(options.documents)]
            batch = task.batch(split, _indices(rows), pad_token_id=session.pad_token_id)
            labels = batch.pop("labels")
            loss = task.loss(engine.forward(**batch).logits, labels, reduction="sum")
            engine.deepspeed.backward(loss)
            engine.deepspeed.step()
            losses.append(float(loss.detach()))
            times.append(time.monotonic())
    times.append(time.monotonic())
    spans = [later - earlier for earlier, later in itertools.pairwise(times)]
    whole = spans[2:-1] or spans[1:-1]
    return {
        "beside its steps": spans[0] + spans[-1],
        "first step": spans[1],
        "later step": sum(whole) / len(whole),
    }, losses


def _indices(rows: list[int]) -> Any:
    import numpy as np

    return np.array(rows, dtype=np.int64)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=0)
    parser.add_argument("--documents", type=int, default=1)
    parser.add_argument("--limit-mib", type=int, default=0)
    parser.add_argument("--stored", default="float32")
    parser.add_argument("--layers", type=int, default=SIZES["num_hidden_layers"])
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    folder = options.folder.resolve()
    values = make_model(folder, stored=options.stored, num_hidden_layers=options.layers)
    from components.settings import set_path

    if options.tokens:
        set_path(values, "data.max_tokens", options.tokens)
    for change in options.set:
        path, _, value = change.partition("=")
        try:
            set_path(values, path, json.loads(value))
        except json.JSONDecodeError:
            set_path(values, path, value)
    if "LARGE_MODEL_RANK" in os.environ:
        print(json.dumps(one_rank(folder, values, options)))
    else:
        print(json.dumps(run(folder, values, options), indent=1))


if __name__ == "__main__":
    main()
