"""Train the encoder.

    python train.py CONFIG --speech FOLDER --tokens tokenizer.model --out RUN --minutes M [--synthetic FOLDER] [--dev SET ...]
    torchrun --nproc-per-node 4 train.py ...           the same on several GPUs

--speech holds a folder a set, as named in the config; those that are not there are left out. --synthetic may hold {rank}: then each
process reads its own part. The run ends when its minutes are over; the learning rate follows the clock. RUN/last/ can be resumed
(--resume RUN/last), RUN/export/ is what the daemon reads, and --init EXPORT_DIR starts from exported weights.

One step: features of one shape (rows of the same length, two views each) -> forward, losses, backward, all in one CUDA graph
-> one all-reduce of one flat gradient -> AdamW and the moving average on flat vectors. The next batch is made meanwhile on a
stream of its own.
"""
import argparse
import glob
import json
import math
import os
import time

import numpy as np
import torch
import torch.distributed as dist
from torch.nn import functional as F

import ctc as losses
import export
import tomllib
from augment import Augment
from data import More, Pool, Rows, decode_all, find_sets
from evaluate import load, score
from features import log_mel
from network import Encoder
from tensors import load_file, save_file
from text import Tokens
from whisper import RATE, SECONDS, Whisper

SHARD = 13 << 20                                           # bytes a checkpoint file, so that it passes through narrow doors


