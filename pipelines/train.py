"""Train one adapter without a search and without Ray: alone, or on several ranks under torchrun.

torchrun --nproc_per_node 2 -m pipelines.cli train <experiment> --set zero.stage=3 --output adapter
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.backbones import inspect_backbone, tokenizer_id
from components.config import ExperimentConfig, TrainConfig, config_sha256, resolved
from components.errors import ArtifactError, ConfigError, UserError, WorkFailed
from components.planning import check_feasible
from components.registry import code_fingerprint, code_version
from components.settings import writable_folder
from pipelines.describe import describe_quantization
from pipelines.reports import TrainReport

if TYPE_CHECKING:
    from components.data import PreparedData
    from components.jobs.events import Trained
    from components.jobs.run_jobs import JobResult
    from components.training.session import Session
    from components.training.world import World

Say = Callable[[str], None]


def train(
    config: ExperimentConfig, *, output: Path, resume: bool = False, say: Say = print
) -> TrainReport:
    """Train at the experiment's own values (the search space is not read) and write the adapter to
    `output`/adapter.

    Every rank calls this; rank 0 writes and says. `resume` continues from `output`/checkpoint. The
    number of ranks is the one that torchrun started, whatever cluster.num_workers says. One that
    was interrupted before its first checkpoint begins again. Raises UserError where the input is
    wrong, and where the folder holds a training already and `resume` is not given.
    """
    settings = config.train_config()
    check_feasible([("", settings)], inspect_backbone(config.backbone))
    from components.training.world import join_world

    world = join_world()
    with alone(output, world):
        check_output(output, world, resume=resume)
        return train_alone(config, settings, world, output, say)


def train_alone(
    config: ExperimentConfig, settings: TrainConfig, world: "World", output: Path, say: Say
) -> TrainReport:
    """The training, by the one program that holds its folder."""
    from components.training.session import open_session

    session = open_session(settings, world, cache_path=Path(config.cluster.cache_path))
    data = prepare(config, session)
    if world.is_main:
        say(
            f"training on {world.size} rank(s), ZeRO stage {config.zero.stage}, "
            f"{len(data.splits['train'])} documents; backbone {config.backbone.name_or_path}"
            f"{describe_quantization(config.backbone)}"
        )
    result = carry_out(settings, session, data, output, say)
    if world.is_main:
        keep_record(result, settings, data, output, world)
    return report(config, result, world)


@contextmanager
def alone(output: Path, world: "World") -> Iterator[None]:
    """Hold the folder; raises ConfigError, on every rank, where another training has it."""
    from components.jobs.driver_lock import held

    with ExitStack() as stack:
        answer: ConfigError | None = None
        if world.is_main:
            try:
                stack.enter_context(held(output, what="a training", other="--output"))
            except ConfigError as error:
                answer = error
        answer = world.broadcast(answer)
        if answer is not None:
            raise answer
        yield


def check_output(output: Path, world: "World", *, resume: bool) -> None:
    """Raise ArtifactError, on every rank, where the folder holds a training that is not asked to be
    continued; ConfigError where nothing can be written into it.
    """
    from components.atomic_folder import recover

    writable_folder(output, "output")
    found = world.broadcast(world.is_main and recover(output / "checkpoint").exists())
    if found and not resume:
        raise ArtifactError(
            f"'{output}' already holds a training: give --resume to continue it, or another "
            "--output."
        )


def prepare(config: ExperimentConfig, session: "Session") -> "PreparedData":
    """Rank 0 prepares, then every rank memory-maps; a wrong document is told on every rank, so that
    none waits.
    """
    from components.data import open_prepared
    from components.tasks import prepare as prepare_data

    answer: Path | UserError | None = None
    if session.world.is_main:
        try:
            answer = prepare_data(
                config.data,
                session.tokenizer,
                tokenizer_id=tokenizer_id(config.backbone),
                cache_path=Path(config.cluster.cache_path),
            ).folder
        except UserError as error:
            answer = error
    answer = session.world.broadcast(answer)
    if isinstance(answer, UserError):
        raise answer
    assert answer is not None
    return open_prepared(answer)


def carry_out(
    settings: TrainConfig, session: "Session", data: "PreparedData", output: Path, say: Say
) -> "JobResult":
    """Train, then evaluate the best adapter, of a training that diverged later too. Raises
    WorkFailed where there is none.
    """
    from components.jobs.events import Evaluated, Event
    from components.jobs.job import Job
    from components.jobs.run_jobs import run_one
    from components.jobs.this_process import ThisProcess

    def show(event: Event) -> None:
        if isinstance(event, Evaluated):
            names = ("train/loss", settings.training.metric, "tokens_per_second")
            shown = (f"{name} {event.report.metrics[name]:.4g}" for name in names)
            say(f"step {event.report.step}: {', '.join(shown)}")

    workers = ThisProcess(session, code_version=code_version())
    job = Job("train", settings, data.folder, output)
    with telling_memory(settings):
        trained = run_one(workers, job, on_event=show)
    if trained.trained is None or not trained.trained.progress.best_evaluation:
        raise WorkFailed(
            f"No adapter was trained: {trained.outcome}, {trained.reason}", resumable=False
        )
    if trained.outcome != "completed" and session.world.is_main:
        say(f"{trained.outcome}: {trained.reason}; {kept(trained.trained)}")
    evaluated = run_one(workers, replace(job, train=False, evaluate=True))
    return replace(trained, final=evaluated.final)


@contextmanager
def telling_memory(settings: TrainConfig) -> Iterator[None]:
    """Say which settings make the same steps with less memory, where there was too little."""
    from components.jobs.smaller_batches import is_out_of_memory

    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        training = settings.training
        micro, more = training.micro_batch_size, training.gradient_accumulation_steps
        fix = (
            f"Half of it makes the same steps, and --resume goes on: --set "
            f"training.micro_batch_size={micro // 2} --set "
            f"training.gradient_accumulation_steps={2 * more}"
            if micro > 1
            else "Lower data.max_tokens, or set training.gradient_checkpointing"
        )
        raise WorkFailed(
            f"Out of memory at training.micro_batch_size {micro}. {fix}.", resumable=False
        ) from error


def kept(trained: "Trained") -> str:
    """What is left of a training that did not come to its end."""
    best = trained.progress.best_metrics
    return (
        f"the adapter is that of evaluation {trained.progress.best_evaluation} after step "
        f"{best['step']:.0f}, before that"
    )


def keep_record(
    result: "JobResult",
    settings: TrainConfig,
    data: "PreparedData",
    output: Path,
    world: "World",
) -> None:
    """Write the record beside the checkpoint."""
    from components.jobs.record import Identity, record_of, write_record

    identity = Identity(
        config_sha256=config_sha256(settings),
        train_batch_size=settings.training.batch_size(world.size),
        data_fingerprint=data.fingerprint,
        code_fingerprint=code_fingerprint(),
    )
    write_record(output, record_of(result, identity), config=resolved(settings))


def report(config: ExperimentConfig, result: "JobResult", world: "World") -> TrainReport:
    """What the workflow returns."""
    trained, final = result.trained, result.final
    assert trained is not None
    assert final is not None
    progress = trained.progress
    return TrainReport(
        experiment=config.name,
        outcome=result.outcome,
        reason=result.reason,
        world_size=world.size,
        zero_stage=config.zero.stage,
        steps=progress.step,
        tokens=progress.tokens,
        tokens_per_second=progress.tokens_per_second,
        metrics=final.metrics,
        history=progress.history,
        by_length=final.by_length,
        trainable_parameters=trained.trainable_parameters,
        adapter_folder=str(final.folder),
        seconds=progress.seconds,
    )
