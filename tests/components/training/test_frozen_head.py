"""The head alone on rows that the backbone gave once is head_only, which asks it in every epoch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.config import ExperimentConfig, validate
from components.tasks import prepare
from tests.conftest import build_tiny_longformer
from tests.toy import make_experiment

# Rows come from batches of other shapes: float32 sums in another order.
SAME_UP_TO_ROUNDING = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("form", ["mlp", "linear"])
def test_head_alone_equals_head_only_at_the_same_rate_and_epoch(form: str, tmp_path: Path) -> None:
    from components.training.evaluation import split_outputs
    from components.training.frozen_head import head_alone
    from components.training.session import open_session
    from components.training.trial import run_trial
    from components.training.world import join_world

    changes: dict[str, Any] = {"adapter": {"method": "head_only"}, "head.form": form}
    values = make_experiment(tmp_path, build_tiny_longformer(), **changes)
    config = validate(ExperimentConfig, values).train_config()
    session = open_session(config, join_world(), cache_path=tmp_path / "cache")
    cache = tmp_path / "cache"
    data = prepare(config.data, session.tokenizer, tokenizer_id="toy", cache_path=cache)
    alone = head_alone(session, data, config, batch_size=4, learning_rates=(1e-2,), epochs=2)
    result = run_trial(session, data, config, checkpoint_folder=tmp_path / "checkpoint")
    accuracies = [metrics["validation/accuracy"] for metrics in result.progress.history]
    assert alone.validation_accuracy == pytest.approx(max(accuracies))
    assert alone.epoch == 1 + accuracies.index(max(accuracies)) == result.progress.best_evaluation
    test = data.splits["test"]
    with session.engine(config, data.labels, parameters=result.best) as (model, _):
        logits = split_outputs(
            model,
            test,
            np.arange(len(test)),
            task=model.task,
            config=config.training,
            world=session.world,
            pad_token_id=session.pad_token_id,
        )
    assert np.abs(logits - alone.test_logits).max() < SAME_UP_TO_ROUNDING
