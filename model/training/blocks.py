"""What the encoder's blocks can be made of. A block is x + out_proj(mixer(norm(x))), then x + MLP(norm(x)); the mixers here
differ in nothing else, so that a comparison of them is one.

    mamba         the default: Mamba-1 (Gu and Dao 2023), the project's own scan; the only one that the daemon runs
    mamba2        Mamba-2 (Dao and Gu 2024): one decay a head, a larger state; chunked, plain PyTorch
    gla           gated linear attention (Yang et al. 2023): a decay a key channel; chunked, plain PyTorch
    transformer   causal attention over a sliding window, rotary positions
    lstm          cuDNN's LSTM

Each is a class with:
    parameters()  {name in the block: initial tensor}; "mixer.out_proj.weight" is one of them
    state         shape of what one row carries from piece to piece
    tail          further numbers that a stream must keep when it is read in pieces
    cached        the state is a cache in the dtype of the products; else it is float32
    span          frames at a time when long recordings are read, or None: any number
    compile(c)    c: torch.compile or the like, for the stretches that gain by it
    __call__(p, x, low, h0, carry, hT)
                  p: name -> parameter; x (rows, frames, d), the residual stream -> (rows, frames, n), what out_proj takes. low:
                  dtype of the matrix products. h0 (rows, *state): the state that comes in, weighed by carry (a number a row; 0
                  forgets it), no gradient flows into it. hT: where the state at the end goes, or None.
"""
import math

import torch
import torch.nn.functional as F

from scan import scan

EPS = 1e-5


def rms(x, w):
    x = x.float() if x.dtype == torch.bfloat16 else x
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * w


def linear(x, w, b=None):
    return F.linear(x, w.to(x.dtype), None if b is None else b.to(x.dtype))


def dense(out, *shape):
    w = torch.empty(out, *shape)
    torch.nn.init.kaiming_uniform_(w, a=math.sqrt(5))
    return w


def step_sizes(n):
    """Biases whose softplus is spread over 0.001 to 0.1, evenly in the logarithm: how Mamba begins."""
    dt = torch.exp(torch.rand(n) * math.log(100.0) + math.log(1e-3))
    return dt + torch.log(-torch.expm1(-dt))


def depthwise(u, w, b, low):
    """Causal depthwise convolution and SiLU. u (rows, frames, n), w (n, 1, taps)."""
    L, k = u.shape[1], w.shape[-1]
    q = F.pad(u, (0, 0, k - 1, 0)).to(b.dtype)
    return F.silu(b + sum(q[:, i:i + L] * w[:, 0, i] for i in range(k))).to(low)


# --- Mamba-1 ---

def mamba_before(x, norm, w_in, conv_w, conv_b, w_x, w_dt, low):
    """Residual stream -> what the scan takes: u, raw step size, gate, (B, C)."""
    u, z = linear(rms(x, norm).to(low), w_in).chunk(2, dim=-1)
    u = depthwise(u, conv_w, conv_b, low)
    s = linear(u, w_x)
    r = w_dt.shape[1]
    return u, linear(s[..., :r], w_dt), z, s[..., r:]


