"""The peer of the `search` benchmark: one TorchTrainer per trial, as Ray's documentation has it.

https://docs.ray.io/en/latest/train/user-guides/hyperparameter-optimization.html: Tune runs a driver
function per trial, which builds a TorchTrainer with a TuneReportCallback. What is set here in the
peer's favour: the driver functions hold no CPU (else the workers of as many trials would not fit),
their actors are re-used between trials, Train looks for reports every half second instead of every
two, worker processes start without a runtime environment, data and backbone are prepared before,
and `loop: plain` trains in a plain torch loop without importing DeepSpeed. The dashboard is on:
without it the search deadlocks.
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.config import TrainConfig, trial_config
from components.config.experiment import ExperimentConfig
from pipelines.research.benchmark.search_settings import SideSettings, TrialTimes

PEER_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_AUTH_MODE": "disabled",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
REPORTED = ("train/loss", "validation/nll", "seconds", "step")


def run_trainers(settings: SideSettings, config: ExperimentConfig) -> list[TrialTimes]:
    """Run the points of the settings, `concurrent` trials at a time; returns what each trial
    did.
    """
    import ray
    from ray import tune
    from ray.tune.search.basic_variant import BasicVariantGenerator

    os.environ |= PEER_ENVIRONMENT
    data_folder = _prepare(config)
    ray.init(
        address="local",
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        configure_logging=True,
        logging_level="ERROR",
    )
    clock = _clock()
    try:
        drive = tune.with_parameters(
            _drive, settings=settings, config=config, data_folder=data_folder
        )
        tuner = tune.Tuner(
            tune.with_resources(drive, {"memory": 1}),
            param_space={"point": tune.grid_search([dict(point) for point in settings.points])},
            tune_config=tune.TuneConfig(
                metric=config.training.metric,
                mode=config.training.mode,
                search_alg=BasicVariantGenerator(max_concurrent=settings.concurrent),
                scheduler=tune.schedulers.FIFOScheduler(),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(Path(settings.folder) / "tune"),
                callbacks=[clock],
                verbose=0,
            ),
        )
        results = tuner.fit()
    finally:
        ray.shutdown()
    errors = [str(result.error) for result in results if result.error]
    if errors:
        raise RuntimeError(f"{len(errors)} trial(s) of the peer failed: {errors[0]}")
    return [_record(result.config["point"], result.metrics, clock.times) for result in results]


def _prepare(config: ExperimentConfig) -> str:
    from components.backbones import load_tokenizer, tokenizer_id
    from components.tasks import prepare

    data = prepare(
        config.data,
        load_tokenizer(config.backbone),
        tokenizer_id=tokenizer_id(config.backbone),
        cache_path=Path(config.cluster.cache_path),
    )
    return str(data.folder)


def _clock() -> Any:
    from ray.tune import Callback

    class Clock(Callback):
        """When each trial started and ended, as the driver sees it."""

        def __init__(self) -> None:
            self.times: dict[str, list[float]] = {}

        def on_trial_start(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            self.times[trial.trial_id] = [time.time(), 0.0]

        def on_trial_complete(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            self.times[trial.trial_id][1] = time.time()

    return Clock()


def _record(
    point: Mapping[str, Any], metrics: Mapping[str, Any], times: Mapping[str, Sequence[float]]
) -> TrialTimes:
    started, ended = times[str(metrics["trial_id"])]
    return TrialTimes(
        point=point,
        started=started,
        ended=ended,
        training_seconds=metrics["seconds"],
        step=int(metrics["step"]),
        train_loss=metrics["train/loss"],
        validation_nll=metrics["validation/nll"],
    )


def _drive(
    config_of_trial: dict[str, Any],
    *,
    settings: SideSettings,
    config: ExperimentConfig,
    data_folder: str,
) -> None:
    """Tune's function of one trial: a TorchTrainer of its own."""
    import ray.train
    from ray import tune
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    trial_id = tune.get_context().get_trial_id()
    cluster = config.cluster
    trainer = TorchTrainer(
        _train,
        train_loop_config={
            "config": trial_config(config, config_of_trial["point"]),
            "data_folder": data_folder,
            "cache_path": cluster.cache_path,
            "checkpoint_folder": str(Path(settings.folder) / "trials" / trial_id),
            "threads": max(1, int(cluster.cpus_per_worker)),
            "loop": settings.loop,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=cluster.num_workers, resources_per_worker={"CPU": cluster.cpus_per_worker}
        ),
        torch_config=TorchConfig(backend="gloo"),
        run_config=ray.train.RunConfig(
            name=f"trial-{trial_id}",
            storage_path=str(Path(settings.folder) / "train"),
            callbacks=[TuneReportCallback()],
        ),
    )
    trainer.fit()


