"""Whether all nodes see the folders that they must share, tried before anything starts: the driver
writes a file into each, every node looks for it and answers beside it.

A folder of the same name is on every node; that it is the same folder shows only in what another
node wrote. Nodes that come later are not asked here: their workers look (slot_worker.py).
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from components.config.cluster import ClusterConfig
from components.errors import ClusterError, ConfigError
from components.settings import writable_folder

NODES_NAMED = 4
SEEN_WITHIN_SECONDS = 15.0
"""NFS shows a new file late where the folder was looked at just before."""


def check_shared_folders(cluster: ClusterConfig) -> None:
    """Raise ConfigError, naming setting, nodes and fix, where the connected cluster has more than
    one node and not all of them see storage_path and cache_path, or cannot write there. With
    `cache: per_node` cache_path need only be writable on each.
    """
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    if len(nodes) < 2:
        return
    shared = {"cluster.storage_path": Path(cluster.storage_path).resolve()}
    own = {"cluster.cache_path": Path(cluster.cache_path).resolve()}
    if cluster.cache == "shared":
        shared, own = shared | own, {}
    with ExitStack() as written:
        words = {
            setting: written.enter_context(_word(writable_folder(folder, setting)))
            for setting, folder in shared.items()
        }
        answers = _answers(nodes, words, own, timeout_seconds=cluster.placement_timeout_seconds)
        for setting, word in words.items():
            _check(setting, word, nodes, {node: said[setting] for node, said in answers.items()})
    for setting, folder in own.items():
        failed = {node: said[setting] for node, said in answers.items() if said[setting]}
        if failed:
            raise ConfigError(
                f"{setting}: nothing can be written below '{folder}' on {_named(nodes, failed)}. "
                "Name a folder that each node may write to."
            )


@contextmanager
def _word(folder: Path) -> Iterator[Path]:
    """A file of the driver's in the folder, for the length of the block; gone with its answers."""
    word = folder / f".prefixprop-node-{uuid4().hex}"
    word.write_text("asked")
    try:
        yield word
    finally:
        for file in folder.glob(f"{word.name}*"):
            file.unlink(missing_ok=True)


def _answers(
    nodes: Mapping[str, Mapping[str, object]],
    words: Mapping[str, Path],
    own: Mapping[str, Path],
    *,
    timeout_seconds: float,
) -> dict[str, dict[str, str]]:
    """Node -> setting -> what is wrong there, "" where nothing is."""
    look = ray.remote(num_cpus=0)(_look)
    asked = {
        node: look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(node, dict(words), dict(own))
        for node in nodes
    }
    try:
        found = ray.get(list(asked.values()), timeout=timeout_seconds)
    except GetTimeoutError as error:
        late, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=0)
        silent = [node for node, ref in asked.items() if ref not in late]
        raise ClusterError(
            f"Nodes of the cluster do not answer within cluster.placement_timeout_seconds "
            f"({timeout_seconds:g} s): {_named(nodes, silent)}. Remove them, or raise the time."
        ) from error
    except RayError as error:
        raise ClusterError(
            "A node of the cluster could not be asked what it sees of cluster.storage_path: "
            f"{' '.join(str(error).split())[:300]} Run the same command again when the cluster "
            "stands still."
        ) from error
    return dict(zip(asked, found, strict=True))


def _look(node: str, words: Mapping[str, Path], own: Mapping[str, Path]) -> dict[str, str]:
    """On a node: answer beside each of the driver's files; try to write into its own folders."""
    said = {}
    for setting, word in words.items():
        try:
            word.read_text()
            word.with_name(f"{word.name}.{node}").write_text("seen")
            said[setting] = ""
        except OSError as error:
            said[setting] = os.strerror(error.errno or 0)
    for setting, folder in own.items():
        try:
            writable_folder(folder, setting)
            said[setting] = ""
        except ConfigError as error:
            said[setting] = str(error)
    return said


def _check(
    setting: str,
    word: Path,
    nodes: Mapping[str, Mapping[str, object]],
    said: Mapping[str, str],
) -> None:
    answered = [node for node, problem in said.items() if not problem]
    seen = _seen_here([word.with_name(f"{word.name}.{node}") for node in answered])
    wrong = [node for node in said if f"{word.name}.{node}" not in seen]
    if wrong:
        reasons = ", ".join(sorted({said[node] or "its answer is not seen here" for node in wrong}))
        per_node = (
            ", or set cluster.cache to per_node, and each node makes its own"
            if setting == "cluster.cache_path"
            else ""
        )
        raise ConfigError(
            f"{setting}: '{word.parent}' is not the same folder on all nodes: what this node wrote "
            f"there is not found on {_named(nodes, wrong)} ({reasons}). Mount the same storage "
            f"there at this path (NFS, a shared volume), or name one that is (--set {setting}=...)"
            f"{per_node}."
        )


def _seen_here(answers: Iterable[Path]) -> set[str]:
    """Names of the files that exist, once all do or the time is over."""
    waited, deadline = list(answers), time.monotonic() + SEEN_WITHIN_SECONDS
    while time.monotonic() < deadline and not all(file.exists() for file in waited):
        time.sleep(0.5)
    return {file.name for file in waited if file.exists()}


def _named(
    nodes: Mapping[str, Mapping[str, object]], some: "Mapping[str, object] | list[str]"
) -> str:
    shown = [
        f"{nodes[node]['NodeManagerHostname']} ({nodes[node]['NodeManagerAddress']})"
        for node in list(some)[:NODES_NAMED]
    ]
    more = len(some) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
