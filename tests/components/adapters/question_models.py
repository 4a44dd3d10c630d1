"""Multiple-choice models of every method, questions for them, and the naive dense scores."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.adapters import (
    AdaptedModel,
    MultipleChoiceHeadConfig,
    adapt,
)
from components.adapters.methods import ADAPTER_CONFIGS
from components.tasks.outputs import NO_CANDIDATE
from components.tasks.question_chunks import (
    ENTITY,
    ENTITY_END,
    QUESTION,
    QUESTION_END,
    cut,
)
from tests.components.adapters.dense_longformer import dense_longformer
from tests.components.adapters.harness import BOTH, build, check_gradients, randomise
from tests.components.adapters.method_models import (
    METHODS,
    dense_parts,
)

TOLERANCE = 1e-5


START, PAD, SEPARATOR, VOCABULARY = 0, 1, 2, 101


Question = list[list[int]]


"""Chunks of token ids."""


def question(seed: int, candidates: int, *, max_tokens: int = 26, supports: int = 3) -> Question:
    draw = np.random.default_rng(seed)

    def words(low: int, high: int) -> list[int]:
        return [int(token) for token in draw.integers(4, 100, draw.integers(low, high))]

    first = [START, QUESTION, *words(2, 4), QUESTION_END]
    for _ in range(candidates):
        first += [ENTITY, *words(1, 3), ENTITY_END]
    second = [token for _ in range(supports) for token in (SEPARATOR, *words(4, 9), SEPARATOR)]
    return [
        chunk.tolist() for chunk in cut(np.array(first), np.array(second), max_tokens=max_tokens)
    ]


QUESTIONS = [question(1, 3), question(2, 2, supports=1, max_tokens=40), question(3, 4, supports=4)]


LABELS = torch.tensor([2, 0, 1])


def batch(questions: list[Question], *, wide: int = 0, left: bool = False) -> dict[str, Tensor]:
    chunks = [(index, chunk) for index, chunks in enumerate(questions) for chunk in chunks]
    width = max(len(chunk) for _, chunk in chunks) + wide
    rows = [
        ([PAD] * (width - len(chunk)) + chunk) if left else (chunk + [PAD] * (width - len(chunk)))
        for _, chunk in chunks
    ]
    ids = torch.tensor(rows)
    return {
        "input_ids": ids,
        "attention_mask": (ids != PAD).long(),
        "example_index": torch.tensor([index for index, _ in chunks]),
    }


def new(
    method: str = "prefix_propagation", *, backbone: Any = None, **changes: Any
) -> AdaptedModel:
    config = ADAPTER_CONFIGS[method].model_validate(
        {"method": method, **METHODS[method], **changes}
    )
    chosen: Any = backbone or build("longformer")
    model = adapt(chosen, config, MultipleChoiceHeadConfig())
    randomise(model, only="head." if method == "full_fine_tuning" else "")
    return model


def dense_scores(
    model: AdaptedModel, questions: list[Question], leaves: Mapping[str, Tensor]
) -> list[Tensor]:
    """For each question the scores (C,) of its candidates, one chunk and one candidate at a
    time.
    """
    state = {name: tensor.detach().double() for name, tensor in model.backbone.state_dict().items()}
    state |= {
        name.removeprefix("backbone."): leaf
        for name, leaf in leaves.items()
        if name.startswith("backbone.")
    }
    words = state["embeddings.word_embeddings.weight"]
    state["embeddings.word_embeddings.weight"] = torch.cat(
        [words, leaves["head.special_tokens.weight"]]
    )
    found = []
    for chunks in questions:
        total: Any = 0.0
        for chunk in chunks:
            ids = [VOCABULARY + token + 4 if token < 0 else token for token in chunk]
            first = max(place for place, token in enumerate(chunk) if token == ENTITY_END) + 1
            parts = dense_parts(model.adapter_config.method, dict(leaves), model.adapter_config)
            parts = type(parts)(**{**vars(parts), "global_text": first})
            hidden_SD = dense_longformer(state, model.backbone.config, ids, parts)[-len(ids) :]
            total = total + torch.stack(
                [
                    hidden_SD[place] @ leaves["head.score.weight"][0]
                    for place, token in enumerate(chunk)
                    if token == ENTITY
                ]
            )
        found.append(total)
    return found


def scale_of(values: Tensor) -> float:
    """Scores and gradients of a few tens: the tolerance is relative to the largest."""
    return max(1.0, float(values.detach().abs().max()))


def check_against_dense(model: AdaptedModel) -> None:
    """Scores, loss and every gradient, on the stock and then on the fast attention."""
    leaves = {
        name: parameter.detach().double().requires_grad_()
        for name, parameter in model.trainable_parameters().items()
    }
    expected = dense_scores(model, QUESTIONS, leaves)
    loss = torch.stack(
        [
            -torch.log_softmax(scores, 0)[label]
            for scores, label in zip(expected, LABELS, strict=True)
        ]
    ).mean()
    loss.backward()
    for attention in BOTH:
        if attention == "fast":
            model.family.accelerate(model.backbone)
        model.zero_grad(set_to_none=True)
        out = model(**batch(QUESTIONS), labels=LABELS)
        assert out.logits.shape == (3, 4)
        for row, scores in zip(out.logits, expected, strict=True):
            torch.testing.assert_close(
                row[: len(scores)].double(), scores, atol=TOLERANCE * scale_of(scores), rtol=0
            )
            assert bool((row[len(scores) :] == NO_CANDIDATE).all())
        torch.testing.assert_close(out.loss.double(), loss, atol=TOLERANCE, rtol=1e-5)
        out.loss.backward()
        check_gradients(model, leaves, attention)