class Flat:
    """All parameters in one vector, their gradients in another; AdamW and the moving average on them."""

    def __init__(self, net, cfg):
        self.cfg, self.names = cfg, net.names
        ps = [net.p(n) for n in net.names]
        size = [-(-p.numel() // 64) * 64 for p in ps]
        dev = ps[0].device
        self.w, self.g = torch.zeros(sum(size), device=dev), torch.zeros(sum(size), device=dev)
        self.decays = torch.zeros(sum(size), device=dev)
        at = 0
        for n, p, s in zip(net.names, ps, size):
            self.w[at:at + p.numel()] = p.detach().flatten()
            p.data = self.w[at:at + p.numel()].view_as(p)
            p.grad = self.g[at:at + p.numel()].view_as(p)
            if p.ndim > 1 and not n.endswith("A_log") and "conv1d" not in n and "lookahead" not in n:
                self.decays[at:at + p.numel()] = 1.0
            at += s
        self.m, self.v, self.ema = torch.zeros_like(self.w), torch.zeros_like(self.w), self.w.clone()
        self.step = 0
        self.mean, self.means = torch.zeros_like(self.w), 0

    @torch.no_grad()
    def remember(self):
        """One more of the weights that `mean` is the mean of (stochastic weight averaging; Izmailov et al. 2018)."""
        self.means += 1
        self.mean.lerp_(self.w, 1 / self.means)

    @torch.no_grad()
    def update(self, lr):
        """-> the gradient's norm (a tensor). A gradient that is not finite changes nothing."""
        c = self.cfg
        self.step += 1
        norm = self.g.norm()
        ok = torch.isfinite(norm)
        g = torch.where(ok, self.g * (c["clip"] / (norm + 1e-6)).clamp(max=1.0), torch.zeros_like(self.g))
        b1, b2 = c["betas"]
        self.m.lerp_(g, 1 - b1)
        self.v.mul_(b2).addcmul_(g, g, value=1 - b2)
        denom = (self.v / (1 - b2 ** self.step)).sqrt_().add_(1e-8)
        self.w.addcmul_(self.w, self.decays, value=-lr * c["decay"])
        self.w.addcdiv_(self.m, denom, value=-lr / (1 - b1 ** self.step))
        self.ema.lerp_(self.w, 1 - min(c["ema"], (self.step + 1) / (self.step + 10)))
        return norm

    def averaged(self, net, weights=None):
        """Exported state of the moving average, or of other weights."""
        keep = self.w.clone()
        self.w.copy_(self.ema if weights is None else weights)
        out = net.export_state()
        self.w.copy_(keep)
        return out

    def save(self, folder, extra):
        os.makedirs(folder, exist_ok=True)
        parts = {"w": self.w, "ema": (self.ema - self.w).bfloat16(), "m": self.m.bfloat16(), "v": self.v.bfloat16()}
        for k, t in parts.items():
            n = SHARD // t.element_size()
            for i, piece in enumerate(t.split(n)):
                save_file({k: piece.contiguous().cpu()}, os.path.join(folder, f"{k}-{i}.safetensors"))
        with open(os.path.join(folder, "state.json"), "w") as f:
            json.dump({"step": self.step, "parameters": self.names, **extra}, f)

    def load(self, folder):
        with open(os.path.join(folder, "state.json")) as f:
            state = json.load(f)
        if state.get("parameters") != self.names:
            raise SystemExit(f"--resume {folder}: its vectors hold other parameters, or in another order, than this model's: go on from "
                             "its export with --init")
        for k in ("w", "ema", "m", "v"):
            t, i = getattr(self, k), 0
            pieces = []
            while os.path.exists(p := os.path.join(folder, f"{k}-{i}.safetensors")):
                pieces.append(load_file(p)[k].float())
                i += 1
            if pieces:
                t.copy_(torch.cat(pieces))
            elif k != "ema":
                t.zero_()                                  # the optimiser starts afresh
            if k == "ema":
                t.add_(self.w) if pieces else t.copy_(self.w)
        self.step = state["step"]
        return state


def start_from(net, folder, tokens, only=()):
    """Takes what fits of exported weights -> the names of the parameters that begin at random. only: prefixes of names; the
    others are left.

    Where the tokeniser is another one, pieces that both have keep their rows of the head. Where the lookahead is shorter, the
    last frame that is left stands for those after it; with none left, the frame itself does, in the norm before it. (The default
    model without its lookahead: 72 % word errors so, 100 % with the taps dropped; 12 utterances of dev-clean-a.) Where it is
    longer, the frames more weigh nothing at first; blocks more add nothing at first (Chen et al. 2016, Net2Net)."""
    old, _, had = export.read(folder)
    state, mine = old.export_state(), net.export_state()
    place = {p: i for i, p in enumerate(had)}
    w, b = mine["ctc_head.weight"] * 0.3, mine["ctc_head.bias"] + state["ctc_head.bias"][1:].min()
    if w.shape[1] == state["ctc_head.weight"].shape[1]:
        for i, p in enumerate(["<blank>"] + tokens.pieces()):
            if p in place:
                w[i], b[i] = state["ctc_head.weight"][place[p]], state["ctc_head.bias"][place[p]]
        state["ctc_head.weight"], state["ctc_head.bias"] = w, b
    if net.look < old.look:
        taps = state["stem.lookahead.weight"]
        if net.look:
            rest = taps[..., net.look:].sum(-1, keepdim=True)
            state["stem.lookahead.weight"] = torch.cat([taps[..., :net.look], rest], -1)
        else:
            state["stem.norm.weight"] = state["stem.norm.weight"] * (1 + taps[:, 0].sum(-1))
    elif old.look:
        state["stem.lookahead.weight"] = F.pad(state["stem.lookahead.weight"], (0, net.look - old.look))
    if not only:
        for k in mine.keys() - state.keys():
            if k.endswith(("mixer.out_proj.weight", "mlp.fc2.weight")):
                mine[k].zero_()
    fits = {k: v for k, v in state.items() if k in mine and v.shape == mine[k].shape and (not only or k.startswith(tuple(only)))}
    net.load_export({**mine, **fits, "features.mean": state["features.mean"], "features.inv_std": state["features.inv_std"]})
    return [k for k in net.names if k not in fits and not k.startswith("inter.")]


def stream_step_ms(net, streams, captured, frames=8):
    """Milliseconds that the blocks take on the GPU to move so many streams on by so many frames, in plain PyTorch, state in and
    out; captured: as one CUDA graph."""
    x = torch.randn(streams, frames, net.d, device=net.mean.device)
    h, carry = net.state(streams), torch.ones(streams, device=x.device)

    def blocks():
        y = x
        for i in range(net.layers):
            y = net.block(i, y, None, h, carry, h)
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            blocks()
        torch.cuda.current_stream().wait_stream(side)
        if not captured:
            return mean_ms(blocks, 20)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            blocks()
        return mean_ms(graph.replay, 20)


def mean_ms(call, times):
    ev = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    call()
    ev[0].record()
    for _ in range(times):
        call()
    ev[1].record()
    torch.cuda.synchronize()
    return ev[0].elapsed_time(ev[1]) / times


class Step:
    """Forward, losses and backward on buffers that stay where they are; on the GPU, one graph."""

    def __init__(self, net, flat, cfg, views, compiled, teacher=None, width=0):
        """width: of what a listener makes of a frame."""
        dev = flat.w.device
        R, self.views = cfg["rows"] * views, views
        T = 4 * cfg["frames"] + 3
        self.net, self.flat, self.cfg = net, flat, cfg
        low = torch.bfloat16 if dev.type == "cuda" else torch.float32
        net.low = low
        self.f = torch.randn(R, T, 80, device=dev).to(low)
        self.labels = torch.zeros(R, cfg["labels"], dtype=torch.int32, device=dev)
        self.lens = torch.zeros(R, dtype=torch.int32, device=dev)
        self.keep = torch.ones(net.layers, 2, R, device=dev)
        self.carry = torch.zeros(R, device=dev)
        self.h = net.state(R)
        self.h_end = torch.zeros_like(self.h)
        self.stats = torch.zeros(4, device=dev)
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.consistency, self.peak_first, self.imitation, self.heard = map(wrap, (losses.consistency, losses.peak_first, losses.imitation, losses.heard))
        self.told = torch.zeros(cfg["rows"], cfg["frames"], width, device=dev) if width else None
        self.teacher = teacher
        if teacher is not None:
            teacher.low = low
            self.taught = torch.zeros((), device=dev)      # the weight of what the teacher says
            self.said = torch.zeros(R, net.frames(net.samples(cfg["frames"])), net.p("ctc_head.bias").numel(), device=dev)
        self.graph = None

    @torch.no_grad()
    def ask(self, weight):
        """What the teacher says about the batch that is in place, to weigh so much. Outside the graph: it ends with the lesson."""
        self.taught.fill_(weight)
        if weight > 0:
            self.said.copy_(self.teacher(self.f)[0].float().log_softmax(-1))

    def compute(self):
        c = self.cfg
        self.flat.g.zero_()
        streams = None if self.told is None else []
        logits, inter = self.net(self.f, self.keep, self.h, self.carry, self.h_end, streams)
        n = self.lens.sum().clamp(min=1).float()
        main = losses.ctc(logits, self.labels, self.lens).sum() / n
        side = sum(losses.ctc(z, self.labels, self.lens).sum() for z in inter) / n if inter else torch.zeros_like(main)
        loss = main + c["inter_weight"] * side
        same = self.consistency(logits) / n if self.views == 2 else torch.zeros_like(main)
        if self.views == 2:
            loss = loss + c["consistency"] * same
        if c["early"]:
            loss = loss + c["early"] * self.peak_first(logits) / n
        if self.teacher is not None:
            loss = loss + self.taught * self.imitation(logits, self.said) / n
        missed = torch.zeros_like(main)
        if self.told is not None:
            late = c["listen_late"]
            foretold = self.net.foretell(streams[1 + c["listen_after"]])
            missed = self.heard(foretold[:, late:], self.told[:, :self.told.shape[1] - late].repeat(self.views, 1, 1)) / n
            loss = loss + c["listen"] * missed
        loss.backward()
        with torch.no_grad():
            self.h.copy_(self.h_end)
            self.stats.copy_(torch.stack([torch.as_tensor(x).detach().float() for x in (main, side, same, missed)]))

    def capture(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.compute()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):   # NCCL's watchdog may ask about its events
            self.compute()
        self.h.zero_()

    def __call__(self):
        self.graph.replay() if self.graph is not None else self.compute()


class Feed:
    """Batches, made one ahead on a stream of their own."""

    def __init__(self, rows, aug, dev, listener=None, frames=0):
        """listener: a Whisper, to hear so many frames of each row."""
        self.rows, self.aug, self.dev, self.listener, self.frames = rows, aug, dev, listener, frames
        self.side = torch.cuda.Stream(priority=0) if dev.type == "cuda" else None
        self.next = None

    def make(self):
        src, ints, fl, labels, lens, active = next(self.rows)
        self.hours = float(active.sum()) / 57.6e6
        up = lambda x: torch.from_numpy(x).pin_memory().to(self.dev, non_blocking=True) if self.side else torch.from_numpy(x)
        x = self.aug.mixed(up(src), up(ints), up(fl))
        told = [self.listener.frames(x, self.frames)] if self.listener else []
        v = self.aug.views
        return self.aug(x, up(active)), up(labels).repeat(v, 1), up(lens).repeat(v), *told

    def prefetch(self):
        if self.side is None:
            self.next = self.make()
            return
        with torch.cuda.stream(self.side):
            self.next = self.make()
            self.ready = self.side.record_event()

    def take(self, step):
        """Put the batch where the step reads it, and begin the one after."""
        if self.next is None:
            self.prefetch()
        if self.side is not None:
            torch.cuda.current_stream().wait_event(self.ready)
        f, labels, lens, *told = self.next
        step.f.copy_(f)
        step.labels.copy_(labels)
        step.lens.copy_(lens)
        for t in told:
            step.told.copy_(t)
        if self.side is not None:
            for t in self.next:
                t.record_stream(torch.cuda.current_stream())
            self.side.wait_stream(torch.cuda.current_stream())   # at most one ahead
        hours = self.hours
        self.prefetch()
        return hours


def read_config(path):
    """A config, over the one that its `base` names, if any."""
    with open(path, "rb") as f:
        conf = tomllib.load(f)
    base = conf.pop("base", None)
    if base is None:
        return conf
    below = read_config(os.path.join(os.path.dirname(path), base))
    return {k: {**below.get(k, {}), **conf.get(k, {})} for k in {**below, **conf}}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("config")
    ap.add_argument("--speech", required=True)
    ap.add_argument("--synthetic", default="")
    ap.add_argument("--more", default="", help="a folder in which folders like --synthetic's appear while the run goes on, each whole once "
                    "it holds a file `ready`; with {rank} likewise")
    ap.add_argument("--more-hours", type=float, default=500, help="of --more, at most: the room that is kept for it")
    ap.add_argument("--dev", nargs="*", default=[])
    ap.add_argument("--tokens", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--minutes", type=float, required=True)
    ap.add_argument("--deadline", type=float, default=0, help="end by this time (seconds since 1970), whatever --minutes says")
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--init", default="", help="start from exported weights: those that fit")
    ap.add_argument("--init-only", nargs="*", default=[], metavar="PREFIX", help="take only these of --init's")
    ap.add_argument("--teacher", default="", help="an export whose posteriors are learnt too in the first part (train.teach) of the run")
    ap.add_argument("--listener", default="", help="Whisper's encoder (python whisper.py): what it makes of each frame is learnt too")
    ap.add_argument("--report", default="", help="write parameters, step times, state bytes and word errors here (JSON)")
    ap.add_argument("--resume", default="")
    ap.add_argument("--wait-for", default="", help="get ready (compile, capture), then wait until this file exists")
    ap.add_argument("--set", nargs="*", default=[], help="train.KEY=VALUE, model.KEY=VALUE or sets.KEY=VALUE, in JSON, over the config's")
    ap.add_argument("--eager", action="store_true", help="neither compile nor capture")
    ap.add_argument("--profile", action="store_true", help="where the step's time goes, kernel by kernel")
    ap.add_argument("--noise", default="", help="a folder of recorded noise and music (Opus, FLAC, WAV; 16 kHz) to be heard beside the "
                    "noise that is made; it need not be there")
    ap.add_argument("--noise-clips", type=int, default=192, help="of 20 s each, to be made")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--save-every", type=float, default=120, help="seconds between checkpoints")
    ap.add_argument("--keep", type=int, default=0, help="so many exports of the run's parts stay, as OUT/export-N, for average.py")
    a = ap.parse_args()
    if a.more and not a.synthetic:
        raise SystemExit("--more adds to --synthetic: name its folder (it may be empty but for an empty w0.pcm and w0.tsv)")
    conf = read_config(a.config)
    for kv in a.set:
        k, v = kv.split("=", 1)
        sec, key = k.split(".", 1)
        if sec not in conf or sec != "model" and key not in conf[sec]:   # the model's options are its block's, checked there
            raise SystemExit(f"--set {kv}: {a.config} and its bases know no {k}")
        conf[sec][key] = json.loads(v)
    cfg, mod = conf["train"], conf["model"]
    views = cfg["views"]
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    cuda = torch.cuda.is_available()
    dev = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(dev)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cuda.enable_cudnn_sdp(False)        # the transformer's attention: one implementation, which can be captured
    control = None
    if world > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
        control = dist.new_group(backend="gloo")
    T0 = time.time()
    out = lambda *x: print(f"{time.time() - T0:6.1f}s", *x, flush=True) if rank == 0 else None
    os.makedirs(a.out, exist_ok=True)
    torch.manual_seed(a.seed)                              # the same weights everywhere
    tokens = Tokens(a.tokens)
    listener = Whisper(a.listener, dev, torch.bfloat16 if cuda else torch.float32) if a.listener else None
    width = listener.width if listener else 0
    if listener and not 0 <= cfg["listen_after"] < mod["layers"]:
        raise SystemExit(f"train.listen_after is {cfg['listen_after']}: it must be a block, 0 to {mod['layers'] - 1}")
    if listener and Encoder.samples(cfg["frames"]) > SECONDS * RATE:
        raise SystemExit(f"train.frames is {cfg['frames']}: --listener hears {SECONDS} s at once, and no more")
    net = Encoder(tokens.size, drop=cfg["drop"], listener=width, **mod)
    if a.init:
        new = start_from(net, a.init, tokens, a.init_only)
        out(f"from {a.init}: all but {len(new)} parameters" + (f" ({new[0]}, ...)" if new else ""))
    teacher = None
    if a.teacher:
        teacher, _, pieces = export.read(a.teacher)
        if cfg["teach"] <= 0:
            raise SystemExit("--teacher without train.teach, the part of the run that it teaches: say --set train.teach=0.25")
        if pieces[1:] != tokens.pieces() or teacher.look != net.look:
            raise SystemExit(f"--teacher {a.teacher}: its pieces and lookahead must be those of the model that learns "
                             f"({len(pieces)} pieces, lookahead {teacher.look}; here {tokens.size}, {net.look})")
        net.mean.copy_(teacher.mean)
        net.inv_std.copy_(teacher.inv_std)
        teacher.to(dev)
    net.to(dev)
    flat = Flat(net, cfg)
    if a.resume:
        state = flat.load(a.resume)
        net.mean.copy_(torch.tensor(state["mean"]))
        net.inv_std.copy_(torch.tensor(state["inv_std"]))
    if world > 1:
        for t in (flat.w, flat.ema):
            dist.broadcast(t, 0)
        if cuda:
            torch.cuda.synchronize()
    out(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters, {tokens.size} tokens, {world} x {dev}")
    net.train()
    step = Step(net, flat, cfg, views, cuda and not a.eager, teacher, width)
    report = {"config": os.path.basename(a.config), "set": a.set, "block": mod.get("block", "mamba"), "lookahead_ms": 40 * mod["look"],
              "parameters": sum(net.p(n).numel() for n in net.names if not n.startswith("inter.")),
              "state_bytes": net.state_bytes(), "graph": cfg["graph"], "frames_a_step": cfg["rows"] * views * cfg["frames"],
              "minutes": a.minutes, "wer": {}}
    if cuda and not a.eager:
        net.compiled()
        if cfg["graph"]:
            step.capture()
            out("compiled and captured")
        else:
            for _ in range(3):
                step()
        report["step_ms"] = mean_ms(step, 5)              # forward, losses, backward: nothing else
        out(f"the step alone: {report['step_ms']:.1f} ms, {torch.cuda.max_memory_allocated() >> 20} MiB")
        if a.profile and rank == 0:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as prof:
                for _ in range(3):
                    step()
                torch.cuda.synchronize()
            print(prof.key_averages().table(sort_by="cuda_time_total", row_limit=45, max_name_column_width=90))
        if world > 1:                                      # the first exchange sets up its connections: now, not later
            for i in range(2):
                now = time.time()
                dist.all_reduce(flat.g)
                torch.cuda.synchronize()
            out(f"one exchange of gradients: {1000 * (time.time() - now):.2f} ms")
        step.h.zero_()
    probe = Encoder(tokens.size, **{**mod, "inter": []}).to(dev).eval() if rank == 0 else None
    if probe:
        probe.low = net.low
    while a.wait_for and not os.path.exists(a.wait_for):
        time.sleep(0.2)

    sets = find_sets(a.speech, {n: s for n, s in conf["sets"].items() if n != "synthetic"})
    if a.synthetic:
        sets.append(("synthetic", a.synthetic.format(rank=rank), conf["sets"]["synthetic"]))
    pool = Pool(sets, tokens, dev, synthetic=("synthetic", "flite"), spare=a.more_hours if a.more else 0)
    out("speech:", pool.summary())
    out(f"{sum(w is not None for w in pool.words)} utterances can be put together anew, {cfg['anew']:.0%} of the time")
    devs = [(os.path.basename(d.rstrip("/")), load(d)) for d in a.dev] if rank == 0 else []
    rows = Rows(pool, cfg["rows"], cfg["frames"], cfg["labels"], seed=a.seed * 1000 + rank, anew=cfg["anew"])
    torch.manual_seed(a.seed * 1000 + rank)
    np.random.seed(rank)
    found = sorted(glob.glob(os.path.join(glob.escape(a.noise), "*"))) if a.noise else []
    recorded = decode_all([p for p in found if p.endswith((".opus", ".flac", ".wav"))])
    out(f"recorded noise: {sum(map(len, recorded)) / 960000:.1f} min; without: {cfg['without'] or 'nothing'}")
    aug = Augment(pool.samples, net.mean, net.inv_std, rows.samples, dev, views, a.noise_clips, masks=cfg["masks"],
                  without=cfg["without"], recorded=recorded)

    def planned():
        """The next rows as they are."""
        return aug.mixed(*(torch.from_numpy(x).to(dev) for x in rows.plan()[:3]))

    def agree(*tensors):
        """All processes' mean, in place."""
        for t in tensors if world > 1 else ():
            dist.all_reduce(t)
            t /= world

    if not a.resume and not a.init and not a.teacher:
        x = torch.cat([log_mel(planned(), aug.bank).reshape(-1, 80).double() for _ in range(3)])
        x = x[x.mean(-1) > -12.5]                          # digital silence says nothing about speech
        m, s = x.mean(0), 1 / x.std(0)
        agree(m, s)
        net.mean.copy_(m)
        net.inv_std.copy_(s)
    if listener:
        listener.standardise(torch.cat([planned() for _ in range(2)]), cfg["frames"])
        agree(listener.mean, listener.inv_std)
    if a.more:
        More(a.more.format(rank=rank), len(sets) - 1, pool, rows, out)
    if cuda:
        rows.start()
    feed = Feed(rows, aug, dev, listener, cfg["frames"])
    depth = torch.linspace(0, cfg["depth"], mod["layers"], device=dev)[:, None, None].expand(-1, 2, cfg["rows"] * views)

    def evaluate(limit=None, weights=None):
        probe.load_export({k: v for k, v in flat.averaged(net, weights).items()})
        res = {}
        for name, utts in devs:
            part = utts[:: max(1, len(utts) // limit)][:limit] if limit else utts
            w, refs, hyps = score(probe, part, ["<blank>"] + tokens.pieces(), dev)
            res[name] = round(w, 2)
            for i in range(0, len(refs), max(1, len(refs) // 3)):
                out("   said", refs[i])
                out("   read", hyps[i])
        return res

    def write_export(name, weights=None):
        if rank == 0:
            export.write(os.path.join(a.out, name), flat.averaged(net, weights), tokens.pieces(), mod)

    def save():
        if rank == 0:
            flat.save(os.path.join(a.out, "last"), {"mean": net.mean.tolist(), "inv_std": net.inv_std.tolist()})
        write_export("export")
        if flat.means:
            write_export("export-mean", flat.mean)

    start = time.time()
    limit = a.minutes * 60
    if a.deadline:
        limit = min(limit, a.deadline - start)
    frac, speed, mark, saved, hours, kept = 0.0, 0.0, (start, 0), start, 0.0, 0
    todo = sorted(cfg["evaluate"])
    n, run, losses_seen = 0, [], []
    out(f"training for {limit:.0f} s")
    while n < a.steps:
        if n % 20 == 0:                                    # one clock for all, and no wait for the GPU
            now = time.time()
            t = torch.tensor([(now - start) / limit], dtype=torch.float64)
            if world > 1:
                dist.broadcast(t, 0, group=control)
            frac = max(float(t), n / a.steps)
            while kept < a.keep and frac >= (kept + 1) / (a.keep + 1):
                kept += 1
                write_export(f"export-{kept}")
            if frac >= 1.0:
                break
            if frac >= cfg["mean"]:
                flat.remember()
            if todo and frac > todo[0]:
                todo.pop(0)
                if rank == 0 and devs:
                    report["wer"][f"{frac:.2f}"] = evaluate(200)
                    out(f"part {frac:.2f} WER {report['wer'][f'{frac:.2f}']}")
        hours += feed.take(step) * world
        with torch.no_grad():
            step.keep.copy_((torch.rand_like(step.keep) >= depth) / (1 - depth))
            step.carry.copy_((torch.rand_like(step.carry) < cfg["carry"]).float())
            if teacher is not None:
                step.ask(max(0.0, 1.0 - frac / cfg["teach"]))
        step()
        if world > 1:
            dist.all_reduce(flat.g)
            flat.g /= world
        lr = cfg["lr"] * min(1.0, (n + 1) / cfg["warm"]) * ((1 - cfg["floor"]) * 0.5 * (1 + math.cos(math.pi * min(frac, 1.0))) + cfg["floor"])
        norm = flat.update(lr)
        run.append(torch.cat([step.stats, norm[None]]))
        n += 1
        if n % 50 == 0 or n == a.steps:
            s = torch.stack(run).mean(0).tolist()
            now = time.time()
            out(f"step {n} part {frac:.3f} ctc {s[0]:.3f} inter {s[1]:.3f} cr {s[2]:.3f} heard {s[3]:.3f} norm {s[4]:.2f} lr {lr:.2e} "
                f"{1000 * (now - mark[0]) / (n - mark[1]):.1f} ms/step {hours:.0f} h of speech")
            losses_seen.append([n, round(frac, 4), round(s[0], 4)])
            run, mark = [], (now, n)
            if now - saved > a.save_every:
                save()
                saved = time.time()
    took = time.time() - start
    save()
    if rank == 0:
        out(f"{n} steps in {took:.0f} s, {hours:.0f} h of speech heard ({hours / max(took, 1):.2f} h a second)")
        if devs:
            report["wer"]["1.00"] = evaluate()
            out("final WER", report["wer"]["1.00"])
            if flat.means:
                report["wer"]["mean"] = evaluate(weights=flat.mean)
                out("WER of the mean", report["wer"]["mean"])
        if a.report:
            report.update(gpus=world, steps=n, seconds=round(took, 1), hours_heard=round(hours, 1), loss=losses_seen, stream_step_ms={})
            for streams in (0, 64, 1024) if cuda else (0,):    # what was trained is written before anything else is tried
                if streams:
                    report["stream_step_ms"][str(streams)] = stream_step_ms(probe, streams, cfg["graph"])
                with open(a.report, "w") as f:
                    json.dump(report, f, indent=1)
    if world > 1:
        dist.barrier(group=control)
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
