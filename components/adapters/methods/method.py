"""What a method's settings class holds: every fact of the method. One file of this package is one
method; whoever asks (configuration, plan, `adapt`, artifact, package) asks the settings.

Everything here works without torch: `build` alone imports tensor code. The fact a newcomer gets
wrong: a method is built from these settings alone, never from the experiment around them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from components.backbones.family import BackboneFamily
from components.backbones.layer_memory import Kept
from components.backbones.shape import BackboneShape
from components.settings import Config, Fraction, PositiveInt, Rate
from components.tasks.task import Task

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod

Shapes = Mapping[str, tuple[int, ...]]
"""Tensor of an artifact, without `adapter.` -> its shape."""


@dataclass(frozen=True)
class Setting:
    """What a method is put into. `pooling` is None for a head that pools no row, `precision` where
    it is not known yet.
    """

    family: BackboneFamily
    task: Task
    pooling: str | None
    precision: str | None = None


class MethodConfig(Config):
    """Settings of one method, and what has to be known about it."""

    method: str
    trains_with_prefix: ClassVar[bool] = False
    """Whether it trains what the paper's release trains beside a prefix, where the family has it
    (BackboneFamily.trained_with_prefix).
    """
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions that it needs where it is loaded, beside torch and transformers."""
    not_stored: ClassVar[frozenset[str]] = frozenset()
    """Settings of how it is trained, which the artifact leaves out."""

    @property
    def text_is_read_apart(self) -> bool:
        """Whether the text does not see what is trained, so that it can be read without it."""
        return False

    @property
    def starting_text(self) -> str | None:
        """Text whose input embeddings a fresh adapter starts from; None: it needs none."""
        return None

    if TYPE_CHECKING:

        @property
        def prefix_length(self) -> int:
            """Positions beside the text."""

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        """A fresh module for this backbone, whose own dropout is given."""
        raise NotImplementedError

    def trained_parameters(self, shape: BackboneShape) -> int:
        """Trained scalars of the method alone. Shapes: L layers, P prefix, D hidden, K key/value
        width.
        """
        raise NotImplementedError

    def kept(self, shape: BackboneShape) -> Kept:
        """What it makes autograd keep in every layer, and the rows that it puts beside the text."""
        return Kept(rows=self.prefix_length, global_rows=self.prefix_length)

    def incompatibility(self, setting: Setting) -> str | None:
        """Why it cannot be trained there, as a sentence that starts with the setting and ends with
        the fix; None: it can.
        """
        return None

    def as_stored(self) -> Self:
        """The settings under which what the artifact holds is loaded."""
        return self

    @classmethod
    def completed(cls, stored: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
        """The settings in adapter_config.json with what only the tensors tell."""
        return dict(stored)


class NoPrefix(MethodConfig):
    """A method without prefix positions."""

    @property
    def prefix_length(self) -> int:
        """Positions beside the text: none."""
        return 0


class Prefix(MethodConfig):
    """What every trained prefix has."""

    length_tensors: ClassVar[tuple[str, ...]] = ("prefix",)
    """Tensors whose last axis but one is the prefix."""

    prefix_length: PositiveInt = 8
    """Prefix length P in positions."""
    dropout: Fraction | None = None
    """Dropout probability on the prefix, drawn per example; null takes the backbone's hidden
    dropout.
    """
    init_std: Rate = 0.02
    """Standard deviation of the normal initialisation; a start at zero or from a text does not read
    it.
    """

    @classmethod
    def completed(cls, stored: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
        lengths = [shapes[name][-2] for name in cls.length_tensors if len(shapes.get(name, ())) > 1]
        return ({"prefix_length": lengths[0]} if lengths else {}) | dict(stored)

    def own_dropout(self, of_backbone: float) -> float:
        """Dropout probability on the prefix."""
        return of_backbone if self.dropout is None else self.dropout


class ReparametrizedPrefix(Prefix):
    """A prefix that a small network may produce while it is trained."""

    not_stored: ClassVar[frozenset[str]] = frozenset(
        {"reparametrization", "reparametrization_hidden"}
    )

    reparametrization: Literal["none", "mlp"] = "none"
    """`mlp`: Embedding(P, D) -> Linear(D, hidden) -> Tanh -> Linear(hidden, ...), stored
    materialised.
    """
    reparametrization_hidden: Annotated[PositiveInt, Field(le=65_536)] = 512
    """Hidden width of the reparametrisation. Only read with `mlp`."""

    def as_stored(self) -> Self:
        return self.model_copy(update={"reparametrization": "none"})

    @classmethod
    def completed(cls, stored: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
        # A prefix is stored materialised, so it loads as a plain one, unless the folder holds the
        # network that produces it.
        found = super().completed(stored, shapes)
        widths = [
            shape[0]
            for name, shape in shapes.items()
            if name.endswith("reparametrization.down.bias")
        ]
        found["reparametrization"] = "mlp" if widths else "none"
        return found | ({"reparametrization_hidden": widths[0]} if widths else {})

    @property
    def network_width(self) -> int | None:
        """Hidden width of the network that produces the prefix; None: it is trained itself."""
        return self.reparametrization_hidden if self.reparametrization == "mlp" else None

    def produced(self, hidden: int, scalars_per_position: int) -> int:
        """Trained scalars of the prefix, or of the Embedding(P, D) -> Linear(D, R) -> Linear(R,
        scalars) that produces it.
        """
        width = self.network_width
        if width is None:
            return self.prefix_length * scalars_per_position
        network = (hidden + 1) * width + (width + 1) * scalars_per_position
        return self.prefix_length * hidden + network


def released_indexing_fault(setting: Setting) -> str | None:
    """Why `adapter.released_indexing`, the index error of the paper's release, cannot be repeated
    there.
    """
    if not setting.family.has_released_indexing:
        return (
            "adapter.released_indexing repeats an error of the paper's Longformer code; remove it"
        )
    if setting.task.global_text:
        return (
            "adapter.released_indexing repeats an error of the paper's classification code; "
            f"remove it for {setting.task.words}"
        )
    return None
