"""One rank of a setting of the memory benchmark, in a process of its own:

    python -m pipelines.research.benchmark.memory_side FOLDER RANK

A step on a tiny backbone comes first, so that libraries, thread pools and kernels are there before
the count begins. Then the peak of resident memory over two steps, less what there was before the
backbone was loaded, less pages of libraries that came later. The fact a newcomer gets wrong:
weights that are read from a mapped file are no anonymous memory, and pages that nobody read are not
there at all; so every weight is read once and mapped ones count, as they would on a device. Pages
that were read to be quantised, and are no weight of the model any more, do not.
"""

import ctypes
import gc
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.research.benchmark.memory_backbones import BACKBONES

STEPS = 2
"""The first makes moments, the second finds them and whatever stage 3 kept whole."""
LABELS = ("a", "b")
TINY = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
}
DONT_NEED = 4
"""MADV_DONTNEED of <sys/mman.h>."""
CLEAR, STATUS, MAPS = (Path("/proc/self") / name for name in ("clear_refs", "status", "smaps"))


def main(folder: Path, rank: int) -> None:
    import torch

    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    world = _join(folder, rank, asked["ranks"])
    sizes = BACKBONES[asked["backbone"]]
    tiny = sizes | TINY | ({"attention_window": [256] * 2} if "attention_window" in sizes else {})
    if "num_key_value_heads" in sizes:
        tiny |= {"num_key_value_heads": 2}
    whole, small = folder / "backbone", folder / "tiny"
    if rank == 0:
        _make(whole, sizes)
        _make(small, tiny)
    world.barrier()
    _train(asked["experiment"], small, world)
    measured = _train(asked["experiment"], whole, world)
    measured |= {"device": world.device.type, "threads": torch.get_num_threads()}
    (folder / f"measured-{rank}.json").write_text(json.dumps(measured), encoding="utf-8")
    world.barrier()


def _join(folder: Path, rank: int, ranks: int) -> Any:
    """The ranks meet in a file, so that no port is needed."""
    import torch
    import torch.distributed as dist

    from components.training.world import join_world

    on_gpu = torch.cuda.device_count() >= ranks
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=ranks,
    )
    return join_world(device)


def _make(folder: Path, sizes: Mapping[str, Any]) -> None:
    """A stock model with random weights, and a tokenizer that nobody asks."""
    import torch
    from transformers import AutoConfig, AutoModel

    from components.backbones import load_tokenizer
    from components.backbones.settings import BackboneConfig

    torch.manual_seed(0)
    values = dict(sizes)
    options = {"add_pooling_layer": False} if sizes["model_type"] == "longformer" else {}
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    AutoModel.from_config(config, **options).save_pretrained(folder)
    load_tokenizer(
        BackboneConfig(
            source="installed",
            name_or_path="all-MiniLM-L6-v2",
            family="longformer",
            lengthen_to=512,
            attention_window=256,
        )
    ).save_pretrained(folder)


def _train(values: Mapping[str, Any], backbone: Path, world: Any) -> dict[str, Any]:
    """Steps of a session of its own; what they took in bytes."""
    from components.config.experiment import ExperimentConfig
    from components.training.session import open_session

    section = dict(values["backbone"]) | {"name_or_path": str(backbone)}
    config = ExperimentConfig.model_validate({**values, "backbone": section}).train_config()
    before = _settled(world.device)
    session = open_session(config, world, cache_path=backbone.parent)
    _forget_pages(backbone)
    for parameter in session.backbone.parameters():
        float(parameter.detach().sum())
    with session.engine(config, LABELS) as (_, engine):
        _restart_peak(world.device)
        seconds = [_step(config, engine, world.device) for _ in range(STEPS)]
        peak = _peak(world.device)
        libraries = _now("RssFile") - before["RssFile"] - _mapped(backbone)
    if world.device.type == "cuda":
        return {"bytes": peak - before["cuda"], "seconds": seconds}
    resident = before["RssAnon"] + before["RssFile"] + before["RssShmem"]
    return {
        "bytes": peak - resident - libraries,
        "before_bytes": resident,
        "libraries_bytes": libraries,
        "seconds": seconds,
    }


def _step(config: Any, engine: Any, device: Any) -> float:
    import torch

    batch, tokens = config.training.micro_batch_size, config.data.max_tokens
    ids = torch.randint(1000, 8000, (batch, tokens), device=device)
    labels = torch.arange(batch, device=device) % len(LABELS)
    started = time.perf_counter()
    logits = engine.forward(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    engine.deepspeed.backward(torch.nn.functional.cross_entropy(logits, labels))
    engine.deepspeed.step()
    return time.perf_counter() - started


def _settled(device: Any) -> dict[str, int]:
    """What there is, when what was freed has gone back."""
    import torch

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    found = {name: _now(name) for name in ("RssAnon", "RssFile", "RssShmem")}
    on_gpu = device.type == "cuda"
    return found | {"cuda": torch.cuda.memory_allocated(device) if on_gpu else 0}


def _restart_peak(device: Any) -> None:
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR.write_text("5", encoding="ascii")  # proc(5): the peak begins anew


def _peak(device: Any) -> int:
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _now("VmHWM")


def _now(name: str) -> int:
    """A line of the process's status, in bytes."""
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{STATUS} has no line {name}: this benchmark needs Linux")


def _mapped(folder: Path) -> int:
    """Resident pages of files in this folder: weights that are read where they lie."""
    return sum(each["Rss"] - each["Anonymous"] for each in _mappings(folder))


def _forget_pages(folder: Path) -> None:
    """Let the kernel drop pages of files in this folder; what is read again comes back."""
    advise = ctypes.CDLL(None, use_errno=True).madvise
    for each in _mappings(folder):
        if each["Anonymous"]:
            continue  # written to since: these pages are nowhere else
        start, size = ctypes.c_void_p(each["start"]), ctypes.c_size_t(each["size"])
        if advise(start, size, DONT_NEED):
            raise OSError(ctypes.get_errno(), "madvise")


def _mappings(folder: Path) -> list[dict[str, int]]:
    """Those of files in this folder: where they start, and what of them is there, in bytes."""
    found: list[dict[str, int]] = []
    inside = False
    for line in MAPS.read_text(encoding="utf-8").splitlines():
        if not line[0].isupper():
            if inside := str(folder) in line:
                start, end = (int(place, 16) for place in line.split()[0].split("-"))
                found.append({"start": start, "size": end - start})
        elif inside and line.startswith(("Rss:", "Anonymous:")):
            name, kib = line.split(":")
            found[-1][name] = int(kib.split()[0]) * 1024
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
