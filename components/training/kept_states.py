"""The pass over documents whose states are kept: before a trial's first step, and nothing to do
where an earlier one has been there.

The fact a newcomer gets wrong: nothing of the trial is in the key, neither its prefix nor its seed;
a search reads each document once.
"""

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from components.adapters import AdaptedModel
from components.backbones import weights_sha256
from components.backbones.text_in_passing import TextInPassing
from components.backbones.text_states import TextStates
from components.config import TrainConfig, resolved
from components.data.prepared import PreparedData
from components.errors import ConfigError
from components.training.pulse import PULSE
from components.training.state_store import StateStore
from components.training.states_folder import STATES_FOLDER

if TYPE_CHECKING:
    from components.training.session import Session

FORMAT = 1


def kept_states(
    session: "Session", config: TrainConfig, model: AdaptedModel, data: PreparedData
) -> StateStore | None:
    """States of all documents of the data; None where training.text_states is not `kept`. Called
    by every rank together, which share the work.

    Raises ConfigError where several ranks hold shards of the backbone (ZeRO-3): every rank would
    have to read every document with the others.
    """
    if config.training.text_states != "kept":
        return None
    if config.zero.stage == 3 and session.world.size > 1:
        raise ConfigError(
            "training.text_states kept does not work with zero.stage 3 on several workers: shards "
            "of the backbone would have every worker read every document. Set zero.stage to 0, 1 "
            "or 2, or training.text_states to anew."
        )
    identity = _identity(session, config, model)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
    filled = (digest, data.fingerprint)
    if filled in session.stores:
        return session.stores[filled]
    store = StateStore(session.cache_path / STATES_FOLDER / digest, identity)

    def read(input_ids_BT: Tensor, mask_BT: Tensor) -> TextStates | TextInPassing:
        PULSE.beat()
        device = session.world.device
        return model.read_text(input_ids_BT.to(device), mask_BT.to(device), stays=False)

    with torch.no_grad():
        store.fill(
            [split.input_ids(row) for split in data.splits.values() for row in range(len(split))],
            read,
        )
    session.world.barrier()
    session.stores[filled] = store
    return store


def _identity(session: "Session", config: TrainConfig, model: AdaptedModel) -> dict[str, Any]:
    """Everything that a document's states depend on beside its tokens."""
    backbone = session.backbone.config.to_dict()
    rows = model.adapter.rows.suffix if model.family.states_depend_on_rows(backbone) else None
    return {
        "format": FORMAT,
        "backbone": resolved(config.backbone),
        "weights_sha256": weights_sha256(config.backbone),
        "precision": session.precision,
        "rows": rows,
    }
