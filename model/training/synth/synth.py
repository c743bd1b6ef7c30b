"""Batched Kokoro synthesis: jobs (see passages.py) -> 16 kHz int16 speech, in the form that training reads.

    python synth/synth.py JOBS.tsv OUT --model kokoro.onnx --vocab vocab.json --voices voices.npz [--workers 3] [--shard 0/4] [--minutes 4]

A job is a line: id, phonemes, voices ("af_nova:0.49+jm_kumo:0.51"), speed, TEXT, tab separated. OUT holds w{i}.pcm and w{i}.tsv (id,
first sample, samples, TEXT, voices, where each word ends in samples from the first, by commas, or nothing where phonemes and TEXT differ in
words), one pair a worker. kokoro.onnx is the int8 file, float32 too. It stops when its minutes are over.
"""

import argparse
import os
import sys
import time
import json
import random
import traceback
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)


def last_sounds(tokens, words, voc):
    """The place among the tokens of each word's last sound; [] if the phonemes make another number of words."""
    silent = {voc[c] for c in ';:,.!?—…"()“”' if c in voc}
    last, ends = None, []
    for i, t in enumerate(tokens + [voc[" "]]):
        if t == voc[" "]:
            if last is not None:
                ends.append(last)
            last = None
        elif t not in silent:
            last = i
    return ends if len(ends) == words else []


def parse(a, voc):
    out = []
    bad = 0
    si, sn = map(int, a.shard.split("/"))
    for k, l in enumerate(open(a.jobs, encoding="utf-8", errors="replace")):
        if k % sn != si:
            continue
        try:
            i, ph, vs, sp, tx = l.rstrip("\n").split("\t")[:5]
            vs = vs.replace("+", ",")
            t = [voc[c] for c in ph if c in voc]
            assert 2 < len(t) <= 508  # all that the model takes at once: what is longer would lose its end, but not its words
            v = [(x.split(":")[0], float(x.split(":")[1]) if ":" in x else 1.0) for x in vs.split(",")]
            sp = float(sp)
            assert 0.3 < sp < 3
            ends = [k + 1 for k in last_sounds(t, len(tx.split()), voc)]
            out.append((i, [0] + t + [0], v, sp, tx.replace("\t", " "), vs, ends))
        except Exception:
            bad += 1
    return out, bad


