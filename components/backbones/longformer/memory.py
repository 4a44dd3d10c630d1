"""Memory of a Longformer layer, with the fast attention and with the stock one, from its shape.

The facts a newcomer gets wrong: the fast attention keeps no scores (it recomputes them block by
block), so its worst instant is the feed-forward part's backward; the stock one keeps scores of the
whole window and a mask of S x S. On a CPU the fast attention multiplies in float32 whatever the
backbone's precision (banded_attention.py), which counts in bf16.
Numbers per row; D hidden, I feed-forward width, H heads, E head size, G global rows, w one-sided
window, n bytes of a number.
"""

from collections.abc import Mapping

from components.backbones.layer_memory import FLOAT32, LayerMemory, LayerRun
from components.backbones.shape import BackboneShape

BLOCK_ROWS = 128
"""fast_attention.BLOCK_SIZE, which cannot be imported without torch (a test holds them equal)."""
BIASES = 3
"""Bands of biases alive at a time: of the first block, of the last, of those between."""
WHOLE_PROJECTIONS = ("query", "key", "value", "key_global", "value_global")
"""Those that see every row; query_global sees the global rows alone."""


def longformer_memory(shape: BackboneShape, run: LayerRun) -> LayerMemory:
    """A layer's bytes at the instants of a step."""
    return _stock(shape, run) if run.stock_attention else _fast(shape, run)


def _fast(shape: BackboneShape, run: LayerRun) -> LayerMemory:
    rows, n, hidden, wide = run.all_rows, run.number_bytes, shape.hidden, shape.feed_forward
    attention, rest = _attention_kept(shape, run), _rest_kept(shape, run)
    # The layer's own feed-forward part, both sums, and what was scaled.
    freed = (wide + 2 * hidden + run.kept.scaled_per_row) * n
    backward_rows, backward_once = _attention_backward(shape, run)
    forward_rows, forward_once = _attention_forward(shape, run)
    biases = BIASES * BLOCK_ROWS * _block_keys(shape) * FLOAT32
    return LayerMemory(
        kept=rows * (attention + rest),
        input=rows * hidden * n,
        boundary=rows * hidden * n,
        last=_last_kept(shape, run, attention=attention, rest=rest),
        forward=max(
            rows * (wide + 4 * hidden) * n,
            rows * (forward_rows - freed - hidden * n) + forward_once,
        ),
        backward={
            # Gradients of the activation's output and input, of the layer's output and residual.
            "backward of a feed-forward part": rows * 2 * (wide + hidden) * n,
            "backward of attention": rows * (backward_rows - freed) + backward_once,
        },
        without_gradients=max(
            rows * (2 * wide + 2 * hidden) * n,
            rows * (5 * hidden * n + forward_rows) + forward_once,
        ),
        outside=rows * (1 + _masks(shape, run)) * hidden * n + biases,
        states=rows * 2 * hidden * n,
        # Zeros with the read rows in their places.
        after=rows * hidden * n,
    )


def _attention_kept(shape: BackboneShape, run: LayerRun) -> int:
    """Query, key, value, output, and the layer's input, which is gathered for the global rows;
    log-sum-exp; the global rows' own part.
    """
    n, hidden = run.number_bytes, shape.hidden
    kept = 5 * hidden * n + shape.heads * FLOAT32 + run.kept.per_row
    return kept + _updates_kept(shape, run) + _global_kept(shape, run)


def _updates_kept(shape: BackboneShape, run: LayerRun) -> int:
    """The middle of every trained update, and what peft casts or drops of its input for it."""
    kept, copies = 0, run.number_bytes != FLOAT32 or run.kept.drops_inputs
    for target in run.kept.targets:
        kept += run.kept.rank * FLOAT32
        if target in WHOLE_PROJECTIONS and copies:
            mask = (1 if run.gpu else FLOAT32) if run.kept.drops_inputs else 0
            kept += shape.hidden * (FLOAT32 + mask)
    return kept


def _global_kept(shape: BackboneShape, run: LayerRun) -> int:
    """global_attention.py: keys and values of every row where these are projected, else weights of
    the moved queries (softmax in float32, and as the products take them).
    """
    n, scores = run.number_bytes, shape.heads * _global_rows(run)
    drops = shape.attention_dropout > 0
    if _projects_global_keys(shape, run):
        # With dropout torch's SDPA keeps weights, mask and their product on a CPU.
        return 2 * shape.hidden * n + (3 * scores * n if drops and not run.gpu else 0)
    dropped = ((1 if run.gpu else FLOAT32) + FLOAT32) if drops else 0
    return scores * (FLOAT32 + (n if n != FLOAT32 else 0) + dropped)


def _projects_global_keys(shape: BackboneShape, run: LayerRun) -> bool:
    """Whether global_attention does not move the projections over to the queries."""
    kept = run.kept
    quantised = shape.linear_bits is not None
    touched = kept.all_weights or kept.replaces_keys or run.hooked or quantised
    trained = any(name.endswith("_global") for name in kept.targets if name != "query_global")
    pays = 2 * _global_rows(run) <= shape.head_size and run.all_rows >= shape.hidden
    return touched or trained or not pays


