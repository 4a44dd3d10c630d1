"""The sides of the `step` and `length` benchmarks: what one training step is, ours and the peers'.

Shapes: B documents of T tokens, padded on the right up to the longest. Dropout is off everywhere,
so that sides can be compared number by number.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.research.benchmark.sides import Turns, Values

LABELS = 2
DECODER: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "max_position_embeddings": 8192,
    "pad_token_id": 0,
}
BASE_LONGFORMER: dict[str, Any] = {
    "vocab_size": 50265,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "attention_window": [512] * 12,
    "max_position_embeddings": 4352,
    "pad_token_id": 1,
    "type_vocab_size": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def adapted(settings: Mapping[str, Any], turns: Turns) -> Values:
    """Prefix-propagation by this project's training engine (ZeRO stage 0, one worker);
    `settings["attention"]`: auto, or stock for the transformers implementation.
    """
    import torch

    from components.config.experiment import ExperimentConfig
    from components.training.engine import build_engine
    from components.training.state_store import StateStore
    from components.training.world import join_world

    device = _device(torch)
    config = ExperimentConfig.model_validate(experiment_values(settings)).train_config()
    backbone = made_backbone(settings, device)
    torch.manual_seed(config.seed)
    model = adapted_model(backbone, settings).to(device).train()
    engine = build_engine(model, config, join_world(device))
    batch = made_batch(settings, torch, device)
    if settings["form"] == "suffix_kept":
        store = StateStore(Path(settings["folder"]) / "states")
        store.fill([ids_T.cpu().numpy() for ids_T in batch["input_ids"]], model.read_text)
    values: dict[str, np.ndarray] = {}
    while turns.wait():
        started = time.perf_counter()
        if settings["form"] == "suffix_kept":
            batch["states"] = store.states(batch["input_ids"], batch["attention_mask"])
        output = engine.deepspeed(**batch)
        engine.deepspeed.backward(output.loss)
        if not values:
            values = {"logits": _array(output.logits)} | {
                name: _array(one.grad)
                for name, one in engine.parameters.items()
                if one.grad is not None
            }
        engine.deepspeed.step()
        float(output.loss.detach())  # waits for the device
        turns.done(time.perf_counter() - started)
    engine.close()
    return values


def whole_suffix(settings: Mapping[str, Any], turns: Turns) -> Values:
    """The same suffix, differentiated through text and suffix in one run of the stock decoder;
    documents of one length.
    """
    import torch

    device = _device(torch)
    torch.manual_seed(0)
    model = adapted_model(made_backbone(settings, device), settings).to(device).train()
    backbone, prefix_LPD = model.backbone, model.adapter.prefix
    count = prefix_LPD.shape[1]

    def added(index: int) -> Any:
        def hook(_layer: Any, inputs: Any) -> Any:
            text_BTD, rows_BPD = inputs[0].split([inputs[0].shape[1] - count, count], dim=1)
            return (torch.cat([text_BTD, rows_BPD + prefix_LPD[index]], dim=1), *inputs[1:])

        return hook

    for index, layer in enumerate(backbone.layers):
        layer.register_forward_pre_hook(added(index))
    trained = model.trainable_parameters()
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-3)
    batch = made_batch(settings, torch, device)
    values: dict[str, np.ndarray] = {}
    while turns.wait():
        started = time.perf_counter()
        text_BTD = backbone.get_input_embeddings()(batch["input_ids"])
        rows_BSD = torch.nn.functional.pad(text_BTD, (0, 0, 0, count))
        hidden_BSD = backbone(inputs_embeds=rows_BSD, use_cache=False).last_hidden_state
        logits_BC = model.head(hidden_BSD[:, -1])
        loss = torch.nn.functional.cross_entropy(logits_BC, batch["labels"])
        loss.backward()
        if not values:
            values = {"logits": _array(logits_BC)} | {
                name: _array(one.grad) for name, one in trained.items()
            }
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())  # waits for the device
        turns.done(time.perf_counter() - started)
    return values


def peft_trainer(settings: Mapping[str, Any], turns: Turns) -> Values:
    """A PEFT method on the same decoder by transformers' Trainer; `settings["peft"]`: prefix_tuning
    or lora.
    """
    import torch
    from peft import get_peft_model
    from transformers import (
        LlamaConfig,
        LlamaForSequenceClassification,
        Trainer,
        TrainingArguments,
    )

    device = _device(torch)
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(LlamaConfig(**DECODER, num_labels=LABELS)).to(
        _dtype(torch, device)
    )
    batch = made_batch(settings, torch, torch.device("cpu"))
    documents = [
        {name: tensor[index] for name, tensor in batch.items()}
        for index in range(settings["batch"])
    ] * 1000

    arguments = TrainingArguments(
        output_dir=settings["folder"],
        per_device_train_batch_size=settings["batch"],
        max_steps=1000,
        learning_rate=1e-3,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        use_cpu=device.type == "cpu",
        bf16=_dtype(torch, device) is torch.bfloat16,
        disable_tqdm=True,
        train_sampling_strategy="sequential",  # shuffled, two long documents would meet, unmasked
    )
    Trainer(
        model=get_peft_model(model, _peft_config(settings)),
        args=arguments,
        train_dataset=documents,
        callbacks=[_taking_turns(turns)],
    ).train()
    return {}


def _taking_turns(turns: Turns) -> Any:
    """A callback of the trainer that waits for its turn before every step and tells how long it
    took.
    """
    from transformers import TrainerCallback

    class TakesTurns(TrainerCallback):
        started = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = not turns.wait()
            self.started = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not control.should_training_stop:
                turns.done(time.perf_counter() - self.started)

    return TakesTurns()


def _peft_config(settings: Mapping[str, Any]) -> Any:
    from peft import LoraConfig, PrefixTuningConfig, TaskType

    if settings["peft"] == "lora":
        return LoraConfig(
            task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]
        )
    return PrefixTuningConfig(
        task_type=TaskType.SEQ_CLS, num_virtual_tokens=settings["prefix_length"]
    )


def matrix_product(settings: Mapping[str, Any], turns: Turns) -> Values:
    """One square matrix product, in the precision of the step: the machine's rate, measured between
    the steps.
    """
    import torch

    device = _device(torch)
    left, right = (
        torch.randn(settings["size"], settings["size"], device=device, dtype=_dtype(torch, device))
        for _ in range(2)
    )
    while turns.wait():
        started = time.perf_counter()
        float((left @ right)[0, 0])
        turns.done(time.perf_counter() - started)
    return {}


def experiment_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment of one side."""
    return {
        "name": "benchmark-step",
        "backbone": backbone_values(settings),
        "adapter": {
            "prefix_length": settings["prefix_length"],
            "dropout": 0.0,
            "placement": "prefix" if settings["form"] == "prefix" else "suffix",
        },
        "head": {
            "pooling": "prefix" if settings["form"] == "prefix" else "last",
            "dropout": 0.0,
        },
        "data": {"files": {"train": "unused"}, "max_tokens": settings["tokens"]},
        "optimizer": {"learning_rate": 1e-3},
        "zero": {"stage": 0},
    }


