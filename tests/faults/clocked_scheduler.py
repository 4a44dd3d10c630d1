"""A scheduler whose clock a test moves: `python -m tests.faults.clocked_scheduler FOLDER`.

Reads FOLDER/schedules.yaml, and FOLDER/clock at every look: seconds by which its clock is ahead.
Jobs run on the cluster of FOLDER/.prefixprop and read relative paths against FOLDER.
"""

import os
import sys
import time
from pathlib import Path

from pipelines.local_cluster.access import mlflow_credentials
from pipelines.local_cluster.state_file import read_cluster
from pipelines.scheduling import scheduler
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.ray_jobs import RayJobs
from pipelines.scheduling.schedules import load_schedules
from pipelines.scheduling.state import States

ROOT = Path(__file__).resolve().parents[2]


def main(folder: Path) -> None:
    state = folder / ".prefixprop"
    cluster = read_cluster(state)
    assert cluster is not None
    os.environ.update(cluster.environment | mlflow_credentials(state))
    jobs = RayJobs(
        cluster.jobs_address,
        environ=os.environ | {"MLFLOW_TRACKING_URI": cluster.tracking_uri},
        working_dir=ROOT,
        home=folder,
    )
    scheduler.run(
        load_schedules(folder / "schedules.yaml"),
        States(shared_engine(cluster.tracking_uri, state)),
        jobs,
        say=lambda line: print(line, flush=True),
        now=lambda: time.time() + float((folder / "clock").read_text()),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
