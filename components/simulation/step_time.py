"""Seconds of an optimizer step on more or fewer ranks than it was measured on.

The documents of a step are shared among the ranks, whole ones; what is computed takes as long as
the rank with most of them takes. What the ranks tell each other comes on top: below ZeRO stage 3
the gradients of what is trained, independent of the backbone's size; at stage 3 every frozen weight
in each pass, too.
"""

import math
from dataclasses import dataclass

from components.backbones import BackboneShape
from components.config.experiment import TrainConfig
from components.planning.memory import number_bytes

GRADIENT_BYTES = 4


@dataclass(frozen=True)
class Network:
    """`workers_per_node`: GPUs that share a node. Bytes per second that a rank sends while all do:
    inside its node (PCI Express 4 x16) and between nodes (100 Gbit/s, the slowest link of the ring
    decides). Latency is not counted.
    """

    workers_per_node: int = 8
    bytes_in_node: float = 20e9
    bytes_between_nodes: float = 10e9

    def bytes_per_second(self, ranks: int) -> float:
        return self.bytes_in_node if ranks <= self.workers_per_node else self.bytes_between_nodes


@dataclass(frozen=True)
class Traffic:
    """Bytes of all that is exchanged. `gradients`: once a step; `gathered`: in each pass of a
    micro-batch (0 below stage 3), of which there are `passes`: forward, backward, and one more
    where layers are recomputed.
    """

    gradients: int
    gathered: int = 0
    passes: int = 2


@dataclass(frozen=True)
class Share:
    """A step: `documents` of it, at most `micro_batch` of them at a time on a rank."""

    documents: int
    micro_batch: int

    def of_busiest(self, ranks: int) -> int:
        """Documents of the rank that has most."""
        return math.ceil(self.documents / ranks)

    def micro_batches(self, ranks: int) -> int:
        return math.ceil(self.of_busiest(ranks) / self.micro_batch)


@dataclass(frozen=True)
class StepRate:
    """What is known: a step of `share` on `ranks` took `seconds`, its part of evaluations and
    checkpoints included.
    """

    seconds: float
    ranks: int
    share: Share
    traffic: Traffic
    network: Network = Network()

    def step_seconds(self, share: Share, ranks: int) -> float:
        """A step of another share of documents on that many ranks."""
        computed = max(0.0, self.seconds - self._exchange(self.share, self.ranks))
        per_document = computed / self.share.of_busiest(self.ranks)
        return per_document * share.of_busiest(ranks) + self._exchange(share, ranks)

    def _exchange(self, share: Share, ranks: int) -> float:
        """A ring's reduction sends everything twice, its gathering once, but for one's own part."""
        others = (ranks - 1) / ranks
        gathered = self.traffic.gathered * self.traffic.passes * share.micro_batches(ranks)
        sent = others * (2 * self.traffic.gradients + gathered)
        return sent / self.network.bytes_per_second(ranks)


def share_of(config: TrainConfig, ranks: int) -> Share:
    """The steps of these settings, where they are configured for so many ranks."""
    training = config.training
    return Share(training.batch_size(ranks), training.micro_batch_size)


def traffic_of(config: TrainConfig, shape: BackboneShape, *, trainable: int) -> Traffic:
    """`trainable`: parameters that are trained."""
    gathered = number_bytes(config, shape) * shape.parameters if config.zero.stage == 3 else 0
    passes = 3 if config.training.gradient_checkpointing else 2
    return Traffic(GRADIENT_BYTES * trainable, gathered, passes)