def backbone_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The pretrained offline package lengthened to what the documents need, in whole windows."""
    if settings["backbone"] != "minilm":
        return {"source": "local", "name_or_path": "made-on-the-spot", "family": settings["family"]}
    window = settings["window"]
    return {
        "source": "installed",
        "name_or_path": "all-MiniLM-L6-v2",
        "family": "longformer",
        "lengthen_to": -(-(settings["tokens"] + settings["prefix_length"]) // window) * window,
        "attention_window": window,
        "attention": settings["attention"],
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
    }


def made_backbone(settings: Mapping[str, Any], device: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaModel, LongformerConfig, LongformerModel

    from components.backbones import load_backbone
    from components.backbones.settings import BackboneConfig

    if settings["backbone"] == "minilm":
        config = BackboneConfig.model_validate(backbone_values(settings))
        return load_backbone(
            config, cache_path=Path(settings["folder"]) / "cache", dtype=_dtype(torch, device)
        )
    torch.manual_seed(0)
    if settings["backbone"] == "decoder":
        return _accelerated(LlamaModel(LlamaConfig(**DECODER)).to(_dtype(torch, device)))
    backbone = LongformerModel(LongformerConfig(**BASE_LONGFORMER), add_pooling_layer=False).to(
        _dtype(torch, device)
    )
    return _accelerated(backbone) if settings["attention"] == "auto" else backbone


def _accelerated(backbone: Any) -> Any:
    from components.backbones import family_of

    family_of(backbone).accelerate(backbone)
    return backbone


def adapted_model(backbone: Any, settings: Mapping[str, Any]) -> Any:
    from components.adapters import ClassificationHeadConfig, PrefixPropagationConfig, adapt

    adapter = PrefixPropagationConfig(
        prefix_length=settings["prefix_length"],
        dropout=0.0,
        placement="prefix" if settings["form"] == "prefix" else "suffix",
    )
    head = ClassificationHeadConfig(
        num_labels=LABELS,
        pooling="last" if settings["backbone"] == "decoder" else "prefix",
        dropout=0.0,
    )
    return adapt(backbone, adapter, head)


def made_batch(settings: Mapping[str, Any], torch: Any, device: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(
        1000, 8000, (settings["batch"], settings["tokens"]), generator=generator
    )
    lengths = torch.tensor(settings.get("lengths") or [settings["tokens"]] * settings["batch"])
    mask = (torch.arange(settings["tokens"]) < lengths[:, None]).long()
    values = {
        "input_ids": input_ids * mask,
        "attention_mask": mask,
        "labels": torch.arange(settings["batch"]) % LABELS,
    }
    return {name: tensor.to(device) for name, tensor in values.items()}


def _device(torch: Any) -> Any:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _dtype(torch: Any, device: Any) -> Any:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach().float().cpu().numpy())