def _train(values: dict[str, Any]) -> None:
    """Ray Train's function of one worker: load everything, train, report each evaluation."""
    import ray.train
    import torch

    from components.data import open_prepared
    from components.training.world import join_world

    torch.set_num_threads(values["threads"])
    world = join_world(torch.device("cpu"))
    data = open_prepared(Path(values["data_folder"]))

    def report(metrics: Mapping[str, float]) -> None:
        ray.train.report({name: metrics[name] for name in metrics})

    if values["loop"] == "plain":
        plain_loop(
            values["config"], data, world, cache_path=Path(values["cache_path"]), report=report
        )
        return
    from components.training.session import open_session
    from components.training.trial import run_trial

    session = open_session(values["config"], world, cache_path=Path(values["cache_path"]))
    run_trial(
        session,
        data,
        values["config"],
        checkpoint_folder=Path(values["checkpoint_folder"]),
        report=lambda told: report(told.metrics),
    )


def plain_loop(
    config: TrainConfig, data: Any, world: Any, *, cache_path: Path, report: Any
) -> None:
    """The same trial on one worker in plain torch: same model, batches, schedule and evaluations,
    no DeepSpeed and no checkpoints.
    """
    from components.config.steps import evaluation_steps, steps_per_epoch, total_steps
    from components.data.batching import epoch_steps
    from components.training.lr_schedule import lr_factor

    assert world.size == 1, "the plain loop runs on one worker"
    model, pad = _adapted_model(config, data, cache_path)
    settings, train = config.optimizer, data.splits["train"]
    optimizer = _adamw(config, model)
    per_epoch = steps_per_epoch(config, num_documents=len(train), world_size=1)
    total = total_steps(config, num_documents=len(train), world_size=1)
    marks = evaluation_steps(config, num_documents=len(train), world_size=1)
    batch_size = config.training.batch_size(1)
    started, loss_sum, documents = time.monotonic(), 0.0, 0
    model.train()
    for step in range(total):
        order = epoch_steps(
            train.lengths, train_batch_size=batch_size, seed=config.seed, epoch=step // per_epoch
        )
        rows = order[step % per_epoch]
        factor = lr_factor(
            step,
            total_steps=total,
            warmup_ratio=settings.warmup_ratio,
            lr_schedule=settings.lr_schedule,
        )
        optimizer.param_groups[0]["lr"] = settings.learning_rate * factor
        loss_sum += _plain_step(model, optimizer, config, train, rows, pad)
        documents += len(rows)
        if step + 1 in marks:
            metrics = _validation_metrics(model, data, config, world, pad)
            seconds = time.monotonic() - started
            loss = {"train/loss": loss_sum / documents}
            report({**loss, **metrics, "seconds": seconds, "step": step + 1})
            loss_sum, documents = 0.0, 0


def _adapted_model(config: TrainConfig, data: Any, cache_path: Path) -> tuple[Any, int]:
    """The model as our side starts it, and the id of its padding token."""
    import torch

    from components.adapters import adapt
    from components.backbones import load_backbone, load_tokenizer
    from components.tasks import task_named

    backbone = load_backbone(config.backbone, cache_path=cache_path, dtype=torch.float32)
    torch.manual_seed(config.seed)
    tokenizer = load_tokenizer(config.backbone)
    head = task_named(config.data.task).head_config(
        config.head, data.labels, data=config.data, tokenizer=tokenizer
    )
    return adapt(backbone, config.adapter, head), int(tokenizer.pad_token_id or 0)


def _adamw(config: TrainConfig, model: Any) -> Any:
    import torch

    settings = config.optimizer
    return torch.optim.AdamW(
        model.trainable_parameters().values(),
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )


def _plain_step(
    model: Any, optimizer: Any, config: TrainConfig, train: Any, rows: Any, pad: int
) -> float:
    """One optimizer step; returns the sum of its documents' losses."""
    import torch

    from components.data.batching import split_step
    from components.tasks import task_named

    task = task_named(config.data.task)
    optimizer.zero_grad()
    loss_sum = 0.0
    (micro_batches,) = split_step(
        rows,
        train.lengths,
        world_size=1,
        micro_batch_size=config.training.micro_batch_size,
        tokens_per_batch=None,
    )
    for chosen in micro_batches:
        loss = model(**task.batch(train, chosen, pad_token_id=pad)).loss * len(chosen)
        (loss / len(rows)).backward()
        loss_sum += float(loss.detach())
    if config.optimizer.max_gradient_norm:
        parameters = list(model.trainable_parameters().values())
        torch.nn.utils.clip_grad_norm_(parameters, config.optimizer.max_gradient_norm)
    optimizer.step()
    return loss_sum


def _validation_metrics(
    model: Any, data: Any, config: TrainConfig, world: Any, pad: int
) -> dict[str, float]:
    import numpy as np

    from components.tasks import task_named
    from components.training.evaluation import split_outputs

    task, validation = task_named(config.data.task), data.splits["validation"]
    rows = np.arange(len(validation))
    outputs = split_outputs(
        model, validation, rows, task=task, config=config.training, world=world, pad_token_id=pad
    )
    measured = task.measured(outputs, validation, rows)
    return {f"validation/{name}": value for name, value in measured.items()}
