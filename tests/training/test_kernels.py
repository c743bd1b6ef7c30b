"""The training kernels against PyTorch: the GPU's on it where there is one, and on the processor, thread by thread, everywhere; the
processor's own.

    python -m pytest tests/training
"""
import os
import shutil
import sys

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training"))
import augment
import ctc
import scan

WHERE = (["host"] if shutil.which("g++") else []) + (["cuda"] if torch.cuda.is_available() else [])


@pytest.fixture(params=WHERE)
def device(request):
    host = request.param == "host"
    scan._Scan.host = ctc._CTC.host = augment.mix.host = host
    yield "cpu" if host else "cuda"
    scan._Scan.host = ctc._CTC.host = augment.mix.host = False


def rel(a, b):
    return ((a.double().cpu() - b.double().cpu()).norm() / b.double().norm().cpu()).item()


@pytest.mark.parametrize("length,carried", [(37, True), (48, False)])
def test_scan_on_the_processor(length, carried):
    check_scan_gradients("cpu", length, carried)


@pytest.mark.parametrize("length,carried", [(37, True), (48, False)])
def test_scan_gradients(device, length, carried):
    check_scan_gradients(device, length, carried)


def check_scan_gradients(device, length, carried):
    torch.manual_seed(length)
    rows, ch = 2, 64
    r = lambda *s: torch.randn(*s, dtype=torch.float64)
    given = [r(rows, length, ch), r(rows, length, ch) - 1, r(rows, length, 2 * ch), r(rows, length, 48), -4 * torch.rand(ch, 16).double(),
             r(ch), r(ch) - 1]
    h0, carry = (r(rows, ch, 16), torch.tensor([1.0, 0.0])) if carried else (None, None)
    a = [v.clone().requires_grad_() for v in given]
    b = [v.float().to(device).requires_grad_() for v in given]
    call = lambda f, v, **k: f(v[0], v[1], v[2][..., ch:], v[3][..., 16:], v[4], v[5], v[6], **k)
    want, h = call(scan.scan_reference, a, h0=h0, carry=carry)
    end = torch.full((rows, ch, 16), float("nan"), device=device)
    got = call(scan.scan, b, h0=None if h0 is None else h0.float().to(device), carry=None if carry is None else carry.to(device), hT=end)
    assert rel(got, want) < 1e-5 and rel(end, h) < 1e-5
    g = torch.randn_like(want)
    want.backward(g)
    got.backward(g.float().to(device))
    for name, x, y in zip("u dt z bc A D bias".split(), b, a):
        assert rel(x.grad, y.grad) < 1e-4, name


@pytest.mark.skipif("cuda" not in WHERE, reason="no GPU")
def test_scan_bfloat16():
    torch.manual_seed(1)
    rows, L, ch = 3, 200, 512
    given = [torch.randn(rows, L, ch), torch.randn(rows, L, ch) - 3, torch.randn(rows, L, ch), torch.randn(rows, L, 32)]
    given = [v.bfloat16().cuda() for v in given]
    A, D, bias = -torch.rand(ch, 16).cuda() * 8, torch.randn(ch).cuda(), torch.randn(ch).cuda() - 3
    a = [v.double().requires_grad_() for v in given + [A, D, bias]]
    b = [v.clone().requires_grad_() for v in given + [A, D, bias]]
    want, got = scan.scan_reference(*a)[0], scan.scan(*b)
    assert rel(got, want) < 6e-3
    g = torch.randn_like(want).bfloat16()
    want.backward(g.double())
    got.backward(g)
    for x, y in zip(b, a):
        assert rel(x.grad, y.grad) < 1.2e-2


def test_ctc(device):
    torch.manual_seed(0)
    T, V, U, R = 25, 11, 9, 5
    labels = torch.randint(1, V, (R, U), dtype=torch.int32)
    labels[1, :4] = 3                                      # repeats, which need blanks between them
    lens = torch.tensor([9, 6, 0, 9, 1], dtype=torch.int32)
    a = torch.randn(R, T, V, dtype=torch.float64, requires_grad=True)
    b = a.detach().float().to(device).requires_grad_()
    want = F.ctc_loss(F.log_softmax(a, -1).transpose(0, 1), labels.long(), torch.full((R,), T), lens.long(), reduction="none")
    got = ctc.ctc(b, labels.to(device), lens.to(device))
    assert rel(got, want) < 1e-5
    w = torch.rand(R, dtype=torch.float64)
    (want * w).sum().backward()
    (got * w.float().to(device)).sum().backward()
    assert rel(b.grad, a.grad) < 1e-4


def test_ctc_that_does_not_fit(device):
    x = torch.randn(2, 4, 7, device=device, requires_grad=True)
    labels = torch.tensor([[1, 1, 1, 1], [1, 2, 3, 4]], dtype=torch.int32, device=device)
    loss = ctc.ctc(x, labels, torch.tensor([4, 4], dtype=torch.int32, device=device))
    loss.sum().backward()
    assert loss[0] == 0 and loss[1] > 0 and (x.grad[0] == 0).all() and x.grad[1].abs().sum() > 0


def test_mix(device):
    t = torch.arange(4000)
    pool = (torch.sin(2 * torch.pi * 0.05 * t) * 10000).short().to(device)
    to = lambda x: torch.tensor(x).to(device)
    src = to([[100, 2000]])
    ints = to([[[800, 700]], [[50, 1000]], [[800, 583]], [[0, 0]]]).int()
    fl = to([[[1.0, 1.2]], [[1.0, 0.5]]])
    out = augment.mix(pool, src, ints, fl, 1700).cpu()[0]
    assert torch.allclose(out[50:850], pool[100:900].cpu().float() / 32768, atol=1e-5)      # untouched at its own rate
    assert (out[:50] == 0).all() and (out[850:1000] == 0).all() and (out[1583:] == 0).all()
    k = torch.arange(100, 480).double()
    want = 0.5 * torch.sin(2 * torch.pi * 0.05 * (2000 + 1.2 * k)) * 10000 / 32768
    assert (out[1100:1480] - want).abs().max() < 1e-3
    ints = to([[[400, 400]], [[0, 240]], [[400, 400]], [[160, 160]]]).int()              # one sine, cut in two that fade into each other
    out = augment.mix(pool, to([[0, 240]]), ints, to([[[1.0, 1.0]], [[1.0, 1.0]]]), 640).cpu()[0]
    assert torch.allclose(out[160:480], pool[160:480].cpu().float() / 32768, atol=1e-4)
    assert out[0].abs() < 1e-6 and 0 < out[5].abs() < pool[5].abs().item() / 32768 * 0.1
