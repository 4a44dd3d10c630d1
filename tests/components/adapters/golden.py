"""Golden losses: 20 steps of AdamW with every method on a tiny Longformer, in float32, without
DeepSpeed. A change of numerics shows here.

`python -m tests.components.adapters.golden` writes golden_losses.json anew; a commit that does so
says why the numbers moved.
"""

import json
import platform
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).with_name("golden_losses.json")
STEPS = 20


def losses(method: str) -> list[float]:
    """Mean cross-entropy before each of the steps, over four documents of 12 to 40 tokens in three
    classes; window 8, fast attention.
    """
    import torch

    from components.adapters import ClassificationHeadConfig, adapt
    from components.adapters.methods import ADAPTER_CONFIGS
    from tests.components.adapters.harness import build, documents
    from tests.components.adapters.method_models import METHODS

    backbone = build("longformer")
    torch.manual_seed(11)
    config: Any = ADAPTER_CONFIGS[method].model_validate({"method": method, **METHODS[method]})
    model = adapt(backbone, config, ClassificationHeadConfig(num_labels=3, pooling="mean")).train()
    model.family.accelerate(backbone)
    _, ids, mask = documents(1, (40, 25, 31, 12))
    labels = torch.tensor([0, 1, 2, 1])
    optimizer = torch.optim.AdamW(
        model.trainable_parameters().values(),
        lr=1e-3 if method == "full_fine_tuning" else 1e-2,
        weight_decay=0.0,
    )
    found = []
    for _ in range(STEPS):
        loss = model(ids, mask, labels).loss
        found.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


def main() -> None:
    import torch
    import transformers

    from components.adapters import ADAPTERS

    torch.set_num_threads(1)
    made_with = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
    }
    GOLDEN.write_text(
        json.dumps(
            {"made_with": made_with, "losses": {method: losses(method) for method in ADAPTERS}},
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
