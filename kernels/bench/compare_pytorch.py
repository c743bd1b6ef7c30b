"""The engine's work in PyTorch, timed beside it on the same GPU. Needs PyTorch 2 and, for its row, transformers; random weights,
no network.

    python3 kernels/bench/compare_pytorch.py [--engine BENCH_OUTPUT] [--device cpu --quick]

BENCH_OUTPUT: what `cuda_bench model/pretrained throughput profile` printed on that machine (scripts/gpu bench ... | tee FILE);
its figures then stand in the tables. Two tables, float16 with float32 states, 320 ms (8 frames of 40 ms) of every stream a step,
medians:

1. One Mamba block's mixer (norm, in_proj, convolution, dt, scan, gate, out_proj, residual), state in and out: plain PyTorch
   eagerly, as a CUDA graph, and compiled; transformers' MambaModel with its cache, which moves on a frame a call. That these two compute the same is
   checked first, in float32. The engine's figure is the sum of its kernels for that work over its layers, so without uploads.
2. The whole encoder beside a causal transformer of the same size (rotary positions, key-value cache, no window) at several ages of
   the streams. Here PyTorch runs the blocks and the head as one CUDA graph, without features and stem; the engine's figure is a
   whole step from samples in host memory to tokens, so it includes more.
"""

import argparse
import json
import math
import os
import re
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

FRAMES = 8
HOP_SECONDS = 0.04
MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "pretrained", "config.json")


def rms(x, w):
    return (x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-5) * w).to(x.dtype)


class MambaStep(nn.Module):
    """Norm, mixer and residual of one block; its state is kept in place."""

    def __init__(self, streams, d, e, n, rank, taps):
        super().__init__()
        self.n, self.rank = n, rank
        self.norm = nn.Parameter(torch.ones(d))
        self.in_proj, self.out_proj = nn.Linear(d, 2 * e, bias=False), nn.Linear(e, d, bias=False)
        self.x_proj, self.dt_proj = nn.Linear(e, rank + 2 * n, bias=False), nn.Linear(rank, e)
        self.conv_w, self.conv_b = nn.Parameter(torch.randn(e, taps) / 2), nn.Parameter(torch.randn(e) / 10)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, n + 1).float()).repeat(e, 1))
        self.D = nn.Parameter(torch.ones(e))
        self.register_buffer("tail", torch.zeros(streams, taps - 1, e))
        self.register_buffer("h", torch.zeros(streams, e, n))

    def narrow(self):
        """Weights and activations float16; state, A and D float32."""
        keep = {k: getattr(self, k).data.float() for k in ("h", "A_log", "D")}
        self.half()
        for k, v in keep.items():
            getattr(self, k).data = v
        return self

    def forward(self, x):
        """x (streams, frames, d)"""
        u, z = self.in_proj(rms(x, self.norm)).chunk(2, -1)
        q = torch.cat([self.tail, u], 1)
        L = u.shape[1]
        self.tail.copy_(q[:, L:])
        u = F.silu(self.conv_b + sum(q[:, i : i + L] * self.conv_w[:, i] for i in range(self.conv_w.shape[1])))
        s, B, C = self.x_proj(u).split([self.rank, self.n, self.n], -1)
        dt = F.softplus(self.dt_proj(s).float())
        A = -torch.exp(self.A_log)
        h, y = self.h, []
        for t in range(L):
            h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * u[:, t].float())[..., None] * B[:, t, None].float()
            y.append((h * C[:, t, None].float()).sum(-1))
        self.h.copy_(h)
        y = (torch.stack(y, 1) + self.D * u.float()) * F.silu(z.float())
        return x + self.out_proj(y.to(x.dtype))

    def state_bytes(self):
        return sum(t[0].numel() * t.element_size() for t in (self.h, self.tail))


