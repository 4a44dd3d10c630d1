"""Under which licence a backbone's weights came, as far as its own folder says."""

from components.backbones.settings import BackboneConfig
from components.backbones.sources import checkpoint_folder
from components.errors import BackboneError

LONGEST = 80
MOST_LINES = 200


def licence(config: BackboneConfig) -> str | None:
    """`apache-2.0` from the head of the model card (README.md) beside the weights; None where there
    is no card or it does not say.
    """
    try:
        card = checkpoint_folder(config) / "README.md"
        lines = card.read_text(encoding="utf-8", errors="replace").splitlines()[:MOST_LINES]
    except (BackboneError, OSError):
        return None
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            return None
        name, _, value = line.partition(":")
        if name.strip() == "license" and value.strip():
            return value.strip().strip("'\"")[:LONGEST]
    return None