class Mamba:
    span, cached = None, False

    def __init__(self, d, state=16, taps=4):
        self.d, self.n, self.taps = d, state, taps
        self.state, self.tail = (2 * d, state), 2 * d * (taps - 1)
        self.before = mamba_before

    def parameters(self):
        e, r = 2 * self.d, -(-self.d // 16)
        return {"mixer.in_proj.weight": dense(2 * e, self.d),
                "mixer.conv1d.weight": torch.empty(e, 1, self.taps).uniform_(-1, 1) / self.taps ** 0.5,
                "mixer.conv1d.bias": torch.zeros(e),
                "mixer.x_proj.weight": dense(r + 2 * self.n, e),
                "mixer.dt_proj.weight": torch.empty(e, r).uniform_(-1, 1) / r ** 0.5,
                "mixer.dt_proj.bias": step_sizes(e),
                "mixer.A_log": torch.log(torch.arange(1, self.n + 1, dtype=torch.float32)).repeat(e, 1),
                "mixer.D": torch.ones(e),
                "mixer.out_proj.weight": dense(self.d, e)}

    def compile(self, c):
        self.before = c(self.before)

    def __call__(self, p, x, low, h0, carry, hT):
        u, dt, z, bc = self.before(x, p("norm.weight"), p("mixer.in_proj.weight"), p("mixer.conv1d.weight"), p("mixer.conv1d.bias"),
                                   p("mixer.x_proj.weight"), p("mixer.dt_proj.weight"), low)
        return scan(u, dt, z, bc, -torch.exp(p("mixer.A_log")), p("mixer.D"), p("mixer.dt_proj.bias"), h0, carry, hT)


# --- linear attention with decay, in chunks ---

def decayed_attention(q, k, v, g, h0, chunk):
    """S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T; o_t = S_t^T q_t, as matrix products over chunks of frames.

    q, k (rows, frames, heads or 1, K), v (rows, frames, heads, V), g (rows, frames, heads, K or 1): logarithms of the decays, at
    most 0 and with K of them such that a chunk's sum stays above -80; h0 (rows, heads, K, V) -> o (rows, frames, heads, V), S at
    the end. All float32 or wider. Within a chunk the decays between two frames are differences of sums of g, between chunks
    likewise (Yang et al. 2023, section 4; Dao and Gu 2024, section 6)."""
    rows, L = v.shape[:2]
    pad = -L % chunk
    if pad:
        q, k, v, g = (F.pad(t, (0, 0, 0, 0, 0, pad)) for t in (q, k, v, g))    # a decay of 1 and nothing added: the state stays
    q, k, v, g = (t.unflatten(1, (-1, chunk)).permute(0, 3, 1, 2, 4) for t in (q, k, v, g))    # (rows, heads, chunks, chunk, n)
    N = v.shape[2]
    c = g.cumsum(3)
    causal = torch.ones(chunk, chunk, dtype=torch.bool, device=v.device).tril()
    if g.shape[-1] == 1:
        between = (c - c.transpose(3, 4)).masked_fill(~causal, -math.inf).exp()
        pairs = q @ k.transpose(3, 4) * between
    else:
        pairs = ((q * c.exp()) @ (k * (-c).exp()).transpose(3, 4)).masked_fill(~causal, 0.0)
    total = c[..., -1, :]                                  # (rows, heads, chunks, K or 1): a whole chunk's
    added = (k * (total[..., None, :] - c).exp()).transpose(3, 4) @ v          # (rows, heads, chunks, K, V)
    upto = total.cumsum(2)
    start = F.pad(upto, (0, 0, 1, 0)).transpose(2, 3)      # (rows, heads, K or 1, chunks + 1): decay before each chunk, and of all
    before = torch.ones(N + 1, N, dtype=torch.bool, device=v.device).tril(-1)
    move = (start[..., :, None] - upto.transpose(2, 3)[..., None, :]).masked_fill(~before, -math.inf).exp()
    K, V = added.shape[3:]
    if g.shape[-1] == 1:
        states = (move[:, :, 0] @ added.flatten(3)).unflatten(3, (K, V))
    else:
        states = (move @ added.transpose(2, 3)).transpose(2, 3)
    states = states + start.transpose(2, 3).exp()[..., None] * h0[:, :, None]
    o = pairs @ v + (q * c.exp()) @ states[:, :, :-1]
    return o.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :L], states[:, :, -1]


def wide(low):
    """The dtype of states and decays beside products in low."""
    return torch.float64 if low == torch.float64 else torch.float32


def mamba2_mixer(x, norm, w_in, conv_w, conv_b, dt_bias, A_log, D, gate_norm, h0, carry, low, headdim, n, chunk):
    e, heads = headdim * D.shape[0], D.shape[0]
    z, u, dt = linear(rms(x, norm).to(low), w_in).split([e, e + 2 * n, heads], -1)
    xs, B, C = depthwise(u, conv_w, conv_b, low).to(wide(low)).split([e, n, n], -1)
    dt = F.softplus(dt.to(wide(low)) + dt_bias)            # (rows, frames, heads)
    xs = xs.unflatten(-1, (heads, headdim))
    y, h = decayed_attention(C[:, :, None], B[:, :, None], xs * dt[..., None], (-dt * A_log.exp())[..., None],
                             h0 * carry[:, None, None, None], chunk)
    y = (y + xs * D[:, None]).flatten(2) * F.silu(z.to(wide(low)))
    return rms(y, gate_norm).to(low), h


