"""One loaded backbone on which a study trains and questions many adapters, one after the other, in
one process and without Ray.

Each training goes through components/training, so that an adapter here is what `prefixprop train`
gives for the same settings. Its checkpoint stays in the study's folder: an interrupted training
goes on from its last evaluation.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.backbones import tokenizer_id
from components.config import (
    ADAPTER_CONFIGS,
    DataConfig,
    ExperimentConfig,
    TrainConfig,
    config_sha256,
    resolved,
)
from components.errors import WorkFailed
from components.evaluation.repeated import RepeatedAnswers
from components.registry import code_fingerprint, code_version
from components.settings import set_path, validate
from pipelines.research.studies.measurements import Measured, Measurements

if TYPE_CHECKING:
    from torch import Tensor

    from components.adapters import AdaptedModel
    from components.data import PreparedData
    from components.data.prepared import TokenizedSplit
    from components.jobs.events import Trained
    from components.training.session import Session


class StudySession:
    """The session and the folder of one study."""

    def __init__(self, config: ExperimentConfig, folder: Path, say: Callable[[str], None]) -> None:
        from components.jobs.this_process import ThisProcess
        from components.training.session import open_session
        from components.training.world import join_world

        self.config, self.folder, self.say = config, folder, say
        self.measurements = Measurements(folder / "cells", say)
        self.cache = Path(config.cluster.cache_path)
        self.session: Session = open_session(
            config.train_config(), join_world(), cache_path=self.cache
        )
        self.workers = ThisProcess(self.session, code_version=code_version())

    def data(self, config: DataConfig) -> "PreparedData":
        """Documents of the cache, prepared now if they are not there."""
        from components.tasks import prepare

        return prepare(
            config,
            self.session.tokenizer,
            tokenizer_id=tokenizer_id(self.config.backbone),
            cache_path=self.cache,
        )

    def trained(self, name: str, config: TrainConfig, data: "PreparedData") -> Measured:
        """One training and its answers to the test documents (temperature 1): see
        `answers_of`.
        """
        return self.measurements.get(
            name, self.key(config, data), lambda: self._train(name, config, data)
        )

    def at_start(self, name: str, config: TrainConfig, data: "PreparedData") -> Measured:
        """What a training's evaluations would measure before its first step."""
        return self.measurements.get(
            name, self.key(config, data), lambda: self._at_start(config, data)
        )

    def _at_start(self, config: TrainConfig, data: "PreparedData") -> Mapping[str, Any]:
        validation, count = data.splits["validation"], config.training.evaluation_documents
        with self.model(config, data, trained=None) as model:
            rows = (
                np.arange(len(validation))
                if count is None
                else model.task.subset(validation, count, config.data.split_seed)
            )
            outputs = self._answers(model, validation, rows, config)
            return model.task.measured(outputs, validation, rows)

    def adapter(self, name: str, config: TrainConfig, data: "PreparedData") -> Path:
        """The artifact folder of a training's best evaluation."""
        from components.adapters import save_adapter

        with self.model(config, data, trained=name) as model:
            return save_adapter(model, self._folder(name) / "adapter").absolute()

    def key(self, config: TrainConfig, data: "PreparedData") -> dict[str, Any]:
        """What decides a training and all that is measured on it."""
        return {"config": resolved(config), "data": data.fingerprint}

    def _train(self, name: str, config: TrainConfig, data: "PreparedData") -> Mapping[str, Any]:
        trained = self._run(name, config, data)
        if trained.outcome != "completed":
            # Compared with others, it would be compared at another budget.
            raise WorkFailed(
                f"{name}: {trained.outcome}, {trained.reason}. Take another "
                "optimizer.learning_rate or other seeds.",
                resumable=False,
            )
        progress, best = trained.progress, self._best(name, config, data)
        test = data.splits["test"]
        with self.model(config, data, trained=name) as model:
            logits = self._answers(model, test, np.arange(len(test)), config)
        last = progress.history[-1]
        self.say(
            f"{name}: training loss {last['train/loss']:.3f}, {progress.seconds:.0f} s of training"
        )
        return {
            "logits": logits.tolist(),
            "label_ids": test.label_ids.tolist(),
            "lengths": test.lengths.tolist(),
            "ids": list(test.ids),
            "trainable_parameters": trained.trainable_parameters,
            "tokens": progress.tokens,
            "training_seconds": progress.seconds,
            "history": [dict(metrics) for metrics in progress.history],
            "alpha": best["adapter.alpha"].tolist() if "adapter.alpha" in best else None,
        }

    def _answers(
        self, model: "AdaptedModel", split: "TokenizedSplit", rows: Any, config: TrainConfig
    ) -> Any:
        from components.training.evaluation import split_outputs

        return split_outputs(
            model,
            split,
            rows,
            task=model.task,
            config=config.training,
            world=self.session.world,
            pad_token_id=self.session.pad_token_id,
        )

    def _run(self, name: str, config: TrainConfig, data: "PreparedData") -> "Trained":
        """Train as a job of this process, from its checkpoint where there is one of this very
        training; another training's is removed.
        """
        from components.jobs.job import Job
        from components.jobs.record import Identity, record_of, write_record
        from components.jobs.run_jobs import run_one

        folder = self._folder(name)
        if not self._resumable(name, config, data):
            shutil.rmtree(folder, ignore_errors=True)
        result = run_one(self.workers, Job(name, config, data.folder, folder))
        identity = Identity(
            config_sha256=config_sha256(config),
            train_batch_size=config.training.batch_size(self.session.world.size),
            data_fingerprint=data.fingerprint,
            code_fingerprint=code_fingerprint(),
        )
        record = record_of(result, identity, about={"name": name})
        write_record(folder, record, config=resolved(config))
        assert result.trained is not None
        return result.trained

    @contextmanager
    def model(
        self, config: TrainConfig, data: "PreparedData", *, trained: str | None
    ) -> "Iterator[AdaptedModel]":
        """The adapted model in evaluation mode: as `trained` under this name, or with None as it
        starts.
        """
        best = None if trained is None else self._best(trained, config, data)
        with self.session.engine(config, data.labels, parameters=best) as (model, _):
            yield model.eval()

    def _best(self, name: str, config: TrainConfig, data: "PreparedData") -> "Mapping[str, Tensor]":
        """The artifact tensors of a training's best evaluation. Raises ArtifactError where the
        checkpoint is missing, or of another training.
        """
        from components.training.checkpoint import load_checkpoint, resume_key

        key = resume_key(config, data.fingerprint, world_size=self.session.world.size)
        return load_checkpoint(self._folder(name) / "checkpoint", resume_key=key).best

    def _folder(self, name: str) -> Path:
        """Of a training. A checkpoint where studies had it before there were jobs is moved here."""
        folder, before = self.folder / "trainings" / name, self.folder / "checkpoints" / name
        if (before / "state.json").is_file() and not folder.exists():
            folder.mkdir(parents=True)
            before.rename(folder / "checkpoint")
        return folder

    def _resumable(self, name: str, config: TrainConfig, data: "PreparedData") -> bool:
        """Whether the checkpoint under this name is one of this very training."""
        from components.errors import ArtifactError

        try:
            self._best(name, config, data)
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


def answers_of(trained: list[Measured]) -> RepeatedAnswers:
    """The test answers of one method's trainings, one per seed."""
    from components.evaluation import softmax

    probabilities = [softmax(np.asarray(each["logits"], dtype=np.float64)) for each in trained]
    return RepeatedAnswers(
        np.stack(probabilities),
        np.asarray(trained[0]["label_ids"]),
        np.asarray(trained[0]["lengths"]),
    )
