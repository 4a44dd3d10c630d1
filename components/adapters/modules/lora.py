"""LoRA by the peft library: W x + (alpha / r) B A x for chosen linear modules of every layer.

peft builds the modules; they live in the adapter, not in the backbone, and take the places of the
linear modules only while a layer runs. So the backbone stays as it was, several adapted models can
share it, and nothing is left to undo after a trial.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

from components.adapters.modules.adapter_method import Contribution, Values
from components.backbones import family_of
from components.backbones.family import Rows
from components.errors import ConfigError

ADAPTER_NAME = "default"
Places = list[dict[str, str]]
"""For each layer: module of the adapter -> path of the linear module inside the layer."""


class Lora(nn.Module):
    """peft's modules by layer and linear module: `layers.<layer>.<module>.lora_A.default.weight`
    (r, in) and `...lora_B.default.weight` (out, r).
    """

    def __init__(self, layers: list[dict[str, nn.Module]], places: Places) -> None:
        super().__init__()
        self.rows = Rows()
        self.trained_in_backbone: tuple[str, ...] = ()
        self.layers = nn.ModuleList(nn.ModuleDict(modules) for modules in layers)
        self.places = places

    def forward(self) -> Values:
        return {}

    def contribute(self, values: Mapping[str, Tensor], *, batch_size: int) -> Contribution:
        # A last layer cut down to one row would leave some updates without a gradient.
        return Contribution(inside_layer=self._swapped, changes_attention=True)

    def _swapped(self, index: int, layer: nn.Module) -> AbstractContextManager[Any]:
        modules: Any = self.layers[index]
        return _in_place_of(
            layer, {path: modules[name] for name, path in self.places[index].items()}
        )

    def stored(self, parameters: Mapping[str, Tensor]) -> Values:
        return dict(parameters)


@contextmanager
def _in_place_of(layer: nn.Module, modules: Mapping[str, Any]) -> Iterator[None]:
    """Each module stands at its path with the linear module found there as its base, for the length
    of the block.
    """
    bases = {path: layer.get_submodule(path) for path in modules}
    try:
        for path, module in modules.items():
            module.base_layer = bases[path]
            _put(layer, path, module)
        yield
    finally:
        for path, module in modules.items():
            _put(layer, path, bases[path])
            module._modules.pop("base_layer", None)


def _put(layer: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(layer.get_submodule(parent), name, module)


def new_lora(
    backbone: nn.Module, *, rank: int, alpha: float, dropout: float, targets: tuple[str, ...]
) -> Lora:
    """Fresh modules: A drawn by peft, B zero. Raises ConfigError where a target is no linear module
    of the layers.
    """
    import peft
    from peft.tuners.lora import LoraLayer

    family = family_of(backbone)
    for target in targets:
        _check_target(target, family.layers(backbone)[0])
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(targets),
        bias="none",
    )
    peft.inject_adapter_in_model(settings, backbone, adapter_name=ADAPTER_NAME)
    backbone.__dict__.pop("peft_config", None)
    by_layer: list[dict[str, Any]] = [
        {path: module for path, module in layer.named_modules() if isinstance(module, LoraLayer)}
        for layer in family.layers(backbone)
    ]
    for path, module in list(
        backbone.named_modules()
    ):  # a pooler, for one, may have a module of that name too
        if isinstance(module, LoraLayer):
            _put(backbone, path, module.get_base_layer())
            module._modules.pop("base_layer")
    names = [_names(found) for found in by_layer]
    layers = [
        {name: found[path].float() for name, path in own.items()}
        for own, found in zip(names, by_layer, strict=True)
    ]
    return Lora(layers, names)


def _names(paths: Iterable[str]) -> dict[str, str]:
    """Name in the adapter -> path in the layer: the module's own name where only one has it
    (`query`), else its path (`attention__output__dense`).
    """
    own = Counter(path.rpartition(".")[2] for path in paths)
    return {
        name if own[name := path.rpartition(".")[2]] == 1 else path.replace(".", "__"): path
        for path in paths
    }


def _check_target(target: str, layer: nn.Module) -> None:
    """A name of linear modules, or the end of a path that tells them from others of that name."""
    paths = [path for path, module in layer.named_modules() if isinstance(module, nn.Linear)]
    known = sorted({path.rpartition(".")[2] for path in paths})
    if not any(f".{path}".endswith(f".{target}") for path in paths):
        raise ConfigError(
            f"adapter.targets: '{target}' is no linear module of this backbone's layers. Known: "
            f"{', '.join(known)}."
        )