class Mamba2:
    span, cached = 2048, False

    def __init__(self, d, state=64, headdim=64, taps=4, chunk=64):
        self.d, self.n, self.headdim, self.taps, self.chunk = d, state, headdim, taps, chunk
        self.heads = 2 * d // headdim
        self.state, self.tail = (self.heads, state, headdim), (2 * d + 2 * state) * (taps - 1)
        self.mix = mamba2_mixer

    def parameters(self):
        e, wide_ = 2 * self.d, 2 * self.d + 2 * self.n
        return {"mixer.in_proj.weight": dense(e + wide_ + self.heads, self.d),
                "mixer.conv1d.weight": torch.empty(wide_, 1, self.taps).uniform_(-1, 1) / self.taps ** 0.5,
                "mixer.conv1d.bias": torch.zeros(wide_),
                "mixer.dt_bias": step_sizes(self.heads),
                "mixer.A_log": torch.log(torch.empty(self.heads).uniform_(1, 16)),
                "mixer.D": torch.ones(self.heads),
                "mixer.norm.weight": torch.ones(e),
                "mixer.out_proj.weight": dense(self.d, e)}

    def compile(self, c):
        self.mix = c(self.mix)

    def __call__(self, p, x, low, h0, carry, hT):
        if h0 is None:
            h0, carry = torch.zeros(x.shape[0], *self.state, dtype=wide(low), device=x.device), torch.zeros(x.shape[0], device=x.device)
        y, h = self.mix(x, p("norm.weight"), p("mixer.in_proj.weight"), p("mixer.conv1d.weight"), p("mixer.conv1d.bias"),
                        p("mixer.dt_bias"), p("mixer.A_log"), p("mixer.D"), p("mixer.norm.weight"), h0.detach(), carry, low,
                        self.headdim, self.n, self.chunk)
        if hT is not None:
            hT.copy_(h.detach())
        return y


