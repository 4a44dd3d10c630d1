"""DeepSpeed's own Ulysses on two CPU ranks: `python -m tests.components.training.ulysses_ranks RANK
SIZE FOLDER` runs every case of CASES and writes what each rank found.

Each rank holds a part of the rows of one document; heads are exchanged for rows around the
attention function. The fact a newcomer gets wrong: registering replaces transformers' `sdpa` for
the whole process, and what it is replaced by drops every mask.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tests.components.training.ranks import meeting

ROWS, WIDTH = 24, 32
CASES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "grouped queries, fewer key heads than ranks": {
        "model_type": "llama",
        "num_key_value_heads": 1,
    },
    "checkpointed": {"model_type": "llama", "checkpointing": True},
    "a window": {"model_type": "mistral", "sliding_window": 4},
    "padding before the text": {"model_type": "llama", "padding": 5},
}


def backbone(case: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModel

    settings = {
        "vocab_size": 40,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "sliding_window": None,
    }
    changes = {name: case[name] for name in settings if name in case}
    config = AutoConfig.for_model(case["model_type"], **(settings | changes))
    torch.manual_seed(0)
    model: Any = AutoModel.from_config(config, attn_implementation="sdpa").train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if case.get("checkpointing"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def answers(model: Any, case: dict[str, Any], part: slice) -> dict[str, Any]:
    """Hidden states and gradients of this part of the rows, and the weights' gradients from it."""
    import torch

    generator = torch.Generator().manual_seed(1)
    given = torch.randn(1, ROWS, WIDTH, generator=generator)[:, part].clone().requires_grad_()
    mask = torch.ones(1, ROWS, dtype=torch.long)
    mask[:, : case.get("padding", 0)] = 0
    hidden = model(
        inputs_embeds=given,
        attention_mask=mask[:, part],
        position_ids=torch.arange(ROWS)[None, part],
        use_cache=False,
    ).last_hidden_state
    weights = torch.sin(torch.arange(ROWS * WIDTH)).view(1, ROWS, WIDTH)[:, part]
    (hidden * weights * mask[:, part, None]).sum().backward()
    assert given.grad is not None
    first = model.layers[0].self_attn.k_proj.weight.grad
    model.zero_grad(set_to_none=True)
    return {"hidden": hidden.detach(), "gradient": given.grad, "weight": first}


def main(rank: int, size: int, folder: Path) -> None:
    import torch.distributed as dist

    with meeting(rank, size, folder):
        from components.training.engine import import_deepspeed

        import_deepspeed().init_distributed(verbose=False)
        from deepspeed.runtime.sequence_parallel import parallel_state_sp
        from deepspeed.runtime.sequence_parallel.ulysses_sp import UlyssesSPAttentionHF
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        stock = ALL_ATTENTION_FUNCTIONS["sdpa"]
        part, found = slice(rank * ROWS // size, (rank + 1) * ROWS // size), {}
        for name, case in CASES.items():
            ALL_ATTENTION_FUNCTIONS["sdpa"] = stock
            model = backbone(case)
            whole = answers(model, case, slice(0, ROWS))
            parallel_state_sp._release_sequence_parallel_groups()
            UlyssesSPAttentionHF.register_with_transformers(
                model_name_or_path=model,
                core_attn_implementation="sdpa",
                sequence_parallel_size=size,
                micro_batch_size=1,
            )
            own = answers(model, case, part)
            dist.all_reduce(own["weight"])
            real = slice(max(0, case.get("padding", 0) - part.start), None)
            found[name] = {
                each: float((own[each] - expected).abs().max() / expected.abs().max())
                for each, expected in (
                    ("weight", whole["weight"]),
                    ("hidden", whole["hidden"][:, part]),
                    ("gradient", whole["gradient"][:, part]),
                )
                if each == "weight" or own[each][:, real].numel()
            }
        (folder / f"found{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