class AttentionStep(nn.Module):
    """Norm, causal attention over everything before, and residual; keys and values are kept in place, room for one step more."""

    def __init__(self, streams, d, heads, age, device, dtype):
        super().__init__()
        self.heads, self.age = heads, age
        self.norm = nn.Parameter(torch.ones(d))
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.cache = [torch.randn(streams, heads, age + FRAMES, d // heads, device=device, dtype=dtype) for _ in range(2)]
        n = d // heads // 2
        angle = torch.arange(age, age + FRAMES)[:, None] * 10000.0 ** (-torch.arange(n) / n)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def rotate(self, x):
        a, b = x.chunk(2, -1)
        return torch.cat([a * self.cos - b * self.sin, a * self.sin + b * self.cos], -1)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(rms(x, self.norm)).chunk(3, -1))
        keys, values = self.cache
        keys[:, :, self.age :], values[:, :, self.age :] = self.rotate(k), v
        from torch.nn.attention.bias import causal_lower_right

        y = F.scaled_dot_product_attention(self.rotate(q), keys, values, attn_mask=causal_lower_right(FRAMES, self.age + FRAMES))
        return x + self.out(y.transpose(1, 2).flatten(2))

    def state_bytes(self):
        return sum(t[0, :, : self.age].numel() * t.element_size() for t in self.cache)


class Encoder(nn.Module):
    def __init__(self, mixers, d, mlp, vocab):
        super().__init__()
        self.mixers = nn.ModuleList(mixers)
        self.norms = nn.ParameterList([torch.ones(d) for _ in mixers])
        self.fc1 = nn.ModuleList([nn.Linear(d, 2 * mlp, bias=False) for _ in mixers])
        self.fc2 = nn.ModuleList([nn.Linear(mlp, d, bias=False) for _ in mixers])
        self.norm, self.head = nn.Parameter(torch.ones(d)), nn.Linear(d, vocab)

    def forward(self, x):
        for mixer, norm, fc1, fc2 in zip(self.mixers, self.norms, self.fc1, self.fc2):
            x = mixer(x)
            a, g = fc1(rms(x, norm)).chunk(2, -1)
            x = x + fc2(a * F.silu(g))
        return self.head(rms(x, self.norm)).argmax(-1)

    def state_bytes(self):
        return sum(m.state_bytes() for m in self.mixers)


def median_ms(call, device, seconds=1.0, most=200):
    """A call's median, over so many seconds."""
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(3):
        call()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or (len(times) < most and time.perf_counter() < end):
        sync()
        start = time.perf_counter()
        call()
        sync()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def as_graph(call, device):
    """The same call as one CUDA graph; itself where there is no GPU."""
    if device != "cuda":
        return call
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def hugging_face(config, streams, device):
    """A one-layer MambaModel of transformers and a function that moves its cache on by x (streams, frames, d), a frame a call."""
    from transformers import MambaConfig, MambaModel

    s = config["ssm_cfg"]
    model = MambaModel(
        MambaConfig(
            vocab_size=8,
            hidden_size=config["d_model"],
            state_size=s["d_state"],
            num_hidden_layers=1,
            expand=s["expand"],
            conv_kernel=s["d_conv"],
            time_step_rank=s["dt_rank"],
            layer_norm_epsilon=1e-5,
            residual_in_fp32=False,
        )
    )
    model = model.to(device).eval()
    cache = model(inputs_embeds=torch.zeros(streams, 1, config["d_model"], device=device), use_cache=True).cache_params

    def step(x):
        out = []
        for t in range(x.shape[1]):
            out.append(model(inputs_embeds=x[:, t : t + 1], cache_params=cache, use_cache=True).last_hidden_state)
        return torch.cat(out, 1)

    return model, cache, step


def check_agreement(config, mine, device):
    """Both blocks with the same weights on the same input, from an empty state -> the relative difference."""
    model, cache, step = hugging_face(config, 3, device)
    m, layer = model.layers[0].mixer, model.layers[0]
    block = mine(3).to(device)
    with torch.no_grad():
        for a, b in (
            (m.in_proj.weight, block.in_proj.weight),
            (m.out_proj.weight, block.out_proj.weight),
            (m.x_proj.weight, block.x_proj.weight),
            (m.dt_proj.weight, block.dt_proj.weight),
            (m.dt_proj.bias, block.dt_proj.bias),
            (m.A_log, block.A_log),
            (m.D, block.D),
            (m.conv1d.weight[:, 0], block.conv_w),
            (m.conv1d.bias, block.conv_b),
            (layer.norm.weight, block.norm),
        ):
            a.copy_(b)
        first = torch.zeros(3, 1, config["d_model"], device=device)  # what the cache was made with: moves no state
        x = torch.randn(3, FRAMES, config["d_model"], device=device)
        block(first)
        want = rms(torch.cat([block(x[:, :5]), block(x[:, 5:])], 1), torch.ones(config["d_model"], device=device))
        got = model(inputs_embeds=first, use_cache=True)
        cache = got.cache_params
        got = torch.cat(
            [model(inputs_embeds=x[:, t : t + 1], cache_params=cache, use_cache=True).last_hidden_state for t in range(FRAMES)], 1
        )
        return ((got - want).norm() / want.norm()).item()


def engine_figures(path, layers):
    """cuda_bench's output -> {streams: ms of a step}, ms of one mixer at 65,536 streams (or None)."""
    steps, mixer, rows = {}, 0.0, {}
    if path:
        for line in open(path, encoding="utf-8"):
            cells = [c.strip() for c in line.strip().strip("|").split("|")] if line.startswith("|") else []
            if len(cells) == 6 and re.fullmatch(r"[0-9]+", cells[0]) and cells[3].endswith("%"):
                steps.setdefault(int(cells[0]), float(cells[1]))
            elif len(cells) == 5 and cells[2].endswith("%"):
                rows.setdefault(cells[0], float(cells[1]))
        mixer = (
            sum(v for k, v in rows.items() if k in ("in_proj", "x_proj", "scan") or k.startswith(("convolution", "out_proj")))
            / layers
        )
    return steps, mixer or None


def number(x, digits=3):
    return "-" if x is None else f"{x:,.{digits}f}" if x < 100 else f"{x:,.0f}"


def size(n):
    return f"{n / 1e6:,.2f} MB" if n < 1e9 else f"{n / 1e9:,.2f} GB"


def age_name(seconds):
    return f"{seconds // 3600} h" if seconds >= 3600 else f"{seconds // 60} min"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--engine", default="", help="what cuda_bench printed (sections throughput and profile)")
    ap.add_argument("--model", default=MODEL, help="the config.json whose shapes are used")
    ap.add_argument("--device", default="cuda")
    ap.add_argument("--quick", action="store_true", help="small sizes: does it run?")
    ap.add_argument("--no-compile", action="store_true")
    a = ap.parse_args()
    if a.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("compare_pytorch.py: PyTorch sees no GPU (--device cpu --quick only shows that the script runs)")
    with open(a.model, encoding="utf-8") as f:
        config = json.load(f)
    d, layers, vocab, s = config["d_model"], config["n_layer"], config["vocab_size"], config["ssm_cfg"]
    shape = d, s["expand"] * d, s["d_state"], s["dt_rank"], s["d_conv"]
    dtype = torch.float16 if a.device == "cuda" else torch.float32
    torch.manual_seed(0)
    steps, engine_mixer = engine_figures(a.engine, layers)
    print(
        f"{torch.cuda.get_device_name() if a.device == 'cuda' else 'CPU'}, PyTorch {torch.__version__}, {dtype}, "
        f"{FRAMES * HOP_SECONDS * 1000:.0f} ms of every stream a step\n"
    )

    def mamba(streams):
        block = MambaStep(streams, *shape)
        return block.narrow() if dtype == torch.float16 else block

    with torch.inference_mode():
        try:
            import transformers
        except ImportError as why:
            transformers = None
            print(f"without transformers: {why}\n")
        if transformers:
            error = check_agreement(config, lambda n: MambaStep(n, *shape), a.device)
            print(f"plain PyTorch against transformers {transformers.__version__}, float32: relative difference {error:.1e}\n")
            if not error < 1e-4:
                raise SystemExit("compare_pytorch.py: the two blocks do not compute the same")
        print(
            "| one Mamba mixer, streams | engine, ms | PyTorch, eager | one CUDA graph | compiled, one graph | transformers, cached, float32 |"
        )
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        for streams in (8, 16) if a.quick else (64, 1024, 16384, 65536):
            block, x = mamba(streams).to(a.device), torch.randn(streams, FRAMES, d, device=a.device, dtype=dtype)
            eager, graph = median_ms(lambda: block(x), a.device), median_ms(as_graph(lambda: block(x), a.device), a.device)
            compiled = None
            if not a.no_compile and streams in (1024, 65536):  # half a minute of compiling each
                fast = torch.compile(block, dynamic=False)
                compiled = median_ms(as_graph(lambda: fast(x), a.device), a.device)
            theirs = None
            if transformers:
                _, _, step = hugging_face(config, streams, a.device)
                theirs = median_ms(lambda: step(x.float()), a.device)
            mine = engine_mixer if streams == 65536 else None
            print(
                f"| {streams:,} | {number(mine)} | {number(eager)} | {number(graph)} | {number(compiled)} | {number(theirs)} |",
                flush=True,
            )
            del block, x

        # the transformer's MLP is as much wider as its mixer is smaller
        mixer = sum(p.numel() for p in mamba(1).parameters()) - d
        mlp = config["d_intermediate"] + round((mixer - 4 * d * d) / (3 * d) / 16) * 16
        print(
            "\n| streams | age | transformer, ms a step | bytes a stream | Mamba in PyTorch, ms | Mamba, the engine, ms | bytes a stream |"
        )
        print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        sizes = []
        for streams, ages in ((2, (60, 120)),) if a.quick else ((8, (60, 600, 3600, 14400)), (64, (60, 600, 3600))):
            x = torch.randn(streams, FRAMES, d, device=a.device, dtype=dtype)
            ours = Encoder([mamba(streams) for _ in range(layers)], d, config["d_intermediate"], vocab).to(a.device)
            for part in (ours.norms, ours.fc1, ours.fc2, ours.head) if dtype == torch.float16 else ():
                part.half()
            ours.norm.data = ours.norm.data.to(dtype)
            in_torch = median_ms(as_graph(lambda: ours(x), a.device), a.device)
            for age in ages:
                frames = math.ceil(age / HOP_SECONDS)
                need = 2 * layers * streams * (frames + FRAMES) * d * (2 if dtype == torch.float16 else 4)
                if a.device == "cuda" and need > 0.9 * torch.cuda.mem_get_info()[0]:
                    print(f"| {streams} | {age_name(age)} | does not fit ({size(need)} of keys and values) | | | | |")
                    continue
                theirs = Encoder(
                    [AttentionStep(streams, d, 4, frames, a.device, dtype) for _ in range(layers)], d, mlp, vocab
                ).to(a.device, dtype)
                ms = median_ms(as_graph(lambda: theirs(x), a.device), a.device)
                print(
                    f"| {streams} | {age_name(age)} | {number(ms)} | {size(theirs.state_bytes())} | {number(in_torch)} | "
                    f"{number(steps.get(streams))} | {size(ours.state_bytes())} |",
                    flush=True,
                )
                sizes = [sum(p.numel() for p in m.parameters()) for m in (ours, theirs)]
                del theirs
                if a.device == "cuda":
                    torch.cuda.empty_cache()
        print(f"\nparameters in blocks and head: Mamba {sizes[0] / 1e6:.2f} M, transformer {sizes[1] / 1e6:.2f} M")


if __name__ == "__main__":
    main()
