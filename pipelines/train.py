"""Train one adapter without a search and without Ray: alone, or on several ranks under torchrun.

torchrun --nproc_per_node 2 -m pipelines.cli train <experiment> --set zero.stage=3 --output adapter
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.atomic_folder import settled
from components.backbones import read_backbone_config, tokenizer_id
from components.config import ExperimentConfig
from components.errors import ArtifactError
from components.planning import check_feasible
from components.registry import code_version
from pipelines.reports import TrainReport


def train(
    config: ExperimentConfig,
    *,
    output: Path,
    resume: bool = False,
    announce: Callable[[str], None] = print,
) -> TrainReport:
    """Train at the experiment's own values (the search space is not read) and write the adapter to
    `output`/adapter.

    Every rank calls this; rank 0 writes and announces. `resume` continues from `output`/checkpoint.
    The number of ranks is the one that torchrun started, whatever cluster.num_workers says. One
    that was interrupted before its first checkpoint begins again. Raises UserError where the input
    is wrong, and where the folder holds a training already and `resume` is not given.
    """
    check_feasible(config, read_backbone_config(config.backbone))
    checkpoint = output / "checkpoint"
    from components.training.finalize import finalize
    from components.training.session import open_session
    from components.training.trial import Report, run_trial
    from components.training.world import join_world

    settings, cache = config.train_config(), Path(config.cluster.cache_path)
    world = join_world()
    found = world.broadcast(world.is_main and settled(checkpoint).exists())
    if found and not resume:
        raise ArtifactError(
            f"'{output}' already holds a training: give --resume to continue it, or another "
            "--output."
        )
    session = open_session(settings, world, cache_path=cache)
    data = _prepare(config, session)
    if world.is_main:
        announce(
            f"training on {world.size} rank(s), ZeRO stage {config.zero.stage}, "
            f"{len(data.splits['train'])} documents"
        )

    def show(report: Report) -> None:
        announce(
            f"step {report.step}: "
            + ", ".join(
                f"{name} {report.metrics[name]:.4g}"
                for name in ("train/loss", settings.training.metric, "tokens_per_second")
            )
        )

    result = run_trial(
        session, data, settings, checkpoint_folder=checkpoint, report=show, resume=found
    )
    if not result.best:
        raise RuntimeError(f"No adapter was trained: {result.outcome}, {result.reason}")
    final = finalize(
        session,
        data,
        settings,
        checkpoint_folder=checkpoint,
        artifact_folder=output / "adapter",
        code_version=code_version(),
    )
    progress = result.progress
    return TrainReport(
        experiment=config.name,
        outcome=result.outcome,
        reason=result.reason,
        world_size=world.size,
        zero_stage=config.zero.stage,
        steps=progress.step,
        tokens=progress.tokens,
        tokens_per_second=progress.tokens / progress.seconds,
        metrics=final.metrics,
        history=progress.history,
        by_length=final.by_length,
        trainable_parameters=result.trainable_parameters,
        adapter_folder=str(final.folder),
        seconds=progress.seconds,
    )


def _prepare(config: ExperimentConfig, session: Any) -> Any:
    """Rank 0 prepares, then every rank memory-maps; a wrong document is told on every rank, so that
    none waits.
    """
    from components.data import open_prepared
    from components.errors import UserError
    from components.tasks import prepare

    answer: Any = None
    if session.world.is_main:
        try:
            cache = Path(config.cluster.cache_path)
            answer = prepare(
                config.data,
                session.tokenizer,
                tokenizer_id=tokenizer_id(config.backbone),
                cache_path=cache,
            ).folder
        except UserError as error:
            answer = error
    answer = session.world.broadcast(answer)
    if isinstance(answer, UserError):
        raise answer
    return open_prepared(answer)
