"""What test_zero3.py asks on real ranks: `python -m ...zero3_ranks RANK SIZE FOLDER` writes
FOLDER/told<RANK>.json.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.components.training.ranks import meeting

WATCHED = (
    "torch.nn.functional.linear torch.nn.functional.embedding torch.tensor torch.empty torch.zeros "
    "torch.ones torch.full torch.arange torch.randn torch.nn.Module.apply torch.nn.Linear.__init__ "
    "torch.nn.Embedding.__init__ transformers.modeling_utils.load_state_dict "
    "deepspeed.zero.GatheredParameters"
).split()
"""What DeepSpeed, or this project for it, replaces while a model is read."""
SCRAMBLED = "layers.0.mlp.up_proj.weight"


def watched() -> dict[str, Any]:
    import deepspeed
    import transformers.modeling_utils

    roots = {"torch": torch, "transformers": transformers, "deepspeed": deepspeed}
    found = {}
    for path in WATCHED:
        root, *names = path.split(".")
        value: Any = roots[root]
        for name in names:
            value = getattr(value, name)
        found[path] = value
    return found


def main(rank: int, size: int, folder: Path) -> None:
    with meeting(rank, size, folder):
        from components.training.deepspeed_import import import_deepspeed
        from components.training.world import join_world

        world = join_world(torch.device("cpu"))
        import_deepspeed()
        values = json.loads((folder / "experiment.json").read_text())
        told = stage_3(values, world, folder) | stage_0(values, world, folder)
        (folder / f"told{rank}.json").write_text(json.dumps(told))


def stage_3(values: dict[str, Any], world: Any, folder: Path) -> dict[str, Any]:
    from transformers import AutoModel

    from components.config import ExperimentConfig, validate
    from components.tasks import prepare
    from components.training.session import open_session

    config = validate(ExperimentConfig, values).train_config()
    table = AutoModel.from_pretrained(folder / "backbone").embed_tokens.weight.detach()
    before = watched()
    session = open_session(config, world, cache_path=folder / "cache")
    data = prepare(config.data, session.tokenizer, tokenizer_id="toy", cache_path=folder / "cache")
    told: dict[str, Any] = {}
    embedding = session.backbone.embed_tokens
    with session.engine(config, data.labels) as (_, engine):
        told["weight is away"] = not hasattr(embedding, "weight")
        for what, count in (("few", 5), ("many", 90)):
            ids = torch.randint(0, 128, (1, count + world.rank))
            told[f"{what} rows equal"] = bool(torch.equal(embedding(ids), table[ids]))
        for _ in range(2):
            step(session, config, data, engine)
        told["whole after a step"] = [
            name
            for name, parameter in session.backbone.named_parameters()
            if not parameter.requires_grad and parameter.numel()
        ]
    told["weight is back"] = isinstance(embedding.weight, torch.nn.Parameter)
    after = watched()
    session.backbone.activation_checkpointing_enable(
        activation_checkpointing_kwargs={"use_reentrant": False}
    )
    told["layers whole at once"] = [most_layers_whole(session, config, data) for _ in range(2)]
    told["changed"] = [path for path in WATCHED if before[path] is not after[path]]
    return told


def step(session: Any, config: Any, data: Any, engine: Any) -> None:
    from components.tasks import task_named

    task, rows = task_named(config.data.task), np.array([session.world.rank])
    batch = task.batch(data.splits["train"], rows, pad_token_id=session.pad_token_id)
    labels = batch.pop("labels")
    loss = task.loss(engine.forward(**batch).logits, labels, reduction="sum")
    engine.deepspeed.backward(loss)
    engine.deepspeed.step()


def most_layers_whole(session: Any, config: Any, data: Any) -> float:
    """In one step of a trial of its own: elements that are whole while a linear layer answers, in
    layers.
    """
    found = [0]
    layers = list(session.backbone.layers)
    parameters = [each for layer in layers for each in layer.parameters()]

    def count(*_: Any) -> None:
        found.append(sum(each.numel() for each in parameters))

    with session.engine(config, data.labels) as (_, engine):
        linear = [each for each in session.backbone.modules() if type(each) is torch.nn.Linear]
        hooks = [each.register_forward_hook(count) for each in linear]
        step(session, config, data, engine)
        for each in hooks:
            each.remove()
    return max(found) * len(layers) / sum(each.ds_numel for each in parameters)


def stage_0(values: dict[str, Any], world: Any, folder: Path) -> dict[str, Any]:
    from components.config import ExperimentConfig, validate
    from components.errors import BackboneError
    from components.training.same_weights import check_same_weights
    from components.training.session import open_session

    config = validate(ExperimentConfig, values | {"zero": {"stage": 0}}).train_config()
    session = open_session(config, world, cache_path=folder / "cache")
    told: dict[str, Any] = {}
    with torch.no_grad():
        session.backbone.get_parameter(SCRAMBLED).fill_(7.0 * world.rank)
    drawn = config.model_copy(update={"seed": world.rank})
    with session.engine(drawn, ("a", "b", "c")) as (model, _):
        told["frozen"] = float(session.backbone.get_parameter(SCRAMBLED).detach().mean())
        told["trained"] = [
            float(parameter.detach().double().sum())
            for parameter in model.trainable_parameters().values()
        ]
    try:
        check_same_weights(session.backbone, world, name="toy")
    except BackboneError as error:
        told["refusal"] = str(error)
    return told


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