def gla_mixer(x, norm, w_qkvg, w_a, w_b, b_b, head_norm, h0, carry, low, heads, keys, values, chunk):
    u = rms(x, norm).to(low)
    q, k, v, gate = linear(u, w_qkvg).split([keys, keys, values, values], -1)
    a = F.logsigmoid(linear(linear(u, w_a), w_b, b_b).to(wide(low))) / 16
    q, k, v, a = (t.to(wide(low)).unflatten(-1, (heads, -1)) for t in (q, k, v, a.clamp(min=-80.0 / chunk)))
    y, h = decayed_attention(q * (keys // heads) ** -0.5, k, v, a, h0 * carry[:, None, None, None], chunk)
    y = rms(y, head_norm).flatten(2) * F.silu(gate.to(wide(low)))
    return y.to(low), h


class GLA:
    span, cached = 2048, False

    def __init__(self, d, heads=4, chunk=16, rank=16):
        self.d, self.heads, self.chunk, self.rank = d, heads, chunk, rank
        self.keys, self.values = d // 2, d
        self.state, self.tail = (heads, self.keys // heads, self.values // heads), 0
        self.mix = gla_mixer

    def parameters(self):
        return {"mixer.qkvg_proj.weight": dense(2 * self.keys + 2 * self.values, self.d),
                "mixer.decay1.weight": dense(self.rank, self.d),
                "mixer.decay2.weight": dense(self.keys, self.rank),
                "mixer.decay2.bias": torch.zeros(self.keys),
                "mixer.norm.weight": torch.ones(self.values // self.heads),
                "mixer.out_proj.weight": dense(self.d, self.values)}

    def compile(self, c):
        self.mix = c(self.mix)

    def __call__(self, p, x, low, h0, carry, hT):
        if h0 is None:
            h0, carry = torch.zeros(x.shape[0], *self.state, dtype=wide(low), device=x.device), torch.zeros(x.shape[0], device=x.device)
        y, h = self.mix(x, p("norm.weight"), p("mixer.qkvg_proj.weight"), p("mixer.decay1.weight"), p("mixer.decay2.weight"),
                        p("mixer.decay2.bias"), p("mixer.norm.weight"), h0.detach(), carry, low, self.heads, self.keys, self.values,
                        self.chunk)
        if hT is not None:
            hT.copy_(h.detach())
        return y


# --- attention over a sliding window ---

def rotary(x, first):
    """x (rows, heads, frames, n), the first frame at position `first` (Su et al. 2021, the half-split form)."""
    n = x.shape[-1] // 2
    t = torch.arange(first, first + x.shape[2], device=x.device, dtype=torch.float32)
    angle = t[:, None] * 10000.0 ** (-torch.arange(n, device=x.device, dtype=torch.float32) / n)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :n], x[..., n:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def attention_before(x, norm, w_qkv, past, carry, low, heads, window):
    """-> q, k, v (rows, heads, frames, n), the mask (rows, 1, frames, window + frames), True where a query may look, and the
    cache (rows, 2, window, d): the last keys, not yet rotated, and values."""
    L, d = x.shape[1:]
    q, kv = linear(rms(x, norm).to(low), w_qkv).split([d, 2 * d], -1)
    kv = torch.cat([past, torch.stack(kv.chunk(2, -1), 1)], 2)                 # (rows, 2, window + frames, d)
    split = lambda t: t.unflatten(-1, (heads, -1)).transpose(1, 2)
    i, j = torch.arange(L, device=x.device)[:, None] + window, torch.arange(L + window, device=x.device)
    mask = (j <= i) & (j > i - window) & ((j >= window) | (carry[:, None, None, None] > 0))
    return rotary(split(q), window), rotary(split(kv[:, 0]), 0), split(kv[:, 1]), mask, kv[:, :, L:].detach()


class Transformer:
    span, cached = 1024, True

    def __init__(self, d, heads=4, window=256):
        self.d, self.heads, self.window = d, heads, window
        self.state, self.tail = (2, window, d), 0
        self.before = attention_before

    def parameters(self):
        return {"mixer.qkv_proj.weight": dense(3 * self.d, self.d), "mixer.out_proj.weight": dense(self.d, self.d)}

    def compile(self, c):
        self.before = c(self.before)

    def __call__(self, p, x, low, h0, carry, hT):
        if h0 is None:
            h0, carry = torch.zeros(x.shape[0], *self.state, dtype=low, device=x.device), torch.zeros(x.shape[0], device=x.device)
        q, k, v, mask, last = self.before(x, p("norm.weight"), p("mixer.qkv_proj.weight"), h0.detach().to(low), carry, low, self.heads,
                                          self.window)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        if hT is not None:
            hT.copy_(last)
        return y.transpose(1, 2).flatten(2)


# --- LSTM ---

class _Cast(torch.autograd.Function):
    """To another dtype; the gradient comes back times a factor."""

    @staticmethod
    def forward(ctx, x, dtype, factor):
        ctx.dtype, ctx.factor = x.dtype, factor
        return x.to(dtype)

    @staticmethod
    def backward(ctx, g):
        return (g.float() * ctx.factor).to(ctx.dtype), None, None


class LSTM:
    """Hidden size and rows that cuDNN's persistent kernels take (they want float16, so gradients inside are scaled up)."""
    span, cached = None, False
    SCALE = 256.0

    def __init__(self, d, hidden=256):
        self.d, self.hidden = d, hidden
        self.state, self.tail = (2, hidden), 0
        self.norm = lambda x, w, low: rms(x, w).to(low)

    def parameters(self):
        bound = self.hidden ** -0.5
        uniform = lambda *s: torch.empty(*s).uniform_(-bound, bound)
        return {"mixer.weight_ih": uniform(4 * self.hidden, self.d), "mixer.weight_hh": uniform(4 * self.hidden, self.hidden),
                "mixer.bias_ih": uniform(4 * self.hidden), "mixer.bias_hh": uniform(4 * self.hidden),
                "mixer.out_proj.weight": dense(self.d, self.hidden)}

    def compile(self, c):
        self.norm = c(self.norm)

    def __call__(self, p, x, low, h0, carry, hT):
        kind, s = (torch.float16, self.SCALE) if x.is_cuda else (low, 1.0)
        if h0 is None:
            h0, carry = torch.zeros(x.shape[0], *self.state, device=x.device), torch.zeros(x.shape[0], device=x.device)
        h0 = (h0.detach() * carry[:, None, None]).to(kind).transpose(0, 1)[:, None].contiguous()         # (2, 1, rows, hidden)
        w = [_Cast.apply(p("mixer." + k), kind, 1 / s) for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        u = _Cast.apply(self.norm(x, p("norm.weight"), low), kind, 1 / s)
        y, h, c = torch.lstm(u, (h0[0], h0[1]), w, True, 1, 0.0, torch.is_grad_enabled(), False, True)
        if hT is not None:
            hT.copy_(torch.stack([h[0], c[0]], 1).detach())
        return _Cast.apply(y, low, s)


BLOCKS = {"mamba": Mamba, "mamba2": Mamba2, "gla": GLA, "transformer": Transformer, "lstm": LSTM}
