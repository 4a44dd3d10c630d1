"""The code of a registered adapter (models-from-code): MLflow runs this file where the model is
loaded.

The backbone comes from where adapter_config.json says (hub, installed package or folder).
`model_config={"cache_path": ...}` at load time moves the cache of lengthened backbones.
"""

from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas
from mlflow.models import set_model

from components.inference.classifier import BATCH_SIZE, Classifier, load_classifier


class AdapterModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The columns of the task's signature, in and out."""

    classifier: Classifier

    def load_context(self, context: Any) -> None:
        cache_path = (context.model_config or {}).get("cache_path")
        self.classifier = load_classifier(
            Path(context.artifacts["adapter"]),
            cache_path=Path(cache_path) if cache_path else None,
            trusted=True,  # whoever may register a model decides what it runs
        )

    # DataFrame is the one type hint that MLflow neither turns into a signature of its own nor warns
    # about.
    def predict(
        self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        """`model_input`: a DataFrame with the columns of the task's signature (`text` of a
        classifier); returns one with its answers (`label` and `probabilities`), same rows in the
        same order.
        """
        batch_size = int((params or {}).get("batch_size", BATCH_SIZE))
        signature = self.classifier.task.signature
        records = model_input[list(signature.inputs)].to_dict("records")
        answers = self.classifier.answers(
            self.classifier.task.asked(records), batch_size=batch_size
        )
        return pandas.DataFrame(
            list(answers), columns=list(signature.outputs), index=model_input.index
        )


set_model(AdapterModel())
