"""Word errors of an exported model, best path, no language model.

    python evaluate.py EXPORT_DIR SET ... [--streams] [--limit N] [--show N]

Each utterance is read by itself, half a second of silence after it, as the daemon does at a stream's end. --streams also reads
them joined into streams of many minutes with a state that is never reset, after two seconds of silence, and reads noise and
silence, which should give no words. (That chunked reading equals this one bit for bit is the engine's own test.)
"""
import argparse
import os

import numpy as np
import torch

import export
from data import read_set
from features import log_mel, mel_bank
from network import Encoder
from text import best_path, wer


def load(folder, limit=None):
    """-> [(samples int16, TEXT, speaker)]"""
    parts, rows = read_set(folder)
    flat = np.concatenate(parts)
    step = max(1, len(rows) // limit) if limit else 1
    return [(flat[a:a + n], " ".join(t.upper().split()), s) for a, n, t, s in rows[::step][:limit]]


@torch.no_grad()
def transcribe(net, waves, pieces, device, seconds=1600.0):
    """waves: int16 arrays -> texts. Batches of so many seconds, padded, like with like."""
    out = [""] * len(waves)
    order = sorted(range(len(waves)), key=lambda i: -len(waves[i]))
    bank = mel_bank().float().to(device)
    at = 0
    while at < len(order):
        longest = len(waves[order[at]]) + export.TAIL
        n = max(1, int(seconds * 16000 / longest))
        part = order[at:at + n]
        at += n
        x = torch.zeros(len(part), longest, dtype=torch.int16)
        for j, i in enumerate(part):
            x[j, :len(waves[i])] = torch.from_numpy(waves[i])
        f = net.normalise(log_mel(x.to(device).float() / 32768, bank))
        best = net(f)[0].argmax(-1).cpu().numpy()
        for j, i in enumerate(part):
            out[i] = export.words(best_path(best[j, :Encoder.frames(len(waves[i]) + export.TAIL)].tolist()), pieces)
    return out


def score(net, utts, pieces, device):
    refs = [t for _, t, _ in utts]
    hyps = transcribe(net, [w for w, _, _ in utts], pieces, device)
    return wer(refs, hyps), refs, hyps


def joined(utts, minutes, gap=0.25):
    """Utterances in their order, joined into streams of so many minutes."""
    streams, cur, text, n = [], [], [], 0
    for w, t, _ in utts:
        cur += [w, np.zeros(int(gap * 16000), np.int16)]
        text.append(t)
        n += len(w)
        if n > minutes * 960000:
            streams.append((np.concatenate(cur), " ".join(text), ""))
            cur, text, n = [], [], 0
    if cur:
        streams.append((np.concatenate(cur), " ".join(text), ""))
    return streams


def robustness(net, utts, pieces, device, minutes=(3, 30)):
    """-> {what: number}"""
    out = {"one by one": score(net, utts, pieces, device)[0]}
    lead = np.zeros(32000, np.int16)
    out["after 2 s of silence"] = score(net, [(np.concatenate([lead, w]), t, s) for w, t, s in utts], pieces, device)[0]
    for m in minutes:
        parts = joined(utts, m)
        r = [t for _, t, _ in parts]
        h = [transcribe(net, [w], pieces, device)[0] for w, _, _ in parts]
        out[f"joined, {m} min"] = wer(r, h)
    rng = np.random.default_rng(0)
    minute = 960000
    for name, x in (("digital silence", np.zeros(minute)), ("white noise -60 dBFS", rng.normal(0, 32.8, minute)),
                    ("white noise -30 dBFS", rng.normal(0, 1036, minute)),
                    ("hum 50 Hz", 1500 * np.sin(np.arange(minute) * 2 * np.pi * 50 / 16000) + rng.normal(0, 20, minute))):
        text = transcribe(net, [x.astype(np.int16)], pieces, device)[0]
        out[f"words a minute in {name}"] = len(text.split())
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("sets", nargs="+")
    ap.add_argument("--streams", action="store_true")
    ap.add_argument("--limit", type=int)
    ap.add_argument("--show", type=int, default=0)
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = ap.parse_args()
    net, _, pieces = export.read(a.model)
    net.to(a.device)
    for folder in a.sets:
        utts = load(folder, a.limit)
        w, refs, hyps = score(net, utts, pieces, a.device)
        print(f"{os.path.basename(folder.rstrip('/'))}: {len(utts)} utterances, WER {w:.2f} %", flush=True)
        for i in range(0, len(refs), max(1, len(refs) // max(1, a.show)))[:a.show] if a.show else []:
            print("  said", refs[i], "\n  read", hyps[i])
        if a.streams:
            for k, v in robustness(net, utts, pieces, a.device).items():
                print(f"  {k}: {v:.2f}", flush=True)


if __name__ == "__main__":
    main()
