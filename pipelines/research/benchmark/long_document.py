"""Memory of training a suffix on one long document, against that of the document's forward pass
alone, on a small Llama.

Each side is a process: the stock forward pass without gradients; a step that reads the text in
passing (gradient checkpointing), with states that stay, and on states that are kept on disk, which
are read and written before it. The fact a newcomer gets wrong: what counts is anonymous memory
above the loaded model, sampled; pages of a file, such as kept states, the kernel may drop.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.sides import SideResult, Turns, Values, take_turns

LIMIT = 1.2
"""Memory of the step in passing over the forward pass's."""
PREFIX_LENGTH = 8
TOKENS, QUICK_TOKENS = 131_072, 16_384
SECONDS_BETWEEN_LOOKS = 0.002
SIDES = ("forward", "in_passing", "states_stay", "states_kept")
MODEL: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2**18,
    "pad_token_id": 0,
}
"""Narrow: every tensor is in proportion to the width, and attention over 131,072 tokens takes
minutes on a core as it is."""


def run(options: BenchmarkOptions, say: Any) -> list[dict[str, Any]]:
    """One case for each way of training; `quick`: a shorter document."""
    chosen = [side for side in SIDES[1:] if options.chosen(side)]
    return measured(QUICK_TOKENS if options.quick else TOKENS, chosen, say) if chosen else []


def measured(tokens: int, chosen: Any, say: Any) -> list[dict[str, Any]]:
    """The cases of the report for a document of so many tokens."""
    forward = _side("forward", tokens)
    alone = float(forward.values["bytes"])
    cases = []
    for name in chosen:
        side = _side(name, tokens)
        used = float(side.values["bytes"])
        say(
            f"{name}, {tokens:,} tokens: {used / 2**20:.0f} MiB against {alone / 2**20:.0f} MiB of "
            f"the forward pass, ratio {used / alone:.2f}"
        )
        cases.append(
            {
                "case": name,
                "tokens": tokens,
                "mib": used / 2**20,
                "mib_of_forward_pass": alone / 2**20,
                "ratio": used / alone,
                "limit": LIMIT if name == "in_passing" else None,
                "seconds": side.seconds[0],
                "seconds_of_forward_pass": forward.seconds[0],
            }
        )
    return cases


def _side(name: str, tokens: int) -> SideResult:
    here = "pipelines.research.benchmark.long_document:once"
    (found,) = take_turns([(here, {"side": name, "tokens": tokens})], repeats=1, warm_up=0)
    return found


def once(settings: Mapping[str, Any], turns: Turns) -> Values:
    """A side: its work on a short document, so that libraries are there, then on the long one."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    from components.backbones import family_of

    torch.manual_seed(0)
    backbone = LlamaModel(LlamaConfig(**MODEL))
    family_of(backbone).accelerate(backbone)
    backbone.requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    ids_1T = torch.randint(5, 1000, (1, settings["tokens"]), generator=generator)
    used = 0
    with TemporaryDirectory(prefix="prefixprop-bench-") as folder:
        work = _work(settings["side"], backbone, Path(folder))
        work(ids_1T[:, :64])
        while turns.wait():
            started = time.perf_counter()
            with _anonymous_peak() as peak:
                work(ids_1T)
            turns.done(time.perf_counter() - started)
            used = peak[0]
    return {"bytes": np.asarray(used)}


def _work(side: str, backbone: Any, folder: Path) -> Any:
    import torch

    from components.adapters import ClassificationHeadConfig, PrefixPropagationConfig, adapt
    from components.training.state_store import StateStore

    if side == "forward":

        def forward(ids_1T: Any) -> None:
            with torch.no_grad():
                backbone(input_ids=ids_1T, use_cache=False)

        return forward
    adapter = PrefixPropagationConfig(prefix_length=PREFIX_LENGTH, dropout=0.0, placement="suffix")
    head = ClassificationHeadConfig(num_labels=2, pooling="last", dropout=0.0)
    model = adapt(backbone, adapter, head).train()
    if side == "in_passing":
        backbone.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.trainable_parameters().values())

    def step(ids_1T: Any) -> None:
        states = None
        if side == "states_kept":
            store = StateStore(folder)
            store.fill([ids_1T[0].numpy()], partial(model.read_text, stays=False))
            states = store.states(ids_1T, torch.ones_like(ids_1T))
        model(ids_1T, labels=torch.tensor([1]), states=states).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


@contextmanager
def _anonymous_peak() -> Iterator[list[int]]:
    """Bytes of anonymous memory above those at the start, at most, in the list's one place."""
    peak, ended, before = [0], threading.Event(), _anonymous()

    def look() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            peak[0] = max(peak[0], _anonymous() - before)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no line RssAnon: this benchmark needs Linux")
