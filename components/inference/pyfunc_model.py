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

from components.data.documents import Question, Row
from components.data.qangaroo import questions_of
from components.errors import DataError
from components.inference.classifier import BATCH_SIZE, Classifier, load_classifier


class AdapterModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """text (or query, candidates, supports) -> label, probabilities."""

    classifier: Classifier

    def load_context(self, context: Any) -> None:
        cache_path = (context.model_config or {}).get("cache_path")
        self.classifier = load_classifier(
            Path(context.artifacts["adapter"]), cache_path=Path(cache_path) if cache_path else None
        )

    # DataFrame is the one type hint that MLflow neither turns into a signature of its own nor warns
    # about.
    def predict(
        self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        """`model_input`: a DataFrame with the column `text`; returns one with `label` and
        `probabilities` (label -> probability), same rows in the same order.

        Multiple choice: columns `query`, `candidates` and `supports` (lists of texts); `label` is
        the chosen candidate, `probabilities` are over the question's own candidates.
        """
        batch_size = int((params or {}).get("batch_size", BATCH_SIZE))
        if self.classifier.task == "multiple_choice":
            answers = self.classifier.question_answers(
                _questions(model_input), batch_size=batch_size
            )
        else:
            answers = self.classifier.answers(model_input["text"].tolist(), batch_size=batch_size)
        return pandas.DataFrame(
            list(answers), columns=["label", "probabilities"], index=model_input.index
        )


def _questions(model_input: pandas.DataFrame) -> list[Question]:
    records = (
        {
            "query": row["query"],
            "candidates": list(row["candidates"]),
            "supports": list(row["supports"]),
        }
        for row in model_input[["query", "candidates", "supports"]].to_dict("records")
    )
    questions, problems = questions_of(
        (Row("model_input", number, record) for number, record in enumerate(records, start=1)),
        answered=False,
    )
    if problems:
        raise DataError(str(problems[0]))
    return questions


set_model(AdapterModel())
