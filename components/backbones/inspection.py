"""A checkpoint looked at as a whole before anything is started: its config.json, the headers of its
weights, its tokenizer. Neither torch nor transformers is imported, nothing is downloaded but a
hub's config.json.
"""

from typing import Any

from components.backbones.settings import BackboneConfig
from components.backbones.sources import checkpoint_folder, read_backbone_config, stored_config
from components.backbones.tokenizer import check_tokenizer
from components.backbones.weights import check_weights


def inspect_backbone(config: BackboneConfig) -> dict[str, Any]:
    """config.json of the backbone as it will be loaded. Raises BackboneError for a checkpoint on
    this machine that could not be loaded whole; one of the hub is looked at when it is here.
    """
    values = read_backbone_config(config)
    if config.source != "hub":
        folder = checkpoint_folder(config)
        check_weights(folder, stored_config(folder))
        check_tokenizer(config, int(values["vocab_size"]))
    return values