def worker(w, a, jobs, model, end, done, secs, fail):
    import torch

    torch.set_num_threads(a.threads)
    if a.device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = a.benchmark
        torch.cuda.set_device(w % torch.cuda.device_count())
    import kokoro

    k = kokoro.K(model, a.device, getattr(torch, a.dtype), False if a.no_triton else None)
    t0 = time.time()
    k.noise = a.noise
    k.vary = a.vary
    V = np.load(a.voices)
    names = {n: i for i, n in enumerate(V["names"])}
    vo = V["voices"]
    pcm = open(f"{a.outdir}/w{w}.pcm", "wb")
    tsv = open(f"{a.outdir}/w{w}.tsv", "w")
    pos = 0
    rng = random.Random(w)
    Q = {}
    errs = 0
    if k.tri and a.device == "cuda":  # self-check of the Triton kernel against torch
        x = torch.randn(2, 256, 3000, device="cuda")
        ln = torch.tensor([3000, 1777], device="cuda")
        gb = [torch.randn(2, m.shape[1], device="cuda") * 0.3 for m in k.SW]
        nm = "G.resblocks.0.adain1.0"
        al = "G.resblocks.0.alpha1.0"
        try:
            y = k.adain(nm, x, gb, ln, al=al)
            y2 = k.adain(nm, x, gb, ln, 0.2)
            k.tri = False
            e = max(
                (y - k.adain(nm, x, gb, ln, al=al)).abs().max().item(), (y2 - k.adain(nm, x, gb, ln, 0.2)).abs().max().item()
            )
            k.tri = e < 1e-2
        except Exception as ex:
            e = repr(ex)[:300]
            k.tri = False
        if w == 0:
            print("triton check max diff", e, "-> triton", k.tri, flush=True)

    def sty(v, n):
        return sum(wt * vo[names[x]][min(n, 509)].astype(np.float32) for x, wt in v)

    F = [16]
    while F[-1] < 6000:
        F.append(int(-(-F[-1] * a.ratio // 8) * 8))

    def back(b, q):
        nonlocal pos
        B = max(1, a.frames // b)
        real = len(q)
        q = q + [q[-1]] * (B - real) if a.device == "cuda" else q
        pad = torch.nn.utils.rnn.pad_sequence
        st = (pad([x[2] for x in q], True), pad([x[3] for x in q], True), [torch.stack([x[4][h] for x in q]) for h in (0, 1)])
        du = pad([x[1] for x in q], True)
        y, n = k.back(du, st, list(range(len(q))), b)
        y = k.to16k(y.float())[:real]
        pk = y.abs().amax(1, keepdim=True)
        y = torch.nan_to_num(y * (0.98 / pk.clamp(min=0.98)))
        y = (y * 32767).to(torch.int16).cpu().numpy()
        for j in range(real):
            z = y[j, : n[j] * 2 // 3]
            e = np.abs(z[: len(z) // 160 * 160].astype(np.int32)).reshape(-1, 160).max(1)
            on = np.nonzero(e > max(60, e.max() * 0.01))[0]
            if len(on) < 10 or e.max() < 300:
                fail.value += 1
                continue
            s = max(0, on[0] * 160 - int(16000 * rng.uniform(0.1, 0.3)))
            z = z[s : min(len(z), (on[-1] + 1) * 160 + int(16000 * rng.uniform(0.1, 0.3)))]
            z.tofile(pcm)
            i, _, _, _, tx, vs, ends = q[j][0]
            upto = q[j][1].cumsum(0)  # frames of 25 ms, 400 samples here
            ends = ",".join(str(min(len(z), max(0, int(upto[k]) * 400 - s))) for k in ends)
            tsv.write(f"{i}\t{pos}\t{len(z)}\t{tx}\t{vs}\t{ends}\n")
            pos += len(z)
            secs[w] += len(z) / 16000
            done[w] += 1
        pcm.flush()
        tsv.flush()

    def safe(f, *x):
        nonlocal errs
        try:
            f(*x)
        except Exception:
            errs += 1
            fail.value += 1
            if errs < 4:
                traceback.print_exc()
            if a.device == "cuda":
                torch.cuda.empty_cache()

    def front(js):
        ok = []
        for j in js:
            try:
                ok.append((j, sty(j[2], len(j[1]) - 2)))
            except Exception:
                fail.value += 1
        if not ok:
            return
        ok.sort(key=lambda x: -len(x[0][1]))
        du, (d, t, gb) = k.front(
            [x[0][1] for x in ok], torch.from_numpy(np.stack([x[1] for x in ok])), torch.tensor([x[0][3] for x in ok])
        )
        for r, (j, _) in enumerate(ok):
            L = len(j[1])
            f = int(du[r].sum())
            b = next((x for x in F if x >= f), None)
            if b is None:
                fail.value += 1
                continue
            q = Q.setdefault(b, [])
            q.append((j, du[r, :L], d[r, :L].clone(), t[r, :L].clone(), (gb[0][r].clone(), gb[1][r].clone())))
            if len(q) >= max(1, a.frames // b):
                Q[b] = []
                safe(back, b, q)
            if time.time() > end:
                return

    for js in jobs:
        if time.time() > end:
            break
        safe(front, js)
    for b, q in sorted(Q.items(), key=lambda x: -len(x[1]) * x[0]):
        if q and time.time() < end:
            safe(back, b, q)
    pcm.close()
    tsv.close()


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    A = p.add_argument
    A("jobs")
    A("outdir")
    A("--workers", type=int, default=3)
    A("--shard", default="0/1")
    A("--minutes", type=float, default=8)
    A("--model", default="kokoro-v1.0.int8.onnx.xz")
    A("--vocab", default="")
    A("--voices", default="voices.npz")
    A("--dtype", default="float16")
    A("--device", default="cuda")
    A("--frames", type=int, default=8000, help="padded frames (40/s) in a decoder batch")
    A("--fb", type=int, default=96, help="utterances in a front batch")
    A("--ratio", type=float, default=1.15)
    A("--noise", type=float, default=0.0, help="1 = source noise as in the original PyTorch model")
    A("--vary", type=float, default=0.0, help="how much durations, melody and care of articulation vary (vary.py); 2 is a lot")
    A("--benchmark", action="store_true")
    A("--no-triton", action="store_true")
    A("--threads", type=int, default=2)
    A("--every", type=float, default=20)
    a = p.parse_args()
    t0 = time.time()
    end = t0 + a.minutes * 60
    import onnx
    import weights
    import multiprocessing as mp

    os.makedirs(a.outdir, exist_ok=True)
    voc = json.load(open(a.vocab or os.path.join(os.path.dirname(a.model), "vocab.json")))
    voc = voc.get("vocab", voc)
    jobs, bad = parse(a, voc)
    jobs.sort(key=lambda j: len(j[1]) / j[3])
    ch = [jobs[i : i + a.fb] for i in range(0, len(jobs), a.fb)]
    random.Random(1).shuffle(ch)
    f32 = os.path.join(a.outdir, "model_f32.onnx")
    onnx.save(weights.load(a.model), f32)
    print(f"{len(jobs)} jobs, {bad} bad lines, {len(ch)} chunks, model ready {time.time()-t0:.1f}s", flush=True)
    c = mp.get_context("spawn")
    done = c.Array("i", a.workers)
    secs = c.Array("d", a.workers)
    fail = c.Value("i", 0)
    P = [c.Process(target=worker, args=(w, a, ch[w :: a.workers], f32, end, done, secs, fail)) for w in range(a.workers)]
    [x.start() for x in P]
    nxt = time.time() + a.every
    ps, pt = 0.0, time.time()
    rep = lambda: print(
        f"{time.time()-t0:.0f}s utts {sum(done[:])} fail {fail.value} audio {sum(secs[:])/3600:.3f} h  x{(sum(secs[:])-ps)/max(1e-6,time.time()-pt):.0f} real time now, x{sum(secs[:])/(time.time()-t0):.0f} overall",
        flush=True,
    )
    while any(x.is_alive() for x in P):
        time.sleep(0.2)
        if time.time() > nxt:
            rep()
            ps, pt = sum(secs[:]), time.time()
            nxt = time.time() + a.every
        if time.time() > end + 45:
            for x in P:
                x.is_alive() and x.terminate()
    rep()
    os.remove(f32)
