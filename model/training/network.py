"""The streaming Mamba CTC encoder: log-mel -> valid convolution stem (a frame every 40 ms) -> lookahead -> blocks of Mamba and a
gated MLP -> CTC head. Parameters carry the names and shapes of the exported file; see SPEC in export.py.

The stretches between two scans are plain functions of tensors, so that one compilation serves every layer.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from scan import scan

EPS = 1e-5


def rms(x, w):
    x = x.float() if x.dtype == torch.bfloat16 else x
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * w


def linear(x, w, b=None):
    return F.linear(x, w.to(x.dtype), None if b is None else b.to(x.dtype))


def stem(f, w1, b1, w2, b2, norm, look_w, look_b, low):
    """f (rows, T, mels), normalised -> (rows, J, d). low: the dtype of the matrix products."""
    x = f.to(low).unfold(1, 3, 2).flatten(2)
    x = F.silu(linear(x, w1.flatten(1), b1))
    x = x.unfold(1, 3, 2).flatten(2)
    x = rms(F.silu(linear(x, w2.flatten(1), b2)), norm)
    look = look_w.shape[-1] - 1 if look_w is not None else 0
    if look:
        J = x.shape[1]
        p = F.pad(x, (0, 0, 0, look))
        x = x + look_b + sum(p[:, k:k + J] * look_w[:, 0, k] for k in range(look + 1))
    return x


def before(x, norm, w_in, conv_w, conv_b, w_x, w_dt, low):
    """Residual stream -> what the scan takes: u, raw step size, gate, (B, C)."""
    xz = linear(rms(x, norm).to(low), w_in)
    u, z = xz.chunk(2, dim=-1)
    L, k = u.shape[1], conv_w.shape[-1]
    p = F.pad(u, (0, 0, k - 1, 0)).to(x.dtype)
    u = F.silu(conv_b + sum(p[:, i:i + L] * conv_w[:, 0, i] for i in range(k))).to(low)
    s = linear(u, w_x)
    r = w_dt.shape[1]
    return u, linear(s[..., :r], w_dt), z, s[..., r:]


def after(x, y, w_out, norm, w1, w2, keep1, keep2, drop, low):
    """Scan's output -> residual stream after the block. keep: a factor a row for each branch (stochastic depth), or None."""
    def add(x, v, keep):
        v = v.to(x.dtype)
        if drop:
            v = F.dropout(v, drop)
        return x + (v if keep is None else v * keep[:, None, None])
    x = add(x, linear(y, w_out), keep1)
    a, g = linear(rms(x, norm).to(low), w1).chunk(2, dim=-1)
    return add(x, linear(a * F.silu(g), w2), keep2)


def head(x, norm, w, b, low):
    return linear(rms(x, norm).to(low), w, b)


