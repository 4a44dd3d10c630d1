"""Memory of a rotary layer (Llama's form: norms, rotary attention by SDPA without any mask, a gated
or plain feed-forward part), from its BackboneShape alone.

Numbers per row; D hidden, Q query width, K key/value width, I feed-forward width (of all experts
that a row visits), n bytes of a number. Source: transformers' modeling_llama.py and its relatives.
"""

from components.backbones.layer_memory import FLOAT32, LayerMemory, LayerRun
from components.backbones.shape import BackboneShape

NORM_BACKWARD_COPIES = 5
"""Float32 tensors of a norm's width that are alive in its backward pass: the gradient of x * r with
respect to x, and on the way through r = rsqrt(mean(x^2)) the mean's gradient, x, 2 x and their
product.
"""
ATTENTION_INPUTS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "query", "value")
WIDE_INPUTS = ("gate_proj", "up_proj", "gate_up_proj", "fc1", "dense_h_to_4h", "c_fc")


def rotary_memory(shape: BackboneShape, run: LayerRun) -> LayerMemory:
    """A layer's bytes at the instants of a step."""
    rows, n, hidden = run.all_rows, run.number_bytes, shape.hidden
    query, key_value = shape.query_width, shape.key_value_width
    kept = _kept_per_row(shape, run)
    tables = 2 * shape.head_size * n
    own_tables = tables if run.kept.replaces_keys else 0
    freed = _feed_forward_kept(shape, run) + run.kept.scaled_per_row * n
    norm = hidden * (n if shape.layer_norms else NORM_BACKWARD_COPIES * FLOAT32)
    backward = {
        # The feed-forward part's own tensors are gone; the residual's gradient waits.
        "backward of a norm": norm + hidden * n - freed,
        "backward of attention": _attention_backward(shape, run) - freed - _norms_freed(shape, n),
        "backward of the last norm": norm,
    }
    inside = _inside_feed_forward(shape, run)
    attending = (2 * hidden + 5 * query + 2 * key_value) * n + _scores(shape, run, 3)
    return LayerMemory(
        kept=rows * (kept + own_tables),
        # In float32 the first norm keeps the layer's input itself, else a float32 copy of it.
        input=rows * hidden * n if n == FLOAT32 or shape.layer_norms else 0,
        boundary=rows * hidden * n,
        last=rows * (_last_per_row(shape, run, kept) + own_tables),
        forward=_forward(shape, run),
        backward={
            "backward of a feed-forward part": inside + _tile_backward(shape, run),
            **{name: rows * number for name, number in backward.items()},
        },
        without_gradients=max(inside + rows * 2 * hidden * n, rows * attending),
        outside=rows * tables + (run.rows**2 if _masked(shape, run) else 0),
        states=rows * 2 * key_value * n,
        constant_text=rows * _constant_text_kept(shape, run, kept) if _splits(shape, run) else None,
        after=rows * hidden * (n if shape.layer_norms else FLOAT32),
    )


def _splits(shape: BackboneShape, run: LayerRun) -> bool:
    """Whether the first layer's text takes no part in the backward pass (constant_text.py)."""
    changes_prefix_rows_alone = run.kept.rows > 0 and not (
        run.kept.replaces_keys or run.kept.per_row or run.kept.targets or run.kept.all_weights
    )
    plain = shape.is_causal and not (shape.soft_cap or shape.sinks or shape.attention_dropout)
    return changes_prefix_rows_alone and plain and not (run.gpu or run.hooked)


