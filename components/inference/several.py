"""Several adapters that answer together: each document is read once for all that allow it.

The fact a newcomer gets wrong: only adapters whose rows the text does not see (placement suffix,
one_way) share a reading, and only of the same tokens. Any other one has the backbone's weights in
common with the rest, and takes a pass of its own.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from components.errors import ConfigError
from components.inference.classifier import (
    BATCH_SIZE,
    CHUNK_DOCUMENTS,
    Classifier,
    answers_of_chunk,
)


@dataclass(frozen=True)
class Several:
    """Live adapters by name, of one task on one backbone. Raises ConfigError where they are not."""

    named: Mapping[str, Classifier]

    def __post_init__(self) -> None:
        first, *others = self.named
        for name in others:
            _check_task(first, name, self.named)
            _check_backbone(first, name, self.named)

    def answers(
        self, asked: Sequence[Any], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[dict[str, dict[str, Any]]]:
        """For each that is asked the answer of each adapter, by name: what it answers alone, bit
        for bit.
        """
        for start in range(0, len(asked), CHUNK_DOCUMENTS):
            chunk = asked[start : start + CHUNK_DOCUMENTS]
            found: dict[str, list[dict[str, Any]]] = {}
            for alike in self._cut_alike:
                found |= answers_of_chunk(alike, chunk, batch_size=batch_size)
            for index in range(len(chunk)):
                yield {name: found[name][index] for name in self.named}

    def passes(self) -> tuple[tuple[str, ...], ...]:
        """How often a document is read: names of the adapters that answer from each reading."""
        if len(self.named) == 1:
            return (tuple(self.named),)
        from components.inference.outputs import reading

        found: list[tuple[str, ...]] = []
        for alike in self._cut_alike:
            shared: dict[int, list[str]] = {}
            for name, each in alike.items():
                key = reading(each.model)
                if key is None:
                    found.append((name,))
                else:
                    shared.setdefault(key, []).append(name)
            found += map(tuple, shared.values())
        return tuple(found)

    @cached_property
    def _cut_alike(self) -> list[dict[str, Classifier]]:
        """Adapters to which a text is the same tokens."""
        if len(self.named) == 1:
            return [dict(self.named)]
        groups: dict[tuple[str, int, str], dict[str, Classifier]] = {}
        for name, each in self.named.items():
            cutting = json.dumps(each.task.uncut(each.cutting), sort_keys=True)
            key = (each.tokenizer_id, each.max_tokens, cutting)
            groups.setdefault(key, {})[name] = each
        return list(groups.values())


def _check_task(first: str, name: str, named: Mapping[str, Classifier]) -> None:
    one, other = named[first].task, named[name].task
    if one.name != other.name:
        raise ConfigError(
            f"'{first}' was trained for {one.words} and '{name}' for {other.words}: they are asked "
            "different things. Ask them apart."
        )


def _check_backbone(first: str, name: str, named: Mapping[str, Classifier]) -> None:
    from components.backbones.sharing import same_weights

    if same_weights(named[first].model.backbone, named[name].model.backbone):
        return
    one, other = (_identity(named[each]) for each in (first, name))
    differing = [
        f"{key} {one[key]} and {other[key]}" for key in one if one[key] != other.get(key)
    ] or ["config.json"]
    raise ConfigError(
        f"'{first}' and '{name}' stand on different backbones, so that no document can be read for "
        f"both: {'; '.join(differing)}. Ask them apart."
    )


def _identity(classifier: Classifier) -> dict[str, Any]:
    """What makes a backbone the same, for a message."""
    from components.backbones import weights_sha256

    settings = classifier.backbone.model_dump(mode="json")
    weight = next(classifier.model.backbone.parameters())
    return {
        **settings,
        "weights": f"sha256 {weights_sha256(classifier.backbone)[:12]}",
        "precision": str(weight.dtype).removeprefix("torch."),
    }
