"""The encoder's other blocks (model/training/blocks.py), in float64: chunked against frame by frame, whole against pieces with a
carried state.

    python -m pytest tests/training
"""

import os
import sys

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training"))
import blocks
from network import Encoder

SMALL = {
    "mamba": {},
    "mamba2": {"state": 8, "headdim": 32},
    "gla": {"heads": 2},
    "transformer": {"heads": 2, "window": 10},
    "lstm": {"hidden": 32},
}
needs_sdpa = pytest.mark.skipif(
    not hasattr(F, "scaled_dot_product_attention"), reason="PyTorch 2 has this attention, this one does not"
)
EVERY = [pytest.param(b, marks=needs_sdpa) if b == "transformer" else b for b in SMALL]


def encoder(block, look=0):
    torch.manual_seed(3)
    net = Encoder(11, d=64, layers=2, look=look, block=block, **SMALL[block]).double().eval()
    net.low = torch.float64
    return net


def stepped(q, k, v, g, h0):
    """decayed_attention, a frame at a time."""
    heads, K = v.shape[2], k.shape[3]
    q, k, g = q.expand(-1, -1, heads, -1), k.expand(-1, -1, heads, -1), g.expand(-1, -1, -1, K)
    h, out = h0, []
    for t in range(v.shape[1]):
        h = torch.exp(g[:, t])[..., None] * h + k[:, t, :, :, None] * v[:, t, :, None, :]
        out.append((q[:, t, :, :, None] * h).sum(2))
    return torch.stack(out, 1), h


@pytest.mark.parametrize("decays,shared", [("a key channel", False), ("a head", True)])
@pytest.mark.parametrize("frames", [1, 16, 53])
def test_chunks_agree_with_the_recurrence(decays, shared, frames):
    torch.manual_seed(frames)
    rows, heads, K, V = 2, 3, 5, 4
    r = lambda *s: torch.randn(*s, dtype=torch.float64)
    q, k = (r(rows, frames, 1 if shared else heads, K) for _ in range(2))
    v, h0 = r(rows, frames, heads, V), r(rows, heads, K, V)
    g = -3 * torch.rand(rows, frames, heads, 1 if decays == "a head" else K, dtype=torch.float64)
    given = [q, k, v, g, h0]
    a, b = ([t.clone().requires_grad_() for t in given] for _ in range(2))
    want, got = stepped(*a), blocks.decayed_attention(*b, chunk=16)
    weight = [torch.randn_like(t) for t in want]
    for x, y, w in zip(got, want, weight):
        assert (x - y).abs().max() < 1e-11
    for side in (want, got):
        sum((x * w).sum() for x, w in zip(side, weight)).backward()
    for name, x, y in zip("q k v g h0".split(), b, a):
        assert (x.grad - y.grad).abs().max() < 1e-10, name


@needs_sdpa
def test_attention_looks_at_its_window_alone():
    net = encoder("transformer")
    p = lambda name: net.p("backbone.layers.0." + name)
    x = torch.randn(1, 40, 64, dtype=torch.float64)
    y = net.kind(p, x, net.low, None, None, None)
    x[:, 25] += 1
    moved = (net.kind(p, x, net.low, None, None, None) - y).abs().amax((0, 2)) > 1e-12
    assert moved.nonzero().flatten().tolist() == list(range(25, 35))


@pytest.mark.parametrize("block", EVERY)
def test_pieces_agree_with_the_whole(block):
    """The state is all that a block carries, but for the taps of a convolution, which the pieces of training rows do without."""
    net = encoder(block)
    for name in net.names:
        if name.endswith("conv1d.weight"):
            with torch.no_grad():
                net.p(name)[..., :-1] = 0
    p = lambda name: net.p("backbone.layers.1." + name)
    x = torch.randn(3, 60, 64, dtype=torch.float64)
    with torch.no_grad():
        end = net.state(3)[1]
        whole = net.kind(p, x, net.low, None, None, end)
        h, parts = net.state(3)[1], []
        for i, piece in enumerate(x.split([17, 12, 31], 1)):
            parts.append(net.kind(p, piece, net.low, h, torch.full((3,), float(i > 0), dtype=torch.float64), h))
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-6  # rotary angles are float32
    assert (h - end).abs().max() < 1e-9


@pytest.mark.parametrize("block", EVERY)
def test_carry_forgets_and_no_frame_sees_the_future(block):
    net = encoder(block)
    p = lambda name: net.p("backbone.layers.0." + name)
    x = torch.randn(2, 40, 64, dtype=torch.float64)
    with torch.no_grad():
        h = torch.randn_like(net.state(2)[0])
        carry = torch.tensor([0.0, 1.0], dtype=torch.float64)
        fresh, both = net.kind(p, x, net.low, None, None, None), net.kind(p, x, net.low, h, carry, None)
        assert (both[0] - fresh[0]).abs().max() < 1e-9 < 1e-3 < (both[1] - fresh[1]).abs().max()
        x[:, 30:] += 1
        again = net.kind(p, x, net.low, None, None, None)
    assert (again[:, :30] - fresh[:, :30]).abs().max() < 1e-12 < 1e-3 < (again[:, 30:] - fresh[:, 30:]).abs().max()


@pytest.mark.parametrize("block", EVERY)
def test_long_recordings_are_read_in_spans(block):
    net = encoder(block)
    if net.kind.span is None:
        pytest.skip("this block reads any length at once")
    net.kind.span, x = 16, torch.randn(2, 50, 64, dtype=torch.float64)
    for name in net.names:
        if name.endswith("conv1d.weight"):
            with torch.no_grad():
                net.p(name)[..., :-1] = 0
    with torch.no_grad():
        in_spans = net.block(0, x)
        net.kind.span = 1000
        assert (net.block(0, x) - in_spans).abs().max() < 1e-6


def test_the_size_and_state_that_the_daemon_has():
    net = Encoder(401)
    assert net.state_bytes() == 479424 and sum(p.numel() for p in net.parameters()) == 10342545
