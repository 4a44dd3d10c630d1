"""What the memory benchmark of an attention call compares: the model's own call, taken from a
forward pass, and the causal kernel on the same queries, keys and values.
"""

import torch

from pipelines.research.benchmark.attention import PREFIX_LENGTH, captured_call, causal_kernel
from pipelines.research.benchmark.call_memory import call_memory


def test_documents_of_several_lengths_hand_no_mask_to_attention_and_take_the_causal_kernel() -> (
    None
):
    lengths = torch.tensor([70, 41])
    call = captured_call(lengths)
    assert call.mask_bytes == 0
    assert call.tensors[0].shape[2] == 70 + PREFIX_LENGTH
    torch.testing.assert_close(call.attend(*call.tensors), causal_kernel(*call.tensors))


def test_memory_of_a_call_is_what_it_takes_forward_and_backward() -> None:
    numbers = torch.ones(1024, 1024, requires_grad=True)  # 4 MiB
    output, taken = call_memory(lambda: (numbers * 2).exp() * 3, [numbers])
    assert not output.requires_grad
    assert 8 * 2**20 <= taken <= 40 * 2**20
