"""Documents in a cache that each node has for itself (`cluster.cache: per_node`)."""

from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import DataError
from components.jobs.job import Job

if TYPE_CHECKING:
    from components.training.session import Session


def prepare_on_this_node(session: "Session", job: Job, *, cache_path: Path) -> None:
    """Make the job's documents where this node has none yet; called by every rank, of which one a
    node makes them. Raises DataError, on every rank, where a node reads other files than the
    driver.
    """
    from components.backbones import tokenizer_id
    from components.tasks import prepare

    config = job.config
    found = prepare(
        config.data,
        session.tokenizer,
        tokenizer_id=tokenizer_id(config.backbone),
        cache_path=cache_path,
    )
    names = session.world.gather(found.folder.name)
    others = [rank for rank, name in enumerate(names) if name != job.data_folder.name]
    if others:
        raise DataError(
            f"cluster.cache per_node: ranks {', '.join(map(str, others))} read other documents "
            "or another tokenizer than the driver (size or modification time of a file differ). "
            "Copy them to every node with their times (rsync --times), or read them from shared "
            "storage or a hub."
        )
