"""The documents of a run as MLflow shows them: a column of the runs' table, a filter, a panel."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.registry.pages import Dataset

if TYPE_CHECKING:
    from mlflow import MlflowClient

LONGEST_DIGEST = 36
CONTEXT = "mlflow.data.context"


def log_datasets(client: "MlflowClient", run_id: str, datasets: Sequence[Dataset]) -> None:
    """Inputs of the run, one per split; the same ones again change nothing."""
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Entity(
                name=dataset.name,
                digest=dataset.digest[:LONGEST_DIGEST],
                source_type="prefixprop",
                source=json.dumps({"source": dataset.source}),
                profile=json.dumps({"num_rows": dataset.documents, "num_tokens": dataset.tokens}),
            ),
            [InputTag(CONTEXT, dataset.split)],
        )
        for dataset in datasets
    ]
    client.log_inputs(run_id, inputs)
