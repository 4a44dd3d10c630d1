"""An encoder's classifier as a folder that plain torch and transformers answer from: what is added
before each layer, the first rows, the head, and a loader that puts them where they belong.

The fact a newcomer gets wrong: in an encoder the prefix sees the text, so that nothing of it can be
kept as keys and values; its rows run with every text, as they did in training. A gated, low-rank or
reparametrised prefix is stored as what it comes to.
Shapes: P prefix, L layers, D hidden.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.adapters.evaluating import evaluating
from components.errors import ConfigError
from components.inference.exported.beside import BACKBONE, write_beside

if TYPE_CHECKING:
    from torch import Tensor

    from components.adapters import AdaptedModel
    from components.adapters.modules.adapter_method import Contribution
    from components.inference.classifier import Classifier

FAMILIES = ("longformer", "encoder")
"""Those that the loader knows."""
TENSORS = "adapter.safetensors"
README = """# {method} without its project

A classifier on `{backbone}`: {positions} trained rows before every text, and a head on the
{pooling} row. verification.json says how far its logits are from those of the adapter.

```python
from classifier import Classifier        # the file beside this one: torch and transformers

classifier = Classifier("this folder")   # a copy of the backbone: Classifier(folder, "path")
logits = classifier.logits(["a document ...", "another ..."])
probabilities = (logits / classifier.told["temperature"]).softmax(dim=-1)
```

Classes, in the order of the logits: {labels}.

`adapter.safetensors`: `rows` (P, D) stand before the embeddings of the text, `prefix` (L, P, D) is
added to them before each layer; tensors under `backbone.` take the places of the backbone's own.
`backbone/`, where it is here, is the backbone as it was lengthened for the adapter.
"""


def write_encoder(classifier: "Classifier", folder: Path, *, cache_path: Path) -> None:
    """Write the export into a folder that is there. A backbone that was lengthened goes with it,
    out of the cache. Raises ConfigError for an adapter that is more than rows before an encoder's
    text.
    """
    import torch
    from safetensors.torch import save_file

    from components.backbones import backbone_folder

    model = classifier.model
    with evaluating(model), torch.no_grad():
        contribution = model.contribution(batch_size=1)
        if reason := _fault(model, contribution):
            raise ConfigError(f"{reason}. Nothing was written.")
        tensors = _tensors(model, contribution)
    trained = model.trained_in_backbone
    write_beside(
        classifier,
        folder,
        loader=Path(__file__).with_name("encoder_classifier.py"),
        more={"family": model.family.name, "trained_in_backbone": trained},
    )
    save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
    if classifier.backbone.lengthen_to is not None:
        lengthened = backbone_folder(classifier.backbone, cache_path=cache_path)
        shutil.copytree(lengthened, folder / BACKBONE)
    (folder / "README.md").write_text(_readme(classifier), encoding="utf-8")


def _fault(model: "AdaptedModel", contribution: "Contribution") -> str | None:
    rows, name = model.adapter.rows, f"adapter.method {model.adapter_config.method}"
    if model.family.name not in FAMILIES:
        return f"backbone.family {model.family.name} is not among {', '.join(FAMILIES)}"
    if rows.suffix:
        return "adapter.placement one_way reads the text apart, which no stock model does"
    if (
        not rows.prefix
        or rows.key_value
        or rows.decomposed
        or contribution.inside_layer is not None
        or contribution.changes_attention
        or contribution.changes_text
    ):
        return f"{name} is more than rows before the text, and nothing else is exported so"
    return None


def _tensors(model: "AdaptedModel", contribution: "Contribution") -> "dict[str, Tensor]":
    """Float32: `rows` (P, D), `prefix` (L, P, D), and what is trained in the backbone."""
    import torch

    length, layers = model.adapter.rows.prefix, model.family.layers(model.backbone)
    config: Any = model.backbone.config
    zeros_1PD = torch.zeros(1, length, config.hidden_size)
    first_1PD = zeros_1PD if contribution.prompt_BPD is None else contribution.prompt_BPD
    before = contribution.before_layer or (lambda _layer, hidden_BSD: hidden_BSD)
    prefix_LPD = torch.cat([before(index, zeros_1PD) for index in range(len(layers))])
    trained = {
        name: tensor
        for name, tensor in model.artifact_tensors().items()
        if name.startswith("backbone.")
    }
    return {"rows": first_1PD[0].clone(), "prefix": prefix_LPD.clone(), **trained}


def _readme(classifier: "Classifier") -> str:
    return README.format(
        method=classifier.model.adapter_config.method,
        backbone=classifier.backbone.name_or_path,
        positions=classifier.model.adapter.rows.prefix,
        pooling=getattr(classifier.model.head_config, "pooling", None),
        labels=", ".join(f"`{label}`" for label in classifier.labels),
    )
