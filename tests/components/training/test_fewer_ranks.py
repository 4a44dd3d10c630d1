"""A job on fewer ranks than its steps are counted by, from its first step to its evaluated
adapter.
"""

from pathlib import Path

import pytest

from components.config import ExperimentConfig, validate
from components.jobs.events import Event, Finalized, Trained
from components.jobs.job import Job
from components.tasks import prepare
from tests.faults.harness import toy_search


@pytest.mark.slow
def test_its_adapter_is_evaluated_too(tmp_path: Path) -> None:
    from components.jobs.carry_out import carry_out
    from components.training.session import open_session
    from components.training.world import join_world

    values = toy_search(tmp_path)
    values["training"] |= {"epochs": 1}
    config = validate(ExperimentConfig, values)
    train, cache = config.train_config(), Path(config.cluster.cache_path)
    session = open_session(train, join_world(), cache_path=cache)
    data = prepare(train.data, session.tokenizer, tokenizer_id="toy", cache_path=cache)
    job, told = Job("toy", train, data.folder, tmp_path / "job", evaluate=True), list[Event]()
    carry_out(session, job, emit=told.append, code_version="", ranks=2)
    trained, finalized = (event for event in told if isinstance(event, Trained | Finalized))
    assert isinstance(trained, Trained) and trained.outcome == "completed"
    assert isinstance(finalized, Finalized) and job.artifact.is_dir()
