"""The selective scan of Mamba-1 with its step size, skip and gate:

    dt = softplus(dt_raw + bias);  h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t;  y_t = (C_t . h_t + D u_t) * silu(z_t)

`scan` runs the project's kernels: cuda/scan.cu on the GPU, cpu/scan.cpp on the processor in float32. `scan_reference` is the same
in plain PyTorch, for any dtype. h0 is the state that comes in; it is weighed by carry, a number a row, and no gradient flows
into it.
"""
import ctypes

import torch
import torch.nn.functional as F

import native

TILE = 16


def scan_reference(u, dt_raw, z, bc, A, D, bias, h0=None, carry=None):
    """-> y (batch, length, channels), h (batch, channels, 16); in the dtype of its inputs, at least float32 inside."""
    dtype = torch.promote_types(u.dtype, torch.float32)
    u_, dt, z_, bc = (v.to(dtype) for v in (u, dt_raw, z, bc))
    A, D, bias = A.to(dtype), D.to(dtype), bias.to(dtype)
    dt = F.softplus(dt + bias)
    h = torch.zeros(u.shape[0], u.shape[2], A.shape[1], dtype=dtype, device=u.device)
    if h0 is not None:
        h = h0.detach().to(dtype) * carry[:, None, None].to(dtype)
    B, C = bc.chunk(2, dim=-1)
    ys = []
    for t in range(u.shape[1]):
        h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * u_[:, t])[..., None] * B[:, t, None, :]
        ys.append((h * C[:, t, None, :]).sum(-1))
    y = (torch.stack(ys, 1) + D * u_) * F.silu(z_)
    return y.to(u.dtype), h


def _rows(v):
    """Row stride of a (batch, length, n) view whose rows are evenly spaced and whose last axis is dense."""
    if v.stride(2) != 1 or v.stride(0) != v.shape[1] * v.stride(1):
        v = v.contiguous()
    return v, ctypes.c_long(v.stride(1))


class _Scan(torch.autograd.Function):
    host = False                                           # tests: the GPU's kernels, run by the processor

    @staticmethod
    def kernels(tensor):
        return native.library("cuda" if tensor.is_cuda else "host" if _Scan.host else "cpu")

    @staticmethod
    def forward(ctx, u, dt_raw, z, bc, A, D, bias, h0, carry, hT):
        u, dt_raw = u.contiguous(), dt_raw.contiguous()
        z, zs = _rows(z)
        bc, bs = _rows(bc)
        A, D, bias = (v.float().contiguous() for v in (A, D, bias))
        rows, L, ch = u.shape
        assert A.shape[1] == 16 and ch % 32 == 0 and u.dtype in (torch.bfloat16, torch.float32)
        assert dt_raw.dtype == z.dtype == bc.dtype == u.dtype
        y = torch.empty_like(u)
        hs = None
        if any(ctx.needs_input_grad):
            hs = torch.empty(rows, -(-L // TILE), ch, 16, device=u.device)
        p = native.ptr
        native.check(_Scan.kernels(u).sw_scan_forward(
            p(u), p(dt_raw), p(z), p(bc), p(A), p(D), p(bias), p(h0), p(carry), p(y), p(hs), p(hT), rows, L, ch, zs, bs,
            int(u.dtype == torch.bfloat16), native.stream(u)), "scan_forward")
        ctx.save_for_backward(u, dt_raw, z, bc, A, D, bias, hs)
        return y

    @staticmethod
    def backward(ctx, gy):
        u, dt_raw, z, bc, A, D, bias, hs = ctx.saved_tensors
        rows, L, ch = u.shape
        gy = gy.contiguous()
        gu, gdt, gz = (torch.empty_like(u) for _ in range(3))
        gbc = torch.empty(ch // 32, rows, L, 32, device=u.device)
        gA, gD, gb = torch.zeros_like(A), torch.zeros_like(D), torch.zeros_like(bias)
        p = native.ptr
        _, zs = _rows(z)
        _, bs = _rows(bc)
        native.check(_Scan.kernels(u).sw_scan_backward(
            p(u), p(dt_raw), p(z), p(bc), p(A), p(D), p(bias), p(hs), p(gy), p(gu), p(gdt), p(gz), p(gbc), p(gA), p(gD), p(gb),
            rows, L, ch, zs, bs, int(u.dtype == torch.bfloat16), native.stream(u)), "scan_backward")
        return gu, gdt, gz, gbc.sum(0).to(bc.dtype), gA, gD, gb, None, None, None


def scan(u, dt_raw, z, bc, A, D, bias, h0=None, carry=None, hT=None):
    """u, dt_raw, z (batch, length, channels), bc (batch, length, 32) -> y. The last state is written to hT, if given."""
    if u.is_cuda or u.dtype == torch.float32 and u.shape[2] % 32 == 0:
        return _Scan.apply(u, dt_raw, z, bc, A, D, bias, h0, carry, hT)
    y, h = scan_reference(u, dt_raw, z, bc, A, D, bias, h0, carry)
    if hT is not None:
        hT.copy_(h.detach())
    return y
