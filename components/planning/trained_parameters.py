"""How many scalars are trained, from shapes alone: asked of method and task.

The fact a newcomer gets wrong: the head dwarfs most prefixes, and with grouped-query attention
prefix-propagation needs more than prefix-tuning at the same length, because the key/value width is
smaller than the hidden one.
"""

from components.adapters.methods import MethodConfig
from components.backbones import BackboneShape
from components.tasks import HeadForm, task_named


def trainable_parameters(
    shape: BackboneShape,
    adapter: MethodConfig,
    *,
    num_labels: int,
    task: str = "classification",
    head_form: HeadForm = "mlp",
) -> int:
    """Trained scalars: the method's own, the head's (`head_form` is head.form), and the backbone's
    few that a prefix method trains beside them.
    """
    told = task_named(task)
    beside = adapter.trains_with_prefix and told.trains_with_prefix
    return (
        adapter.trained_parameters(shape)
        + told.head_parameters(shape.hidden, num_labels=num_labels, form=head_form)
        + (shape.trained_with_prefix if beside else 0)
    )
