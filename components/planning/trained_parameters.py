"""How many scalars are trained, by adapter method, from shapes alone.

The fact a newcomer gets wrong: the head dwarfs most prefixes, and with grouped-query attention
prefix-propagation needs more than prefix-tuning at the same length, because the key/value width is
smaller than the hidden one.
Shapes: L layers, P prefix, D hidden, K key/value width, H heads, E head size, C classes, R width of
the reparametrisation.
"""

from typing import Any

from components.config.schema import Task
from components.errors import ConfigError
from components.planning.backbone_shape import BackboneShape

TRAINS_TOKEN_TYPES = frozenset(
    {
        "prefix_propagation",
        "prefix_tuning",
        "propagation_and_prefix_tuning",
        "adaptive_prefix_propagation",
        "adaptive_prefix_tuning",
        "kernel_prefix",
        "kernel_propagation",
    }
)
"""Methods of the paper's harness, which train Longformer's token type embeddings too."""


def trainable_parameters(
    shape: BackboneShape, adapter: Any, *, num_labels: int, task: Task = "classification"
) -> int:
    """Trained scalars of an adapter configuration (a member of AdapterConfig): the method's own,
    the head's D*D + D + D*C + C, and the backbone's few.

    Multiple choice: the head's are 5 D (a score and four special tokens), and none of the
    backbone's beside full fine-tuning. Raises ConfigError for a method that has no count here.
    """
    if task == "multiple_choice":
        return method_parameters(shape, adapter) + 5 * shape.hidden
    head = (shape.hidden + 1) * (shape.hidden + num_labels)
    token_types = shape.trained_with_prefix if adapter.method in TRAINS_TOKEN_TYPES else 0
    return method_parameters(shape, adapter) + head + token_types


def method_parameters(shape: BackboneShape, adapter: Any) -> int:
    """Trained scalars of the method alone."""
    layers, hidden, keys_and_values = shape.layers, shape.hidden, 2 * shape.key_value_width
    length: int = adapter.prefix_length
    match adapter.method:
        case "prefix_propagation" if adapter.rank is not None:
            return int(adapter.rank * (layers * length + hidden))
        case "prefix_propagation":
            return _prefix(adapter, hidden, layers * hidden)
        case "prefix_tuning":
            return _prefix(adapter, hidden, layers * keys_and_values)
        case "propagation_and_prefix_tuning":
            return _prefix(adapter, hidden, layers * hidden) + _prefix(
                adapter, hidden, layers * keys_and_values
            )
        case "adaptive_prefix_propagation":
            return layers * length * (hidden + 1)
        case "adaptive_prefix_tuning":
            return layers * length * (keys_and_values + 1)
        case "kernel_prefix":
            return layers * (length * keys_and_values + 1)
        case "kernel_propagation":
            return int(layers * (adapter.prefix_length * hidden + 1))
        case "prompt_tuning":
            return length * hidden
        case "prefix_memory":
            return layers * shape.query_width * (shape.query_width // shape.heads)
        case "lora":
            return layers * _lora(shape, adapter)
        case "full_fine_tuning":
            return shape.parameters
        case "head_only":
            return 0
    raise ConfigError(
        f"adapter.method '{adapter.method}' has no parameter count in "
        "components/planning/trained_parameters.py. Add it there."
    )


def _prefix(adapter: Any, hidden: int, scalars_per_position: int) -> int:
    """A prefix, or the Embedding(P, D) -> Linear(D, R) -> Linear(R, scalars) that produces it."""
    if adapter.reparametrization == "none":
        return int(adapter.prefix_length * scalars_per_position)
    width = adapter.reparametrization_hidden
    return int(
        adapter.prefix_length * hidden + (hidden + 1) * width + (width + 1) * scalars_per_position
    )


def _lora(shape: BackboneShape, adapter: Any) -> int:
    """r * (in + out) for each target of one layer; without targets the query and value
    projections.
    """
    widths = _linear_widths(shape)
    targets = adapter.targets or (
        ("query", "value", "query_global", "value_global")
        if shape.model_type == "longformer"
        else ("q_proj", "v_proj")
    )
    unknown = [target for target in targets if target not in widths]
    if unknown:
        raise ConfigError(
            f"adapter.targets: the sizes of '{unknown[0]}' are not known to the planner. Known: "
            f"{', '.join(widths)}."
        )
    return sum(adapter.rank * sum(widths[target]) for target in targets)


def _linear_widths(shape: BackboneShape) -> dict[str, tuple[int, int]]:
    """(in, out) of the linear modules of one layer, by the name that the stock model gives them."""
    hidden, wide, query, key_value = (
        shape.hidden,
        shape.feed_forward,
        shape.query_width,
        shape.key_value_width,
    )
    if shape.model_type == "longformer":
        return dict.fromkeys(
            ("query", "key", "value", "query_global", "key_global", "value_global"),
            (hidden, hidden),
        )
    attention = {
        "q_proj": (hidden, query),
        "k_proj": (hidden, key_value),
        "v_proj": (hidden, key_value),
        "o_proj": (query, hidden),
    }
    return attention | {
        "gate_proj": (hidden, wide),
        "up_proj": (hidden, wide),
        "down_proj": (wide, hidden),
    }
