"""The adapter's card: README.md of an artifact folder, for a person who finds it on a disk or in
the registry.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def card(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Markdown text: what the adapter is, what it needs, how to load it."""
    head, backbone, training = config["head"], config["backbone"], config["training"]
    count = sum(tensor.numel() for tensor in tensors.values())
    task = head["task"].replace("_", " ")
    if "num_labels" in head:
        labels = ", ".join(f"`{label}`" for label in head.get("labels") or ()) or "not named"
        task += f", {head['num_labels']} classes: {labels}; pooling {head['pooling']}"
    rows = "\n".join(
        f"| `{name}` | {tuple(tensor.shape)} | {tensor.numel():,} |"
        for name, tensor in tensors.items()
    )
    length = f", prefix length {config['prefix_length']}" if config.get("prefix_length") else ""
    name, family = backbone.get("name_or_path"), backbone.get("family")
    revision = backbone.get("revision") or "not pinned"
    quantised = f", quantised: {kind}" if (kind := backbone.get("quantization")) else ""
    named = f"`{name}` (family {family}, revision {revision}{quantised})"
    return f"""# {config["method"]} adapter{length}

| | |
|---|---|
| backbone | {named} |
| task | {task} |
| parameters | {count:,} (float32) |
| data fingerprint | {training.get("data_fingerprint") or "not recorded"} |
| code version | {training.get("code_version") or "not recorded"} |

```python
from components.adapters import load_adapter
model = load_adapter(backbone, "this folder")   # backbone: the transformers base model named above
```

| tensor | shape | parameters |
|---|---|---|
{rows}
"""
