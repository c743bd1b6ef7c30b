"""The streaming CTC encoder: log-mel -> valid convolution stem (a frame every 40 ms) -> lookahead -> blocks of Mamba (or another
mixer, blocks.py) and a gated MLP -> CTC head. Parameters carry the names and shapes of the exported file; see SPEC in export.py.

The stretches between two mixers are plain functions of tensors, so that one compilation serves every layer.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from blocks import BLOCKS, dense, linear, rms, wide


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


def after(x, y, w_out, norm, w1, w2, keep1, keep2, drop, low):
    """The mixer's output -> residual stream after the block. keep: a factor a row for each branch (stochastic depth), or None."""
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
    """block: a key of blocks.BLOCKS; mlp: width of the blocks' MLP (2 d unless given); listener: numbers a frame of what foretell() is
    to say, if anything; options: the block's own. What `inter` and `listener` add is for training and stays out of exports."""

    def __init__(self, vocab, d=256, layers=12, look=8, mels=80, drop=0.0, inter=(), block="mamba", mlp=None, listener=0, **options):
        super().__init__()
        self.d, self.layers, self.look, self.mels, self.drop, self.inter = d, layers, look, mels, drop, tuple(inter)
        self.kind = BLOCKS[block](d, **options)
        mlp = mlp or 2 * d
        P = self.front()
        for i in range(layers):
            q = f"backbone.layers.{i}."
            P[q + "norm.weight"] = torch.ones(d)
            P.update({q + k: v for k, v in self.kind.parameters().items()})
            P[q + "norm2.weight"] = torch.ones(d)
            P[q + "mlp.fc1.weight"] = dense(2 * mlp, d)
            P[q + "mlp.fc2.weight"] = dense(d, mlp)
            for k in ("mixer.out_proj.weight", "mlp.fc2.weight"):
                P[q + k] /= math.sqrt(2 * layers)
        P["backbone.norm_f.weight"] = torch.ones(d)
        P["ctc_head.weight"] = dense(vocab, d)
        P["ctc_head.bias"] = torch.zeros(vocab)
        for i in self.inter:
            P[f"inter.{i}.norm.weight"] = torch.ones(d)
        if listener:
            P["inter.listener.norm.weight"], P["inter.listener.weight"] = torch.ones(d), dense(listener, d)
        self.names = list(P)
        self.params = nn.ParameterDict({k.replace(".", "/"): nn.Parameter(v) for k, v in P.items()})
        self.register_buffer("mean", torch.zeros(mels))
        self.register_buffer("inv_std", torch.ones(mels))
        self.low = torch.float32
        self.f_stem, self.f_after, self.f_head = stem, after, head

    def front(self):
        """The parameters of what stands before the blocks, in their order."""
        d, mels, look = self.d, self.mels, self.look
        P = {"stem.conv1.weight": dense(d, mels, 3), "stem.conv1.bias": torch.zeros(d),
             "stem.conv2.weight": dense(d, d, 3), "stem.conv2.bias": torch.zeros(d), "stem.norm.weight": torch.ones(d)}
        if look:
            P["stem.lookahead.weight"] = torch.empty(d, 1, look + 1).uniform_(-1, 1) / (look + 1) ** 0.5
            P["stem.lookahead.bias"] = torch.zeros(d)
        return P

    def embed(self, f):
        """Features (rows, T, mels), normalised -> what the first block takes (rows, J, d)."""
        p = self.p
        look = (p("stem.lookahead.weight"), p("stem.lookahead.bias")) if self.look else (None, None)
        return self.f_stem(f, p("stem.conv1.weight"), p("stem.conv1.bias"), p("stem.conv2.weight"), p("stem.conv2.bias"),
                           p("stem.norm.weight"), *look, self.low)

    def p(self, name):
        return self.params[name.replace(".", "/")]

    def compiled(self):
        c = lambda f: torch.compile(f, dynamic=False)
        self.f_stem, self.f_after, self.f_head = c(stem), c(after), c(head)
        self.kind.compile(c)
        return self

    def state(self, rows):
        """What `rows` rows carry from piece to piece, empty: (layers, rows, ...)."""
        dtype = self.low if self.kind.cached else wide(self.low)
        return torch.zeros(self.layers, rows, *self.kind.state, dtype=dtype, device=self.mean.device)

    def state_bytes(self):
        """Bytes a stream keeps between two steps: float32, but for a cache of keys and values, which is kept in 16 bits. The
        front end's part: samples, log-mel frames and stem rows that the next window needs again, and the lookahead's rows."""
        front = 400 + 2 * self.mels + (2 + self.look) * self.d
        return 4 * front + self.layers * ((2 if self.kind.cached else 4) * math.prod(self.kind.state) + 4 * self.kind.tail)

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
        h0, hT as state() makes them: states that come in, and where those at the end go; carry (rows,) weighs those that come in.
        every: a list that receives the residual stream after the stem and after each block."""
        p = self.p
        x = self.embed(f)
        if every is not None:
            every.append(x)
        outs = []
        for i in range(self.layers):
            x = self.block(i, x, keep, h0, carry, hT)
            if every is not None:
                every.append(x)
            if i in self.inter:
                outs.append(self.f_head(x, p(f"inter.{i}.norm.weight"), p("ctc_head.weight"), p("ctc_head.bias"), self.low))
        return self.f_head(x, p("backbone.norm_f.weight"), p("ctc_head.weight"), p("ctc_head.bias"), self.low), outs

    def foretell(self, x):
        """What a listener (whisper.py) makes of each frame, from the residual stream x (rows, J, d) -> (rows, J, listener)."""
        return linear(rms(x, self.p("inter.listener.norm.weight")).to(self.low), self.p("inter.listener.weight"))

    def block(self, i, x, keep=None, h0=None, carry=None, hT=None):
        """Block i on the residual stream x (rows, J, d)."""
        p = lambda name: self.p(f"backbone.layers.{i}.{name}")
        span = self.kind.span
        h0, hT = (None if h0 is None else h0[i]), (None if hT is None else hT[i])
        if span and x.shape[1] > span and not self.training:
            pieces, parts = x.split(span, 1), []
            h = self.state(x.shape[0])[i]
            for piece in pieces:
                parts.append(self.kind(p, piece, self.low, h0, carry, h))
                h0, carry = h, torch.ones(x.shape[0], device=x.device)
            y = torch.cat(parts, 1)
            if hT is not None:
                hT.copy_(h)
        else:
            y = self.kind(p, x, self.low, h0, carry, hT)
        k1, k2 = (None, None) if keep is None else (keep[i, 0], keep[i, 1])
        return self.f_after(x, y, p("mixer.out_proj.weight"), p("norm2.weight"), p("mlp.fc1.weight"), p("mlp.fc2.weight"), k1, k2,
                            self.drop if self.training else 0.0, self.low)
