"""Answers that a model writes: the likeliest token, and again, until one ends the text.

The fact a newcomer gets wrong: what a method adds to prefix rows alone is in the cache of keys and
values once the prompt was read, and later tokens are run by the backbone as it is. A method that
changes what happens inside a layer, a backbone with local layers (whose cache forgets the prefix),
and one that rotates by length read everything anew for each token.
Shapes: T tokens of a prompt, D hidden.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from components.adapters.model import AdaptedModel
from components.backbones.rotary import positions
from components.backbones.rotary.sizes import LOCAL, layer_kinds
from components.backbones.rotary.types import MODEL_TYPES
from components.data.batching import padded
from components.inference.shared_backbone import turn
from components.tasks.heads.classification import pool

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Steps = Generator[Tensor, int, None]
"""Last hidden states (1, D): of a prompt, then of each token that is sent."""


def generated(
    model: AdaptedModel,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
) -> Iterator[str]:
    """What follows each prompt, without special tokens. The model is put into evaluation mode."""
    with turn(model):
        model.eval()
    for prompt in prompts:
        with turn(model), torch.inference_mode():
            ids = completed(model, prompt, end=tokenizer.eos_token_id, most=max_new_tokens)
        yield str(tokenizer.decode(ids, skip_special_tokens=True))


def completed(
    model: AdaptedModel, prompt: Sequence[int], *, end: int | None, most: int
) -> list[int]:
    """Ids of the likeliest next tokens, one after the other: at most so many, and none behind
    `end`, which is left out.
    """
    head: Any = model.head
    steps = cached_steps(model, prompt) if caches(model) else rerun_steps(model, prompt)
    found: list[int] = []
    hidden_1D = next(steps)
    while True:
        token = int(head.next_logits(hidden_1D).argmax())
        if token == end:
            return found
        found.append(token)
        if len(found) == most:
            return found
        hidden_1D = steps.send(token)


def caches(model: AdaptedModel) -> bool:
    """Whether keys and values that were read once serve for all tokens that follow."""
    config: Any = model.backbone.config
    contribution = model.contribution(batch_size=1)
    if contribution.inside_layer is not None or contribution.changes_text:
        return False
    kinds = layer_kinds(MODEL_TYPES[config.model_type], vars(config))
    return not set(LOCAL) & set(kinds) and not positions.rotates_by_length(vars(config))


def cached_steps(model: AdaptedModel, prompt: Sequence[int]) -> Steps:
    """Last hidden state (1, D) of the prompt, then of each token that is sent, by the cache."""
    backbone: Any = model.backbone
    contribution = model.contribution(batch_size=1)
    ids_1T = torch.tensor([list(prompt)], device=model.device)
    inputs = model.family.prefixed_inputs(
        backbone,
        ids_1T,
        torch.ones_like(ids_1T),
        model.adapter.rows,
        prompt_BPD=contribution.prompt_BPD,
    )
    with model.contributed(contribution):
        out = backbone(**inputs | {"use_cache": True})
    place_11 = inputs["position_ids"][:1, -1:]
    while True:
        token = yield out.last_hidden_state[:, -1]
        place_11 = place_11 + 1
        out = backbone(
            input_ids=torch.full_like(ids_1T[:, :1], token),
            position_ids=place_11,
            past_key_values=out.past_key_values,
            use_cache=True,
        )


def rerun_steps(model: AdaptedModel, prompt: Sequence[int]) -> Steps:
    """The same by reading prompt and tokens anew each time."""
    ids = list(prompt)
    while True:
        ids_1T = torch.tensor([ids], device=model.device)
        contribution = model.contribution(batch_size=1)
        hidden_1SD = model.hidden_states(contribution, ids_1T, torch.ones_like(ids_1T))
        ids.append((yield hidden_1SD[:, -1]))


def next_logits(model: AdaptedModel, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Of the token that follows each prompt, (N, V) float32, with the prompts padded together."""
    head: Any = model.head
    # Any id fills up: the mask covers it.
    ids_NT, mask_NT = map(torch.from_numpy, padded(prompts, pad_token_id=0))
    ids_NT, mask_NT = ids_NT.to(model.device), mask_NT.to(model.device)
    with turn(model), torch.inference_mode():
        model.eval()
        hidden_NSD = model.hidden_states(
            model.contribution(batch_size=len(prompts)), ids_NT, mask_NT
        )
        last_ND = pool(hidden_NSD, mask_NT, prefix_length=model.adapter.rows.prefix, pooling="last")
        found: Tensor = head.next_logits(last_ND)
    return found


def written(
    each: Any, asked: Sequence[str], encoded: Sequence[Sequence[Sequence[int]]]
) -> list[dict[str, Any]]:
    """Answers of a live adapter (Classifier) to what is asked."""
    from components.tasks.language_modelling import new_tokens

    texts = generated(
        each.model,
        each.tokenizer,
        [ids for (ids,) in encoded],
        max_new_tokens=new_tokens(each.cutting, each.max_tokens),
    )
    return [
        each.task.answer(prompt, text, each.labels)
        for prompt, text in zip(asked, texts, strict=True)
    ]
