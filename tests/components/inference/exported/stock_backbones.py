"""Classifiers on tiny backbones that stock libraries can load from a disk."""

from pathlib import Path
from typing import Any

import torch

from components.adapters import ClassificationHeadConfig, adapt, save_adapter
from components.adapters.methods import ADAPTER_CONFIGS
from components.backbones import BackboneConfig, family_of, load_backbone
from components.inference.classifier import Classifier
from components.settings import resolved
from tests.components.backbones.rotary.tiny import tiny_model
from tests.registry_fixtures import LABELS, tiny_tokenizer

P, MAX_TOKENS = 3, 40
SPREAD = 0.1
"""Of random weights and of the head's, so that logits are some tenths: float32 of stock and of ours
then agrees to 1e-7 (2e-6 with three times as much), and a prefix that is off by a tenth moves them
by 1e-3.
"""


def classifier_on(
    place: Path,
    model: Any,
    *,
    method: str = "prefix_propagation",
    pooling: Any = "last",
    loading: dict[str, Any] | None = None,
    **settings: Any,
) -> Classifier:
    """A classifier on a saved copy of the model, every trained value random. `loading`: settings of
    the backbone beside those.
    """
    model.save_pretrained(place / "backbone")
    given = loading or {"family": family_of(model).name}
    source = BackboneConfig(source="local", name_or_path=str(place / "backbone"), **given)
    backbone = load_backbone(source, cache_path=place / "cache")
    head = ClassificationHeadConfig(num_labels=len(LABELS), labels=LABELS, pooling=pooling)
    config = ADAPTER_CONFIGS[method].model_validate({"prefix_length": P} | settings)
    adapted = adapt(backbone, config, head).eval()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in sorted(adapted.trainable_parameters().items()):
            spread = SPREAD if name.startswith("head.") else 3 * SPREAD
            parameter.copy_(spread * torch.randn(parameter.shape, generator=draw))
    return Classifier(
        model=adapted,
        tokenizer=tiny_tokenizer(pad_id=model.config.pad_token_id),
        labels=LABELS,
        max_tokens=MAX_TOKENS,
        temperature=1.7,
        backbone=source,
        cutting={},
    )


def saved(classifier: Classifier) -> Path:
    """Its adapter folder, beside the backbone."""
    source = classifier.backbone
    folder = save_adapter(
        classifier.model,
        Path(source.name_or_path).parent / "adapter",
        training={"max_tokens": classifier.max_tokens},
        backbone_id={"load": resolved(source)},
    )
    classifier.tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def tiny_classifier(
    place: Path, model_type: str = "llama", *, changes: dict[str, Any] | None = None, **given: Any
) -> Classifier:
    """On the tiny model of a type with these changes of its configuration."""
    model = tiny_model(model_type, **{"initializer_range": SPREAD} | (changes or {}))
    return classifier_on(place, model, **given)
