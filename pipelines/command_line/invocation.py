"""From what was typed and the environment to what a workflow takes: the validated experiment, and
addresses that answer.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

    from components.config import ExperimentConfig
    from components.config.cluster import ClusterConfig
    from components.config.comparison import ComparisonConfig
    from pipelines.local_cluster.addresses import Addresses


def load(
    experiment: str, overrides: Sequence[str] | None, *, searches: bool = True
) -> "ExperimentConfig":
    """The validated experiment, relative paths in it read against the folder that the user works
    in. `searches`: its search space will be read; an override of what it searches is refused.

    A job runs in an uploaded copy of that folder; the local cluster tells it where the folder
    itself is.
    """
    from components.config.loading import check_overrides
    from pipelines.experiments import load_experiment

    config = load_experiment(_in_the_users_folder(experiment), overrides or ())
    if searches:
        check_overrides(config, overrides or ())
    config = config.model_copy(update={"cluster": _persistent(config.cluster, os.environ)})
    work_where_the_user_does()
    if config.backbone.source == "local":
        folder = str(Path(config.backbone.name_or_path).resolve())
        config = config.model_copy(
            update={"backbone": config.backbone.model_copy(update={"name_or_path": folder})}
        )
    return config


def load_comparison(file: str, overrides: Sequence[str] | None) -> "ComparisonConfig":
    """The validated comparison, relative paths in it read against the folder that the user works
    in.
    """
    from components.settings import expand_path
    from pipelines.experiments import load_comparison as read

    config = read(_in_the_users_folder(file), overrides or ())
    config = config.model_copy(update={"cluster": _persistent(config.cluster, os.environ)})
    work_where_the_user_does()
    backbone = config.base.get("backbone", {})
    if backbone.get("source") == "local":
        folder = str(Path(expand_path(backbone["name_or_path"])).resolve())
        backbone = backbone | {"name_or_path": folder}
        config = config.model_copy(update={"base": config.base | {"backbone": backbone}})
    return config


def _in_the_users_folder(file: str) -> str:
    """An experiment's file as it is named, or, in a job that does not find it in its uploaded copy
    (it lies outside, or .gitignore leaves it out), that of the folder which the user works in.
    """
    from components.settings import expand_path
    from pipelines.local_cluster.addresses import HOME

    home = os.environ.get(HOME)
    if home and not Path(file).is_file():
        there = Path(home) / expand_path(file)
        return str(there) if there.is_file() else file
    return file


def _persistent(cluster: "ClusterConfig", environ: Mapping[str, str]) -> "ClusterConfig":
    """With folders that outlast a job."""
    from pipelines.local_cluster.addresses import lasting_folder

    storage, cache = (
        str(lasting_folder(Path(each), environ))
        for each in (cluster.storage_path, cluster.cache_path)
    )
    return cluster.model_copy(update={"storage_path": storage, "cache_path": cache})


def work_where_the_user_does() -> None:
    """Go to the folder that the user works in, where the local cluster told this job of it: paths
    on the command line are relative to that one, not to the job's uploaded copy.
    """
    from pipelines.local_cluster.addresses import HOME

    if home := os.environ.get(HOME):
        os.chdir(home)


def parsed(context: "typer.Context", arguments: Sequence[str]) -> Mapping[str, Any]:
    """What the command line itself makes of a command that is to run elsewhere, {parameter: value};
    click's own error, as if the command had been given here, where it makes nothing of it.
    """
    name, *rest = arguments
    assert context.parent is not None
    group: Any = context.parent.command
    given: Mapping[str, Any] = group.commands[name].make_context(name, rest, context.parent).params
    return given


def load_for_submission(
    workflow: str, given: Mapping[str, Any]
) -> "ExperimentConfig | ComparisonConfig | None":
    """The configuration of a command that is to run elsewhere, checked as far as it can be here;
    None where it has none. Raises UserError.
    """
    if workflow == "compare":
        return load_comparison(given["comparison"], given["overrides"])
    if workflow not in ("search", "train", "study"):
        return None
    chosen = given["experiment"] or f"study_{given['name']}"
    config = load(chosen, given["overrides"], searches=workflow == "search")
    check(config, data=False)
    return config


def check_taken_along(
    given: Mapping[str, Any], config: "ExperimentConfig | ComparisonConfig | None", folder: Path
) -> None:
    """Refuse relative paths that lead out of the folder which a job gets a copy of. Raises
    ConfigError naming the argument or the setting.
    """
    from components.errors import ConfigError

    paths = {
        name: value
        for name, value in given.items()
        if isinstance(value, Path) or (isinstance(value, str) and value.endswith((".yaml", ".yml")))
    }
    for name, path in (paths | _data_files(config)).items():
        if (
            not (folder / path).resolve().is_relative_to(folder.resolve())
            and not Path(path).is_absolute()
        ):
            raise ConfigError(
                f"{name}: '{path}' lies outside '{folder}', and a job gets a copy of that folder "
                "alone. Copy it into the folder, or give an absolute path that the cluster sees."
            )


def _data_files(config: "ExperimentConfig | ComparisonConfig | None") -> dict[str, str]:
    """The paths of documents by the settings that name them."""
    sections = {} if config is None else config.model_dump()
    data = {
        "data": sections.get("data", {}),
        "base.data": sections.get("base", {}).get("data", {}),
    } | {
        f"tasks.{name}.data": task.get("data", {})
        for name, task in sections.get("tasks", {}).items()
    }
    return {
        f"{section}.{source}.{split}": path
        for section, settings in data.items()
        for source in ("files", "qangaroo")
        for split, path in (settings.get(source) or {}).items()
        if isinstance(path, str)
    }


def check(config: "ExperimentConfig", *, data: bool = True) -> None:
    """Refuse what cannot work before any address is tried or weight is read. Raises UserError.

    `data`: also look for the files or libraries that the documents come from; left out where
    another machine will read them.
    """
    from components.backbones import inspect_backbone
    from components.data.sources import source_of
    from components.planning import check_feasible, trainings_of
    from components.tuning.searchers import check_searcher

    check_searcher(config)
    check_feasible(trainings_of(config), inspect_backbone(config.backbone))
    if data:
        source_of(config.data).state(config.data)


def addresses() -> "Addresses":
    """Addresses from the environment or the local cluster; what ray needs to connect to them is put
    into the environment.
    """
    from components.secrets import keep_secret, secret_values
    from pipelines.local_cluster.addresses import connection_environment, find_addresses

    found = find_addresses(os.environ)
    connection = connection_environment(found, os.environ)
    keep_secret(secret_values(connection))
    os.environ.update(connection)
    return found


def connect(config: "ExperimentConfig | ComparisonConfig") -> "Addresses":
    """Addresses that a search can use. Raises ClusterError, within seconds, where one is missing,
    does not answer or refuses the token.
    """
    from components.registry import open_tracker
    from pipelines.local_cluster.addresses import check_ray

    found = addresses()
    check_ray(found.ray_address, os.environ)
    open_tracker(config.registry.kind, found.tracking_uri or "").check()
    return found


def resume_command(
    verb: str,
    experiment: str,
    options: str,
    overrides: Sequence[str] | None,
    *,
    program: str = "prefixprop",
) -> str:
    """The command line that continues what was interrupted."""
    sets = [f"--set {shlex.quote(override)}" for override in overrides or []]
    return " ".join(
        part for part in (program, verb, shlex.quote(experiment), options, *sets) if part
    )


def launcher(environ: Mapping[str, str]) -> str:
    """What this program was started by, for a command that continues it: as many ranks make the
    same optimizer steps, fewer do not.
    """
    ranks, here = environ.get("WORLD_SIZE", "1"), environ.get("LOCAL_WORLD_SIZE", "1")
    if ranks == "1":
        return "prefixprop"
    nodes = "" if ranks == here else f"--nnodes {int(ranks) // int(here)} [...] "
    return f"torchrun {nodes}--nproc_per_node {here} -m pipelines.cli"
