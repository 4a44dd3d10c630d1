"""Training steps on the device: Longformer with and without attention dropout, a decoder beside
PEFT on the same tokens, the longest context that trains, and memory against the plan.

A step is forward, backward and AdamW's update; times wait for the device. The fact a newcomer gets
wrong: a peer that does not fit or is refused is an answer too, and stands in the report as one.
"""

import gc
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from components.backbones.activation_offload import offloaded_activations
from components.backbones.tiled_feed_forward import tile_feed_forward
from pipelines.research.benchmark.gpu import models
from pipelines.research.benchmark.gpu.sizes import Sizes

DTYPE = torch.bfloat16
RUNGS = ("checkpointed", "feed-forward tiled", "activations offloaded")
GROWTH = 4.5
"""A doubled context takes at most four times as long, and a little."""


def longformer_steps(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """longformer-base, stock attention beside, attention dropout off and on."""
    found: dict[str, Any] = {}
    for batch in sizes.longformer_batches:
        for dropout in (0.0, 0.1):
            values = sizes.longformer | {"attention_probs_dropout_prob": dropout}
            name = f"{batch}x{sizes.longformer_tokens}, attention dropout {dropout}"
            given = models.documents(batch, sizes.longformer_tokens, values["vocab_size"], device)
            for stock in (False, True):
                backbone = models.longformer(values, device, DTYPE)
                model = models.adapted(
                    backbone, prefix_length=sizes.prefix_length, pooling="prefix"
                )
                if stock:
                    from components.backbones.longformer import fast_attention

                    fast_attention.uninstall_fast_attention(backbone)
                key = name + (", stock attention" if stock else "")
                found[key] = measured(partial(_loss, model, given), model, sizes, given)
                del backbone, model
    return found


def decoder_against_peft(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """An 8B-shaped decoder of fewer layers, one long document, without checkpointing (PEFT's
    prefix-tuning refuses it).
    """
    values = sizes.decoder | {"num_hidden_layers": sizes.compared_layers}
    given = models.documents(1, sizes.decoder_tokens, values["vocab_size"], device)
    ours = _prefix_propagation(values, sizes, device, given)
    found: dict[str, Any] = {"ours": ours | _against_plan(sizes, values, ours, kept={})}
    for method in ("prefix_tuning", "lora"):
        found[f"peft {method}"] = attempted(partial(_peft, method, values, sizes, device, given))
        theirs = found[f"peft {method}"].get("tokens_per_second")
        if theirs:
            found[f"ratio to {method}"] = ours["tokens_per_second"] / theirs
    return found


def _prefix_propagation(
    values: dict[str, Any], sizes: Sizes, device: torch.device, given: Any
) -> dict[str, Any]:
    backbone = models.decoder(values, device, DTYPE)
    model = models.adapted(backbone, prefix_length=sizes.prefix_length, pooling="last")
    return measured(partial(_loss, model, given), model, sizes, given)


def _peft(
    method: str, values: dict[str, Any], sizes: Sizes, device: torch.device, given: Any
) -> dict[str, Any]:
    model = models.peft_decoder(
        values, device, DTYPE, method=method, prefix_length=sizes.prefix_length
    )

    def loss() -> Any:
        with torch.autocast(device.type, dtype=torch.bfloat16):  # as the Trainer's bf16
            return model(**given).loss

    return measured(loss, model, sizes, given)


def longest_context(
    sizes: Sizes, device: torch.device, remaining_seconds: Callable[[], float]
) -> dict[str, Any]:
    """All layers, checkpointed, one document: the context is doubled until one does not fit. Then
    the feed-forward part is tiled, then activations are offloaded, at the same length, until no
    rung is left or the next step would take longer than what remains.
    """
    backbone: Any = models.decoder(sizes.decoder, device, DTYPE)
    backbone.activation_checkpointing_enable(
        activation_checkpointing_kwargs={"use_reentrant": False}
    )
    model = models.adapted(backbone, prefix_length=sizes.prefix_length, pooling="last")
    tokens, rung, found = sizes.longest_from, 0, {}
    ended = "the longest one asked for was reached"
    while tokens <= sizes.longest_up_to:
        result = attempted(partial(_at_length, model, sizes, tokens, rung=rung))
        found[f"{tokens}, {RUNGS[rung]}"] = result
        if "error" in result:
            if rung + 1 == len(RUNGS):
                ended = "no rung is left"
                break
            rung += 1
            if rung == 1:
                for layer in backbone.layers:
                    tile_feed_forward(layer.mlp, sizes.tile_rows)
            continue
        if GROWTH * result["seconds"] > remaining_seconds():
            ended = "time was up"
            break
        tokens *= 2
    return {"ended": ended, "contexts": found}


def _at_length(model: Any, sizes: Sizes, tokens: int, *, rung: int) -> dict[str, Any]:
    device = next(model.parameters()).device
    given = models.documents(1, tokens, sizes.decoder["vocab_size"], device)

    def loss() -> Any:
        with offloaded_activations() if rung == 2 else nullcontext():
            return model(**given).loss

    result = measured(loss, model, sizes, given, steps=1, warm_up=0)
    kept = {
        "gradient_checkpointing": True,
        "feed_forward_tile_rows": sizes.tile_rows if rung > 0 else None,
        "offload_activations": rung == 2,
    }
    return result | _against_plan(sizes, sizes.decoder, result, kept=kept, tokens=tokens)


def _loss(model: Any, given: Any) -> Any:
    return model(**given).loss


def measured(
    loss: Callable[[], Any],
    model: nn.Module,
    sizes: Sizes,
    given: Any,
    *,
    steps: int | None = None,
    warm_up: int = 1,
) -> dict[str, Any]:
    """Median seconds of a step, real tokens per second, peak memory (null on a CPU)."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    device, seconds, value = given["input_ids"].device, [], float("nan")
    count = sizes.steps if steps is None else steps
    _empty(device)
    for step in range(warm_up + count):
        started = time.perf_counter()
        result = loss()
        result.backward()
        optimizer.step()
        optimizer.zero_grad()
        value = float(result.detach())  # waits for the device
        if step >= warm_up:
            seconds.append(time.perf_counter() - started)
    middle = sorted(seconds)[len(seconds) // 2]
    on_gpu = device.type == "cuda"
    return {
        "seconds": middle,
        "tokens_per_second": int(given["attention_mask"].sum()) / middle,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "loss": value,
        "trained_parameters": sum(parameter.numel() for parameter in trained),
    }


def attempted(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `measure` says, or the first line of why it could not."""
    try:
        return measure()
    except (RuntimeError, ValueError) as error:  # torch's out of memory is a RuntimeError
        message = str(error).partition("\n")[0]
        return {"error": f"{type(error).__name__}: {message}"}


def _against_plan(
    sizes: Sizes,
    values: dict[str, Any],
    result: dict[str, Any],
    *,
    kept: dict[str, Any],
    tokens: int | None = None,
) -> dict[str, Any]:
    from components.backbones import backbone_shape
    from components.config.experiment import ExperimentConfig
    from components.planning.memory import worker_memory

    config = ExperimentConfig.model_validate(
        {
            "name": "gpu",
            "backbone": {"source": "local", "name_or_path": "random", "family": "decoder"},
            "adapter": {"prefix_length": sizes.prefix_length},
            "head": {"pooling": "last"},
            "data": {"files": {"train": "unused"}, "max_tokens": tokens or sizes.decoder_tokens},
            "training": {"micro_batch_size": 1, "precision": "bf16", **kept},
            "optimizer": {"learning_rate": 1e-4},
            "zero": {"stage": 0},
        }
    ).train_config()
    shape = backbone_shape({"model_type": "llama", **values})
    trainable = result["trained_parameters"]
    gpu = torch.cuda.is_available()
    planned = worker_memory(config, shape, trainable=trainable, num_workers=1, gpu=gpu).device
    peak = result["peak_memory_bytes"]
    return {
        "planned_memory_bytes": planned,
        "plan_over_peak": None if peak is None else planned / peak,
    }


def _empty(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
