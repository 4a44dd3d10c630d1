"""One loaded backbone on which a study trains and questions many adapters, one after the other, in
one process and without Ray.

Each training goes through components/training, so that an adapter here is what `prefixprop train`
gives for the same settings. Its checkpoint stays in the study's folder: an interrupted training
goes on from its last evaluation.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.backbones import tokenizer_id
from components.config import ADAPTER_CONFIGS, DataConfig, ExperimentConfig, TrainConfig, resolved
from components.evaluation.repeated import RepeatedAnswers
from components.settings import set_path, validate
from pipelines.research.studies.cells import Cell, Cells

if TYPE_CHECKING:
    from components.adapters import AdaptedModel
    from components.data import PreparedData


class Lab:
    """The session and the folder of one study."""

    def __init__(self, config: ExperimentConfig, folder: Path, say: Callable[[str], None]) -> None:
        from components.training.session import open_session
        from components.training.world import join_world

        self.config, self.folder, self.say = config, folder, say
        self.cells = Cells(folder / "cells", say)
        self.cache = Path(config.cluster.cache_path)
        self.session: Any = open_session(config.train_config(), join_world(), cache_path=self.cache)

    def data(self, config: DataConfig) -> "PreparedData":
        """Documents of the cache, prepared now if they are not there."""
        from components.tasks import prepare

        return prepare(
            config,
            self.session.tokenizer,
            tokenizer_id=tokenizer_id(self.config.backbone),
            cache_path=self.cache,
        )

    def trained(self, name: str, config: TrainConfig, data: "PreparedData") -> Cell:
        """The cell of one training and its answers to the test documents (temperature 1): see
        `answers_of`.
        """
        return self.cells.get(name, self.key(config, data), lambda: self._train(name, config, data))

    def key(self, config: TrainConfig, data: "PreparedData") -> dict[str, Any]:
        """What decides a training and all that is measured on it."""
        return {"config": resolved(config), "data": data.fingerprint}

    def _train(self, name: str, config: TrainConfig, data: "PreparedData") -> Mapping[str, Any]:
        from components.training.evaluation import split_outputs
        from components.training.trial import run_trial

        checkpoint = self._checkpoint(name)
        result = run_trial(
            self.session,
            data,
            config,
            checkpoint_folder=checkpoint,
            resume=self._resumable(name, config, data),
        )
        if result.outcome != "completed":
            # Compared with others, it would be compared at another budget.
            raise RuntimeError(
                f"{name}: {result.outcome}, {result.reason}. Take another optimizer.learning_rate "
                "or other seeds."
            )
        test = data.splits["test"]
        with self.model(config, data, trained=name) as model:
            logits = split_outputs(
                model,
                test,
                np.arange(len(test)),
                task=model.task,
                config=config.training,
                world=self.session.world,
                pad_token_id=self.session.pad_token_id,
            )
        last = result.progress.history[-1]
        self.say(
            f"{name}: training loss {last['train/loss']:.3f}, {result.progress.seconds:.0f} s of "
            "training"
        )
        return {
            "logits": logits.tolist(),
            "label_ids": test.label_ids.tolist(),
            "lengths": test.lengths.tolist(),
            "ids": list(test.ids),
            "trainable_parameters": result.trainable_parameters,
            "tokens": result.progress.tokens,
            "training_seconds": result.progress.seconds,
            "history": [dict(metrics) for metrics in result.progress.history],
            "alpha": result.best["adapter.alpha"].tolist()
            if "adapter.alpha" in result.best
            else None,
        }

    @contextmanager
    def model(
        self, config: TrainConfig, data: "PreparedData", *, trained: str | None
    ) -> "Iterator[AdaptedModel]":
        """The adapted model in evaluation mode: as `trained` under this name, or with None as it
        starts.
        """
        from components.training.checkpoint import load_checkpoint, resume_key

        best = None
        if trained is not None:
            key = resume_key(config, data.fingerprint, world_size=self.session.world.size)
            best = load_checkpoint(self._checkpoint(trained), resume_key=key).best
        with self.session.engine(config, data.labels, parameters=best) as (model, _):
            yield model.eval()

    def _checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / name

    def _resumable(self, name: str, config: TrainConfig, data: "PreparedData") -> bool:
        """Whether the checkpoint under this name is one of this very training; another one is
        overwritten.
        """
        from components.errors import ArtifactError
        from components.training.checkpoint import load_checkpoint, resume_key

        try:
            load_checkpoint(
                self._checkpoint(name),
                resume_key=resume_key(config, data.fingerprint, world_size=self.session.world.size),
            )
        except ArtifactError:
            return False
        return True


def with_method(
    config: ExperimentConfig, method: str, *, seed: int, **settings: Any
) -> TrainConfig:
    """The experiment's training with another method and seed. A prefix's settings carry over to
    other prefixes that have them; `settings` are further ones, by their name in the adapter's
    section.
    """
    values = resolved(config.train_config())
    known = ADAPTER_CONFIGS[method].model_fields
    carried = (
        values["adapter"] if "prefix_length" in known else {}
    )  # LoRA has a rank and a dropout too, which mean something else
    adapter = {name: value for name, value in (carried | settings).items() if name in known} | {
        "method": method
    }
    return validate(TrainConfig, values | {"adapter": adapter, "seed": seed})


def changed(config: TrainConfig, **paths: Any) -> TrainConfig:
    """Other values at dotted paths, written with two underscores for a dot:
    `training__epochs=2`.
    """
    values = resolved(config)
    for path, value in paths.items():
        set_path(values, path.replace("__", "."), value)
    return validate(TrainConfig, values)


def answers_of(cells: list[Cell]) -> RepeatedAnswers:
    """The test answers of one method's trainings, one per seed."""
    from components.evaluation import softmax

    probabilities = [softmax(np.asarray(cell["logits"], dtype=np.float64)) for cell in cells]
    return RepeatedAnswers(
        np.stack(probabilities), np.asarray(cells[0]["label_ids"]), np.asarray(cells[0]["lengths"])
    )