def _constant_text_kept(shape: BackboneShape, run: LayerRun, kept: int) -> int:
    """Bytes per row. No norm before the attention, no keys, values and their norms; queries and the
    attention among text rows, and the shares of the prefix in float32. Where one norm serves
    attention and feed-forward part, the latter is constant as well.
    """
    n, query, key_value = run.number_bytes, shape.query_width, shape.key_value_width
    shares = 2 * shape.heads * (run.kept.rows + 1) * FLOAT32
    if shape.norms_per_layer == 1:
        return 2 * query * n + shares
    gone = 2 * (query if _masked(shape, run) else key_value) * n + shape.heads * FLOAT32
    gone += shape.hidden * (n if shape.layer_norms else FLOAT32) + FLOAT32
    if shape.normed_heads:
        gone += (query + key_value + shape.heads + key_value // shape.head_size) * FLOAT32
    return kept - gone + shares


def _attention_backward(shape: BackboneShape, run: LayerRun) -> int:
    """Bytes per row. Gradients of output, query, key and value, and of both residuals; rotary adds
    products with both tables and their halves. Scores that are kept come with their gradients
    before that: then only those of output and values are there.
    """
    n, query, key_value = run.number_bytes, shape.query_width, shape.key_value_width
    rotary = int(shape.rotated * (4 * query + 2 * key_value))
    rotating = (2 * query + 2 * key_value + rotary + 2 * shape.hidden) * n - _scores(shape, run, 2)
    if not _scores(shape, run, 1):
        return rotating
    # With a soft cap in bf16: the softmax's gradients in float32, once, and as the products take
    # them, in the place of the weights.
    count = 1 if shape.soft_cap and n != FLOAT32 else 2
    return max(rotating, (2 * query + 2 * shape.hidden) * n + _scores(shape, run, count))


def _norms_freed(shape: BackboneShape, n: int) -> int:
    """Bytes per row that the norms behind the attention no longer keep at its backward pass."""
    return (shape.norms_per_layer - 1) * shape.hidden * (n if shape.layer_norms else FLOAT32)


def _inside_feed_forward(shape: BackboneShape, run: LayerRun) -> int:
    """Bytes of the numbers inside a feed-forward part that are alive at once, and of one tensor of
    its output: in the forward pass both factors and their product, in the backward pass the down
    projection's input gradient and those of both factors.
    """
    seen = run.all_rows if run.tiled_rows is None else run.tiled_rows
    wide = (3 if shape.gated else shape.activation_gradients) * shape.feed_forward
    return (seen * wide + run.all_rows * shape.hidden) * run.number_bytes


def _tile_backward(shape: BackboneShape, run: LayerRun) -> int:
    """In tiles: what a recomputed piece keeps, and the input gradients of all pieces."""
    if run.tiled_rows is None:
        return 0
    n = run.number_bytes
    return run.tiled_rows * _whole_feed_forward_kept(shape, n) + run.all_rows * shape.hidden * n


def _forward(shape: BackboneShape, run: LayerRun) -> int:
    """Beside what is kept: the product inside the feed-forward part (in tiles everything inside,
    and the outputs of all pieces), its output and the sum with the residual.
    """
    n, hidden, wide = run.number_bytes, shape.hidden, shape.feed_forward
    if run.tiled_rows is None:
        return run.all_rows * (wide + 3 * hidden) * n
    return _inside_feed_forward(shape, run) + run.all_rows * 2 * hidden * n


def _scores(shape: BackboneShape, run: LayerRun, count: int) -> int:
    """Bytes per row of `count` score-sized tensors, where attention runs without a kernel: with a
    soft cap (in float32) or with sinks (in the backbone's numbers), off GPUs.
    """
    if run.gpu or not (shape.soft_cap or shape.sinks):
        return 0
    size = FLOAT32 if shape.soft_cap else run.number_bytes
    return count * shape.heads * run.rows * size


def _masked(shape: BackboneShape, run: LayerRun) -> bool:
    """Whether attention gets a dense mask, one for all examples; on a GPU it gets blocks of it."""
    return (shape.masked or shape.soft_cap or shape.sinks) and not run.gpu


def _last_per_row(shape: BackboneShape, run: LayerRun, kept: int) -> int:
    """Where one row is read, the last layer keeps its norm's input and every row's key and value,
    and nothing behind its attention (read_rows.py; not with the shards of ZeRO-3).
    """
    whole = run.kept.whole_last_layer or run.hooked or run.stock_attention
    if whole or not run.reads_one_row:
        return kept
    keys = 2 * shape.key_value_width * run.number_bytes
    normed = shape.key_value_width * FLOAT32 if shape.normed_heads else 0
    copy = 0 if run.number_bytes == FLOAT32 else shape.hidden * run.number_bytes
    return (shape.hidden + 1) * FLOAT32 + copy + keys + normed


def _feed_forward_kept(shape: BackboneShape, run: LayerRun) -> int:
    """Per row; computed in tiles, its input alone."""
    if run.tiled_rows is not None:
        return shape.hidden * run.number_bytes
    return _whole_feed_forward_kept(shape, run.number_bytes)


def _whole_feed_forward_kept(shape: BackboneShape, n: int) -> int:
    """Gated: the activation's input and output and the other factor; plain: its input, or more
    where it is no one operation.
    """
    return (3 if shape.gated else shape.activation_copies) * shape.feed_forward * n


def _kept_per_row(shape: BackboneShape, run: LayerRun) -> int:
    n = run.number_bytes
    query, key_value = shape.query_width, shape.key_value_width
    # Every norm keeps its input in float32 and a reciprocal root; torch's own keep it as it is.
    norms = shape.norms_per_layer * (shape.hidden * (n if shape.layer_norms else FLOAT32) + FLOAT32)
    if shape.normed_heads:
        norms += (query + key_value + shape.heads + key_value // shape.head_size) * FLOAT32
    # SDPA: query and key after the rotation, value, output, log-sum-exp. With a mask keys and
    # values are repeated for the query's heads (transformers' sdpa_attention.py).
    keys = query if _masked(shape, run) else key_value
    attention = (2 * query + 2 * keys) * n + shape.heads * FLOAT32
    return (
        norms
        + attention
        # Without a kernel: scores after the cap, or with the sinks, and their softmax.
        + _scores(shape, run, 2)
        + _feed_forward_kept(shape, run)
        + _inputs_kept(shape, run)
        + run.kept.per_row
        + run.kept.scaled_per_row * n
    )


def _inputs_kept(shape: BackboneShape, run: LayerRun) -> int:
    """Inputs of linear modules whose weights are trained, or that keep them anyway. The output
    projection's input is the attention's output, kept already.
    """
    n, kept, hidden, wide = run.number_bytes, run.kept, shape.hidden, shape.feed_forward
    shared = (2 * hidden + wide) * n  # both norms' outputs and the product
    found = shared if kept.all_weights or shape.linear_inputs_kept else 0
    if kept.all_weights:
        # Norm weights are trained too: each keeps its normalised input.
        found += 2 * hidden * n
        found += (shape.query_width + shape.key_value_width) * n * shape.normed_heads
    if not kept.targets:
        return found
    found += len(kept.targets) * kept.rank * FLOAT32
    own_copies = n != FLOAT32 or kept.drops_inputs
    seen: set[str] = set()
    for target in kept.targets:
        width = shape.linear_widths[target][0]
        tensor = "attention" if target in ATTENTION_INPUTS else target
        tensor = "wide" if target in WIDE_INPUTS else tensor
        if own_copies:
            # peft casts (and drops) the input of every target for itself.
            mask = (1 if run.gpu else FLOAT32) if kept.drops_inputs else 0
            found += width * (FLOAT32 + mask)
        elif tensor not in seen and target != "o_proj":
            found += width * n
        seen.add(tensor)
    return found
