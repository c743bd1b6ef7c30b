"""Word errors of an exported model, best path, no language model.

    python evaluate.py EXPORT_DIR SET ... [--streams] [--delays] [--limit N] [--show N]

Each utterance is read by itself, half a second of silence after it, as the daemon does at a stream's end. --streams also reads
them joined into streams of many minutes with a state that is never reset, after two seconds of silence, and reads noise and
silence, which should give no words. (That chunked reading equals this one bit for bit is the engine's own test.)

--delays: how long after its end a word comes out: the time of the last sample that the frame with its last piece needs, lookahead
included, less the word's end; for words read rightly. Where a set says when its words end (synthetic speech: the synthesiser's
own durations), all of them; elsewhere the last word of each utterance, against the last 10 ms within 25 dB of the loud parts. Not
against the alignment of the same model's CTC: that puts each word where the model brings it out, so it would always report the
lookahead.
"""
import argparse
import difflib
import os
from typing import NamedTuple

import numpy as np
import torch

import export
from data import read_set
from features import log_mel, mel_bank
from network import Encoder
from text import best_path, wer


class Utterance(NamedTuple):
    samples: np.ndarray                                    # int16
    text: str                                              # capitals
    speaker: str
    ends: list | None = None                               # of the words, in samples


def load(folder, limit=None):
    """-> [Utterance]"""
    parts, rows = read_set(folder)
    flat = np.concatenate(parts)
    step = max(1, len(rows) // limit) if limit else 1
    return [Utterance(flat[a:a + n], " ".join(t.upper().split()), s, e) for a, n, t, s, e in rows[::step][:limit]]


@torch.no_grad()
def batches(net, waves, device, seconds=1600.0):
    """waves: int16 arrays; batches of so many seconds, padded, like with like -> of each: which waves, their logits (waves, frames,
    vocabulary), how many frames each has."""
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
        yield part, net(f)[0], [Encoder.frames(len(waves[i]) + export.TAIL) for i in part]


def best_tokens(net, waves, device):
    """waves: int16 arrays -> the best token of every frame, a list a wave."""
    out = [[]] * len(waves)
    for part, logits, frames in batches(net, waves, device):
        best = logits.argmax(-1).cpu().numpy()
        for j, i in enumerate(part):
            out[i] = best[j, :frames[j]].tolist()
    return out


def texts(frames, pieces):
    """best_tokens -> texts"""
    return [export.words(best_path(f), pieces) for f in frames]


def transcribe(net, waves, pieces, device):
    """waves: int16 arrays -> texts."""
    return texts(best_tokens(net, waves, device), pieces)


def score(net, utts, pieces, device):
    refs = [u.text for u in utts]
    hyps = transcribe(net, [u.samples for u in utts], pieces, device)
    return wer(refs, hyps), refs, hyps


def words_out(frames, pieces):
    """The best token of every frame -> [(word, frame of its last piece)]"""
    out = []
    for j, k in enumerate(frames):
        if k and (j == 0 or k != frames[j - 1]):
            if pieces[k].startswith("\u2581") or not out:
                out.append(("", j))
            out[-1] = (out[-1][0] + pieces[k].lstrip("\u2581"), j)
    return [(w, j) for w, j in out if w]


def speech_end(samples):
    """The end, in samples, of the last 10 ms within 25 dB of the loud parts (95th percentile)."""
    x = samples[:len(samples) // 160 * 160].astype(np.float64).reshape(-1, 160)
    power = 10 * np.log10(x.var(1) + 1e-3)
    return 160 * (int(np.nonzero(power > np.percentile(power, 95) - 25)[0][-1]) + 1)


def delays(utts, frames, pieces, look):
    """frames: the utterances' best_tokens; look: the model's lookahead -> (seconds from each word's end until it is out, for words
    read rightly; how many words there were)"""
    found, total = [], 0
    for u, best in zip(utts, frames):
        said, out = u.text.split(), words_out(best, pieces)
        if not said:
            continue
        ends = list(u.ends or [None] * len(said))
        # The synthesiser counts the silence at the end to the last sound.
        ends[-1] = min(ends[-1] or len(u.samples), speech_end(u.samples))
        total += sum(e is not None for e in ends)
        for a, b, n in difflib.SequenceMatcher(None, said, [w for w, _ in out], autojunk=False).get_matching_blocks():
            for k in range(n):
                if ends[a + k] is not None:
                    found.append((Encoder.samples(out[b + k][1] + 1 + look) - ends[a + k]) / 16000)
    return found, total


def joined(utts, minutes, gap=0.25):
    """Utterances in their order, joined into streams of so many minutes."""
    streams, cur, text, n = [], [], [], 0
    for u in utts:
        cur += [u.samples, np.zeros(int(gap * 16000), np.int16)]
        text.append(u.text)
        n += len(u.samples)
        if n > minutes * 960000:
            streams.append(Utterance(np.concatenate(cur), " ".join(text), ""))
            cur, text, n = [], [], 0
    if cur:
        streams.append(Utterance(np.concatenate(cur), " ".join(text), ""))
    return streams


def robustness(net, utts, pieces, device, minutes=(3, 30)):
    """-> {what: number}"""
    out = {"one by one": score(net, utts, pieces, device)[0]}
    lead = np.zeros(32000, np.int16)
    out["after 2 s of silence"] = score(net, [u._replace(samples=np.concatenate([lead, u.samples])) for u in utts], pieces, device)[0]
    for m in minutes:
        parts = joined(utts, m)
        h = [transcribe(net, [u.samples], pieces, device)[0] for u in parts]
        out[f"joined, {m} min"] = wer([u.text for u in parts], h)
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
    ap.add_argument("--delays", action="store_true")
    ap.add_argument("--limit", type=int)
    ap.add_argument("--show", type=int, default=0)
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = ap.parse_args()
    net, _, pieces = export.read(a.model)
    net.to(a.device)
    for folder in a.sets:
        utts = load(folder, a.limit)
        frames = best_tokens(net, [u.samples for u in utts], a.device)
        refs, hyps = [u.text for u in utts], texts(frames, pieces)
        w = wer(refs, hyps)
        print(f"{os.path.basename(folder.rstrip('/'))}: {len(utts)} utterances, WER {w:.2f} %", flush=True)
        for i in range(0, len(refs), max(1, len(refs) // max(1, a.show)))[:a.show] if a.show else []:
            print("  said", refs[i], "\n  read", hyps[i])
        if a.delays:
            d, total = delays(utts, frames, pieces, net.look)
            print(f"  {len(d)} of {total} words read rightly", flush=True)
            if d:
                late, latest = np.percentile(1000 * np.array(d), [50, 99])
                print(f"  out after their end: median {late:.0f} ms, 99th percentile {latest:.0f} ms", flush=True)
        if a.streams:
            for k, v in robustness(net, utts, pieces, a.device).items():
                print(f"  {k}: {v:.2f}", flush=True)


if __name__ == "__main__":
    main()
