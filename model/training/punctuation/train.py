"""Train casing and punctuation.

    cd model/training; python -m punctuation.train punctuation/default.toml DATA --out RUN --minutes M [--resume RUN/last.pt]

DATA is what prepare.py wrote. The run ends when its minutes are over; the learning rate follows the clock. RUN/punctuation is
the folder that the daemon reads, RUN/last.pt can be resumed; both are written every minute and at the end, with RUN/scores.json:
for each source's held-out text the F1 of each mark and the accuracy of casing (counted over words; and over those that are not in
lower case).
"""
import argparse
import json
import math
import os
import shutil
import time
import tomllib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from punctuation.network import Punctuator
from punctuation.pieces import PAUSE, Pieces
from punctuation.rows import NOTHING, Rows, held_out
from punctuation.spoken import CASES, MARKS


def loss_of(logits, labels):
    """Mean cross entropy of casing and of marks over the decided words."""
    at = labels != NOTHING
    z, y = logits[at].float(), labels[at]
    return F.cross_entropy(z[:, :len(CASES)], y // len(MARKS)) + F.cross_entropy(z[:, len(CASES):], y % len(MARKS))


@torch.no_grad()
def score(net, pieces, labels):
    """-> {"words", "loss", "case", "case_of_capitals", "f1": {mark: ...}}"""
    logits = torch.cat([net(p)[0].float() for p in pieces.split(64)])
    at = labels != NOTHING
    z, y = logits[at], labels[at]
    case, mark = z[:, :len(CASES)].argmax(-1), z[:, len(CASES):].argmax(-1)
    true_case, true_mark = y // len(MARKS), y % len(MARKS)
    f1 = {}
    for k, name in enumerate(MARKS):
        hit = ((mark == k) & (true_mark == k)).sum().item()
        there, said = (true_mark == k).sum().item(), (mark == k).sum().item()
        if k and there >= 20:
            f1[name] = round(200 * hit / max(1, there + said), 1)
    capital = true_case > 0
    return {"words": len(y), "loss": round(loss_of(logits, labels).item(), 4),
            "case": round(100 * (case == true_case).float().mean().item(), 2),
            "case_of_capitals": round(100 * (case == true_case)[capital].float().mean().item(), 2), "f1": f1}


def export(folder, state, tokens, ahead):
    """The daemon's format, as the recogniser's (export.py): matrices float16; vectors and A_log float32."""
    os.makedirs(folder, exist_ok=True)
    out = {k: (v.half() if v.ndim > 1 and not k.endswith("A_log") else v.float()).contiguous() for k, v in state.items()}
    save_file(out, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    d = out["backbone.norm_f.weight"].shape[0]
    config = {"model_type": "streaming-mamba-punctuation", "d_model": d,
              "n_layer": sum(k.endswith("mixer.D") for k in out),
              "d_intermediate": out["backbone.layers.0.mlp.fc2.weight"].shape[1],
              "vocab_size": out["backbone.embeddings.weight"].shape[0], "norm_eps": 1e-5, "words_ahead": ahead,
              "cases": CASES, "marks": MARKS,
              "ssm_cfg": {"layer": "Mamba1", "d_state": 16, "d_conv": 4, "expand": 2, "dt_rank": -(-d // 16)}}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    shutil.copyfile(tokens, os.path.join(folder, "tokens.txt"))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("config")
    ap.add_argument("data")
    ap.add_argument("--out", required=True)
    ap.add_argument("--minutes", type=float, required=True)
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--resume", default="")
    ap.add_argument("--workers", type=int, default=6, help="processes that make rows; 0: none")
    ap.add_argument("--set", nargs="*", default=[], help="train.KEY=VALUE or model.KEY=VALUE, in JSON, over the config's")
    ap.add_argument("--save-every", type=float, default=60, help="seconds between checkpoints")
    a = ap.parse_args()
    with open(a.config, "rb") as f:
        conf = tomllib.load(f)
    for kv in a.set:
        k, v = kv.split("=", 1)
        section, key = k.split(".")
        conf[section][key] = json.loads(v)
    c, m = conf["train"], conf["model"]
    cuda = torch.cuda.is_available()
    dev = torch.device("cuda" if cuda else "cpu")
    os.makedirs(a.out, exist_ok=True)
    torch.manual_seed(0)
    begun = time.time()
    say = lambda *x: print(f"{time.time() - begun:6.1f}s", *x, flush=True)
    text, tokens = os.path.join(a.data, "text.npz"), os.path.join(a.data, "tokens.txt")
    size = len(Pieces.read(tokens))
    net = Punctuator(size, m["d"], m["layers"], c["drop"]).to(dev)
    mean = Punctuator(size, m["d"], m["layers"]).to(dev).eval()      # the weights' moving average
    mean.load_state_dict(net.state_dict())
    net.low = mean.low = torch.bfloat16 if cuda else torch.float32
    matrix = lambda k, p: p.ndim > 1 and not k.endswith("A_log") and "conv1d" not in k
    named = list(net.named_parameters())
    opt = torch.optim.AdamW([{"params": [p for k, p in named if matrix(k, p)], "weight_decay": c["decay"]},
                             {"params": [p for k, p in named if not matrix(k, p)], "weight_decay": 0.0}],
                            lr=c["lr"], betas=c["betas"], fused=cuda)
    n = 0
    if a.resume:
        kept = torch.load(a.resume, map_location=dev)
        net.load_state_dict(kept["net"])
        mean.load_state_dict(kept["mean"])
        opt.load_state_dict(kept["opt"])
        n = kept["step"]
    feed = iter(torch.utils.data.DataLoader(Rows(text, conf, seed=n), batch_size=None, num_workers=a.workers, pin_memory=cuda))
    with np.load(text) as f:
        arrays = dict(f)
    held = {name: tuple(t.to(dev) for t in held_out(arrays, conf, name, 200 if cuda else 12)) for name in conf["sources"]}
    say(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters, {size} pieces, {dev}")

    def save():
        scores = {name: score(mean, *x) for name, x in held.items()}
        for name, s in scores.items():
            say(f"   {name}: {s}")
        with open(os.path.join(a.out, "scores.json"), "w") as f:
            json.dump({"step": n, "held_out": scores}, f, indent=1)
        torch.save({"net": net.state_dict(), "mean": mean.state_dict(), "opt": opt.state_dict(), "step": n},
                   os.path.join(a.out, "last.pt"))
        export(os.path.join(a.out, "punctuation"), mean.export_state(), tokens, c["words_ahead"])

    start = saved = mark = time.time()
    limit, first, seen = 60 * a.minutes, n, []
    net.train()
    while n - first < a.steps:
        part = max((time.time() - start) / limit, (n - first) / a.steps)
        if part >= 1:
            break
        pieces, labels = (t.to(dev, non_blocking=True) for t in next(feed))
        lr = c["lr"] * min(1.0, (n - first + 1) / c["warm"]) * ((1 - c["floor"]) * 0.5 * (1 + math.cos(math.pi * part)) + c["floor"])
        for group in opt.param_groups:
            group["lr"] = lr
        loss = loss_of(net(pieces)[0], labels)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), c["clip"])
        opt.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.parameters()), list(net.parameters()), 1 - min(c["ema"], (n + 1) / (n + 10)))
        seen.append(loss.detach())
        n += 1
        if n % 100 == 0 or n - first == a.steps:
            now = time.time()
            say(f"step {n} part {part:.3f} loss {torch.stack(seen).mean().item():.4f} lr {lr:.2e} "
                f"{1000 * (now - mark) / len(seen):.1f} ms/step, {(pieces != PAUSE).sum().item() / 1e3:.0f} k pieces each")
            seen, mark = [], time.time()
            if now - saved > a.save_every:
                save()
                saved = mark = time.time()
    save()
    say(f"{n - first} steps in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