def _rest_kept(shape: BackboneShape, run: LayerRun) -> int:
    """The activation's input, both layer norms' inputs and statistics, dropout masks, and where
    linear modules keep their inputs: the first norm's and the activation's output.
    """
    n, hidden, wide = run.number_bytes, shape.hidden, shape.feed_forward
    inputs = run.kept.all_weights or shape.linear_inputs_kept
    kept = (wide + (2 + 2 * _masks(shape, run)) * hidden + 4 + run.kept.scaled_per_row) * n
    return kept + ((wide + hidden) * n if inputs else 0)


def _masks(shape: BackboneShape, run: LayerRun) -> int:
    """Masks of one hidden dropout, in numbers: on a CPU torch draws them in the data's own dtype;
    on a GPU one byte per number, which is not counted.
    """
    return int(shape.hidden_dropout > 0 and not run.gpu)


def _last_kept(shape: BackboneShape, run: LayerRun, *, attention: int, rest: int) -> int:
    """The last layer computes the read row alone (fast_attention._last_layer_forward): from the
    whole layer's input where that row is global, from the whole attention elsewhere.
    """
    if run.kept.whole_last_layer or not run.reads_one_row:
        return run.all_rows * (attention + rest)
    if run.reads_global_row and not run.hooked:
        return run.all_rows * (shape.hidden * run.number_bytes + shape.heads * FLOAT32)
    return run.all_rows * attention


def _global_rows(run: LayerRun) -> int:
    return run.kept.global_rows + 1


def _block_keys(shape: BackboneShape) -> int:
    assert shape.attention_window is not None
    return BLOCK_ROWS + shape.attention_window


def _attention_forward(shape: BackboneShape, run: LayerRun) -> tuple[int, int]:
    """Bytes per row, and once: the result in float32 and, in bf16, query, key and value as the
    products take them; scores of a block, and of the example at hand its global scores.
    """
    if run.gpu:
        return shape.hidden * run.number_bytes, 0
    copies = 0 if run.number_bytes == FLOAT32 else 3
    example = run.rows * (shape.hidden + shape.heads * _global_rows(run)) * FLOAT32
    buffer = shape.heads * BLOCK_ROWS * _block_keys(shape) * FLOAT32
    return (1 + copies) * shape.hidden * FLOAT32, example + buffer


def _attention_backward(shape: BackboneShape, run: LayerRun) -> tuple[int, int]:
    """Bytes per row, and once. Gradients of query, key and value, of the output and the residual;
    in bf16 float32 copies of what was saved; two buffers of scores (four with dropout) for a block
    and for the global keys of the example at hand.
    """
    n, hidden = run.number_bytes, shape.hidden
    if run.gpu:
        return 5 * hidden * n + shape.heads * FLOAT32, 0
    copies = 0 if n == FLOAT32 else 5
    buffers = 4 if shape.attention_dropout > 0 else 2
    example = run.rows * (hidden + buffers * shape.heads * _global_rows(run)) * FLOAT32
    block = buffers * shape.heads * BLOCK_ROWS * _block_keys(shape)
    products = 2 * hidden * _block_keys(shape)
    once = example + (block + products) * FLOAT32
    return (3 + copies) * hidden * FLOAT32 + 2 * hidden * n, once


def _stock(shape: BackboneShape, run: LayerRun) -> LayerMemory:
    """transformers' sliding chunks. Rows are padded to whole windows."""
    assert shape.attention_window is not None
    window, n = shape.attention_window, run.number_bytes
    padded = -(-run.rows // window) * window
    rows, hidden, wide, heads = (
        run.sequences * padded,
        shape.hidden,
        shape.feed_forward,
        shape.heads,
    )
    reach, seen = window // 2, _global_rows(run)
    band = 2 * reach + 1  # scores of a row's window
    chunks = 1 - reach / padded  # one chunk of two reaches fewer than there are
    probabilities, skewed = band + seen, 3 * reach + 2
    # Values in chunks of three reaches, queries and keys in chunks of two.
    attention = (3 + 3 + 4 * chunks) * hidden * n + heads * (
        probabilities * FLOAT32 + skewed * n + 2 * seen * n
    )
    attention += heads * probabilities * n * (shape.attention_dropout > 0) + run.kept.per_row
    attention += _updates_kept(shape, run)
    # The layer's input, for its trained projections, and the output's, put in order for its own.
    attention += hidden * n * (bool(run.kept.targets) + 2 * run.kept.all_weights)
    kept = attention + _rest_kept(shape, run)
    freed = (wide + 8 * hidden + run.kept.scaled_per_row) * n
    freed += heads * (probabilities * FLOAT32 + (skewed + 2 * seen) * n)
    backward: Mapping[str, float] = {
        "backward of a feed-forward part": 2 * (wide + hidden) * n,
        # Scores of chunks of two reaches come back as slices, three of them at a time.
        "backward of attention": (heads * (6 * band * chunks + band) + 4 * hidden) * n - freed,
    }
    scores = heads * (2 * band + seen)
    return LayerMemory(
        kept=int(rows * kept),
        input=0,
        boundary=rows * hidden * n,
        last=int(rows * kept),
        forward=rows * max(scores + 4 * hidden - wide, wide + 6 * hidden) * n,
        backward={name: int(rows * number) for name, number in backward.items()},
        without_gradients=rows * (scores + heads * skewed + 11 * hidden) * n,
        outside=run.sequences * padded * padded * n + rows * (2 + _masks(shape, run)) * hidden * n,
    )
