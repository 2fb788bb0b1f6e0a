"""FLOPs of a step are those of torch's own counter, taught to count attention on a CPU."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from mlsys_lab.capacity.dispatched import operations_of  # noqa: E402


def counted(model, inputs, step):
    """torch's counter; its table has no row for the CPU's attention, whose shapes are those of the GPU's."""
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    def forward(query, key, value, *args, **kwargs):
        return sdpa_flop_count(query, key, value)

    def backward(given, query, key, value, *args, **kwargs):
        return sdpa_backward_flop_count(given, query, key, value)

    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    own = {attention: forward, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backward}
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        step(model, inputs, None)
    return counter.get_total_flops()


class Attention(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, s, h = x.shape
        q, k, v = (t.view(b, s, self.heads, -1).transpose(1, 2) for t in self.qkv(x).split(h, 2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(b, s, h))


class Products(nn.Module):
    def forward(self, x):
        return torch.baddbmm(x, x, x).sum() + torch.bmm(x, x.transpose(1, 2)).sum() + (x[0] @ x[1]).sum()


CASES = {
    "mlp": (nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 7, bias=False)), (11, 20)),
    "attention": (Attention(32, 4, False), (3, 17, 32)),
    "causal attention": (Attention(32, 2, True), (2, 40, 32)),
    "products": (Products(), (3, 8, 8)),
    "cnn": (
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 6, (3, 1), dilation=2)),
        (2, 3, 20, 18),
    ),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2)), (2, 4, 5, 5)),
    "one dimension": (nn.Conv1d(4, 5, 3, padding=1), (2, 4, 12)),
}  # fmt: skip


def step(model, inputs, optimizer):
    model(inputs).sum().backward()


@pytest.mark.parametrize("case", CASES)
def test_flops_are_those_of_torchs_counter(case):
    model, shape = CASES[case]
    x = torch.randn(shape, requires_grad=True)
    ours = operations_of(model, x, step=step)
    assert sum(o.flops for o in ours) == counted(model, x, step) > 0


def test_a_convolution_in_groups_counts_a_third_of_its_step_forward():
    """torch's counter takes all pairs of channels for the weights' gradient, whatever the groups."""
    model, x = nn.Conv2d(8, 8, 3, groups=8), torch.randn(2, 8, 9, 9, requires_grad=True)
    forward = 2 * (2 * 8 * 7 * 7) * (3 * 3)  # per output a product of one channel's window
    assert sum(o.flops for o in operations_of(model, x, step=step)) == 3 * forward


def test_bytes_are_of_inputs_and_outputs_and_views_are_no_operations():
    model = nn.Linear(10, 20)
    forward = operations_of(model, torch.empty(4, 10), step=lambda m, x, _: m(x))
    assert [o.name for o in forward] == ["aten::addmm"]
    assert forward[0].bytes == 4 * (20 + 4 * 10 + 10 * 20 + 4 * 20)
