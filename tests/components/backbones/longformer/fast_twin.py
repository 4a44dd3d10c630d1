"""A Longformer, its twin with fast attention, and inputs for both."""

import copy

import torch
from torch import Tensor
from transformers import LongformerConfig, LongformerModel

from components.backbones.longformer.fast_attention import (
    install_fast_attention,
)

WINDOW = 8


def longformer(**changes: object) -> LongformerModel:
    torch.manual_seed(0)
    settings: dict[str, object] = {
        "vocab_size": 50,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 32,
        "attention_window": [WINDOW] * 3,
        "max_position_embeddings": 400,
        "pad_token_id": 1,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    model = LongformerModel(
        LongformerConfig(**(settings | changes)), add_pooling_layer=False
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.requires_grad_(False)


def fast_twin(model: LongformerModel) -> LongformerModel:
    twin = copy.deepcopy(model)
    install_fast_attention(twin)
    return twin


def masks(
    batch: int, rows: int, *, padding: tuple[int, ...], global_rows: tuple[tuple[int, ...], ...]
) -> tuple[Tensor, Tensor]:
    attention_BS, global_BS = (
        torch.ones(batch, rows, dtype=torch.long),
        torch.zeros(batch, rows, dtype=torch.long),
    )
    for index, count in enumerate(padding):
        attention_BS[index, rows - count :] = 0
    for index, chosen in enumerate(global_rows):
        global_BS[index, list(chosen)] = 1
    return attention_BS, global_BS


def outputs_and_gradient(
    model: LongformerModel, embeddings_BSD: Tensor, attention_BS: Tensor, global_BS: Tensor | None
) -> tuple[Tensor, Tensor]:
    embeddings_BSD = embeddings_BSD.clone().requires_grad_(True)
    real_BS1 = attention_BS[..., None].to(embeddings_BSD.dtype)
    hidden_BSD = (
        model(
            inputs_embeds=embeddings_BSD,
            attention_mask=attention_BS,
            global_attention_mask=global_BS,
        ).last_hidden_state
        * real_BS1
    )
    weights_BSD = (
        torch.sin(torch.arange(hidden_BSD.numel(), dtype=torch.float32))
        .view_as(hidden_BSD)
        .to(hidden_BSD.dtype)
    )
    (hidden_BSD * weights_BSD).sum().backward()
    assert embeddings_BSD.grad is not None
    return hidden_BSD.detach(), embeddings_BSD.grad * real_BS1


def embeddings(batch: int, rows: int) -> Tensor:
    return torch.randn(batch, rows, 24, generator=torch.Generator().manual_seed(5))


CASES = {
    "prefix and first token": (2, 40, (0, 0), ((0, 1, 2, 3), (0, 1, 2, 3))),
    "padded to different lengths": (3, 48, (0, 17, 40), ((0, 1, 2), (0, 1, 2), (0, 1, 2))),
    "different number of globals": (3, 40, (0, 5, 11), ((0, 7, 20, 39), (3,), ())),
    "no globals": (2, 40, (0, 9), ((), ())),
    "every row global": (1, 16, (0,), (tuple(range(16)),)),
    "shorter than the window": (2, 5, (0, 2), ((0,), (0, 1))),
    "one row": (1, 1, (0,), ((0,),)),
    "not a multiple of the window": (2, 43, (0, 1), ((0,), (0, 42 - 5))),
    "several blocks": (1, 300, (3,), ((0, 1, 2, 150, 296),)),
}