class Encoder(nn.Module):
    def __init__(self, vocab, d=256, layers=12, look=8, mels=80, state=16, taps=4, drop=0.0, inter=()):
        super().__init__()
        self.d, self.layers, self.look, self.drop, self.inter = d, layers, look, drop, tuple(inter)
        e, r = 2 * d, -(-d // 16)
        P = {}

        def dense(name, out, *shape):
            w = torch.empty(out, *shape)
            nn.init.kaiming_uniform_(w, a=math.sqrt(5))
            P[name] = w
        dense("stem.conv1.weight", d, mels, 3)
        P["stem.conv1.bias"] = torch.zeros(d)
        dense("stem.conv2.weight", d, d, 3)
        P["stem.conv2.bias"] = torch.zeros(d)
        P["stem.norm.weight"] = torch.ones(d)
        if look:
            P["stem.lookahead.weight"] = torch.empty(d, 1, look + 1).uniform_(-1, 1) / (look + 1) ** 0.5
            P["stem.lookahead.bias"] = torch.zeros(d)
        for i in range(layers):
            q = f"backbone.layers.{i}."
            m = q + "mixer."
            P[q + "norm.weight"] = torch.ones(d)
            dense(m + "in_proj.weight", 2 * e, d)
            P[m + "conv1d.weight"] = torch.empty(e, 1, taps).uniform_(-1, 1) / taps ** 0.5
            P[m + "conv1d.bias"] = torch.zeros(e)
            dense(m + "x_proj.weight", r + 2 * state, e)
            P[m + "dt_proj.weight"] = torch.empty(e, r).uniform_(-1, 1) / r ** 0.5
            dt = torch.exp(torch.rand(e) * math.log(100.0) + math.log(1e-3))
            P[m + "dt_proj.bias"] = dt + torch.log(-torch.expm1(-dt))          # softplus of it is dt
            P[m + "A_log"] = torch.log(torch.arange(1, state + 1, dtype=torch.float32)).repeat(e, 1)
            P[m + "D"] = torch.ones(e)
            dense(m + "out_proj.weight", d, e)
            P[q + "norm2.weight"] = torch.ones(d)
            dense(q + "mlp.fc1.weight", 4 * d, d)
            dense(q + "mlp.fc2.weight", d, 2 * d)
            for k in ("mixer.out_proj.weight", "mlp.fc2.weight"):
                P[q + k] /= math.sqrt(2 * layers)
        P["backbone.norm_f.weight"] = torch.ones(d)
        dense("ctc_head.weight", vocab, d)
        P["ctc_head.bias"] = torch.zeros(vocab)
        for i in self.inter:
            P[f"inter.{i}.norm.weight"] = torch.ones(d)
        self.names = list(P)
        self.params = nn.ParameterDict({k.replace(".", "/"): nn.Parameter(v) for k, v in P.items()})
        self.register_buffer("mean", torch.zeros(mels))
        self.register_buffer("inv_std", torch.ones(mels))
        self.low = torch.float32
        self.f_stem, self.f_before, self.f_after, self.f_head = stem, before, after, head

    def p(self, name):
        return self.params[name.replace(".", "/")]

    def compiled(self):
        c = lambda f: torch.compile(f, dynamic=False)
        self.f_stem, self.f_before, self.f_after, self.f_head = c(stem), c(before), c(after), c(head)
        return self

    def export_state(self):
        """Everything that is exported, by its exported name, in float32."""
        out = {k: self.p(k).detach().float().cpu().clone() for k in self.names if not k.startswith("inter.")}
        out["features.mean"], out["features.inv_std"] = self.mean.cpu().clone(), self.inv_std.cpu().clone()
        return out

    @torch.no_grad()
    def load_export(self, tensors):
        for k in self.names:
            if k in tensors:
                self.p(k).copy_(tensors[k].to(self.p(k).dtype))
            elif not k.startswith("inter."):
                raise KeyError(f"the weights hold no {k}")
        self.mean.copy_(tensors["features.mean"])
        self.inv_std.copy_(tensors["features.inv_std"])

    @staticmethod
    def frames(samples):
        """Encoder frames of so many samples."""
        t = (samples - 400) // 160 + 1
        t = (t - 3) // 2 + 1
        return (t - 3) // 2 + 1

    @staticmethod
    def samples(frames):
        """The samples that so many encoder frames need."""
        return 640 * (frames - 1) + 1360

    def normalise(self, log_mel):
        return (log_mel - self.mean) * self.inv_std

    def forward(self, f, keep=None, h0=None, carry=None, hT=None, every=None):
        """f (rows, T, mels), normalised -> logits (rows, J, vocab), those of the intermediate heads. keep (layers, 2, rows);
        h0, hT (layers, rows, 2 d, 16): states that come in, and where those at the end go. every: a list that receives
        the residual stream after the stem and after each block."""
        p, low, drop = self.p, self.low, self.drop if self.training else 0.0
        look = (p("stem.lookahead.weight"), p("stem.lookahead.bias")) if self.look else (None, None)
        x = self.f_stem(f, p("stem.conv1.weight"), p("stem.conv1.bias"), p("stem.conv2.weight"), p("stem.conv2.bias"),
                        p("stem.norm.weight"), *look, low)
        if every is not None:
            every.append(x)
        outs = []
        for i in range(self.layers):
            q = f"backbone.layers.{i}."
            m = q + "mixer."
            u, dt, z, bc = self.f_before(x, p(q + "norm.weight"), p(m + "in_proj.weight"), p(m + "conv1d.weight"),
                                         p(m + "conv1d.bias"), p(m + "x_proj.weight"), p(m + "dt_proj.weight"), low)
            y = scan(u, dt, z, bc, -torch.exp(p(m + "A_log")), p(m + "D"), p(m + "dt_proj.bias"),
                     None if h0 is None else h0[i], carry, None if hT is None else hT[i])
            k1, k2 = (None, None) if keep is None else (keep[i, 0], keep[i, 1])
            x = self.f_after(x, y, p(m + "out_proj.weight"), p(q + "norm2.weight"), p(q + "mlp.fc1.weight"),
                             p(q + "mlp.fc2.weight"), k1, k2, drop, low)
            if every is not None:
                every.append(x)
            if i in self.inter:
                outs.append(self.f_head(x, p(f"inter.{i}.norm.weight"), p("ctc_head.weight"), p("ctc_head.bias"), low))
        return self.f_head(x, p("backbone.norm_f.weight"), p("ctc_head.weight"), p("ctc_head.bias"), low), outs
