"""Where the words of transcribed speech end: forced alignment by an exported model, for data.Rows to make new utterances of old words.

    python align.py EXPORT_DIR SET ... [--device cpu]

SET: a folder as prepare.py writes it. Its tables get (or change) their sixth column: where each word ends, in samples from the utterance's
first, by commas. A word's last end is the utterance's. Between two words the cut is where 25 ms of the recording are quietest, near the place
that the likeliest path of the model's CTC gives, moved by the model's "begin_shift" and "end_shift" (calibrate.py). Utterances that the
model hardly believes keep nothing there.
"""
import argparse
import json
import os

import numpy as np
import torch

import export
from data import RATE, samples_of, tables
from evaluate import batches
from network import Encoder
from text import Tokens

HOP = 640 / RATE                                           # seconds a frame
MIDDLE = (Encoder.samples(1) - 640) / 2 / RATE             # of a frame, less half a hop
BELIEF = -2.0                                              # mean log-probability of the path a token, at least
MARGIN = 0.02                                              # seconds about the gap between two words in which it is cut (of 0 to 0.16, the nearest to Kokoro's own)


def viterbi(log_probs, frames, tokens, blank=0):
    """The likeliest CTC path through each utterance's tokens (Graves et al. 2006, section 4.1).

    log_probs (utterances, frames, vocabulary) tensor; frames: how many of them each has; tokens: a list an utterance, not empty ->
    [(log-probability, [(first, last frame) of each token])]; -inf and [] where the frames are too few."""
    B, T, _ = log_probs.shape
    S = 2 * max(map(len, tokens)) + 1
    states = np.full((B, S), blank, np.int64)
    for b, t in enumerate(tokens):
        states[b, 1:2 * len(t):2] = t
    jump = np.zeros((B, S), bool)                          # a blank may be left out between two tokens that differ
    jump[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    states, jump = torch.from_numpy(states).to(log_probs.device), torch.from_numpy(jump).to(log_probs.device)
    ninf = torch.full((B, 2), -torch.inf, device=log_probs.device, dtype=log_probs.dtype)
    score = torch.full((B, S), -torch.inf, device=log_probs.device, dtype=log_probs.dtype)
    score[:, :2] = log_probs[:, 0].gather(1, states[:, :2])
    last = torch.as_tensor(np.asarray(frames) - 1, device=log_probs.device)
    final, back = score.clone(), []
    for t in range(1, T):
        two = torch.cat([ninf, score], 1)
        before = torch.stack([score, two[:, 1:-1], two[:, :-2].masked_fill(~jump, -torch.inf)])
        best, step = before.max(0)
        score = best + log_probs[:, t].gather(1, states)
        back.append(step.to(torch.uint8))
        final = torch.where((last == t)[:, None], score, final)
    back = torch.stack(back).cpu().numpy() if back else np.zeros((0, B, S), np.uint8)
    final, out = final.cpu().numpy(), []
    for b, said in enumerate(tokens):
        s = max((2 * len(said), 2 * len(said) - 1), key=lambda s: final[b, s])
        if not np.isfinite(final[b, s]):
            out.append((-np.inf, []))
            continue
        spans, total = [[0, -1] for _ in said], float(final[b, s])
        for t in range(frames[b] - 1, -1, -1):
            if s % 2:
                spans[s // 2] = [t, max(t, spans[s // 2][1])]
            s -= int(back[t - 1, b, s]) if t else 0
        out.append((total, [tuple(x) for x in spans]))
    return out


def quietest(samples, begin, end):
    """The middle, between begin and end, of the quietest 25 ms (all in samples)."""
    n = RATE // 40
    at = np.arange(max(0, begin - n // 2), max(begin, min(len(samples) - n, end - n // 2)) + 1, 32)
    power = np.cumsum(np.concatenate([[0.0], samples.astype(np.float64) ** 2]))
    at = at[at + n < len(power)]
    return int(at[np.argmin(power[at + n] - power[at])]) + n // 2 if len(at) else (begin + end) // 2


def word_ends(samples, words, spans, shifts):
    """words: how many tokens each has; spans: of the tokens; shifts: (begin, end), seconds -> ends, samples."""
    at = np.cumsum([0, *words])
    ends = []
    for i in range(1, len(words)):
        gap = sorted(((spans[at[i] - 1][1] + 1) * HOP + MIDDLE + shifts[1], spans[at[i]][0] * HOP + MIDDLE + shifts[0]))
        begin, end = ((x + d) * RATE for x, d in zip(gap, (-MARGIN, MARGIN)))
        least = ends[-1] + RATE // 50 if ends else RATE // 50
        ends.append(min(len(samples), max(least, quietest(samples, int(max(0, begin)), int(end)))))
    return [*ends, len(samples)]


def align(net, tokens, utterances, shifts, device):
    """utterances: [(int16 samples, TEXT)] -> for each the ends of its words in samples, or None."""
    said = [[tokens.encode(w) for w in text.split()] for _, text in utterances]
    some = [i for i, words in enumerate(said) if words]
    out = [None] * len(utterances)
    for part, logits, frames in batches(net, [np.array(utterances[i][0]) for i in some], device, seconds=400.0):
        part = [some[j] for j in part]
        for i, (belief, spans) in zip(part, viterbi(logits.float().log_softmax(-1), frames, [sum(said[i], []) for i in part])):
            if belief > BELIEF * len(spans):
                out[i] = word_ends(utterances[i][0], [len(w) for w in said[i]], spans, shifts)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("sets", nargs="+")
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = ap.parse_args()
    net, config, _ = export.read(a.model)
    net.to(a.device)
    if "words" not in config:
        raise SystemExit(f"align.py: {a.model}/config.json has no \"words\": calibrate.py writes it")
    shifts = config["words"]["begin_shift"], config["words"]["end_shift"]
    tokens = Tokens(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer.model"))
    for folder in a.sets:
        if not tables(folder):
            raise SystemExit(f"align.py: {folder}: no w*.tsv; prepare.py makes them")
        done = total = 0
        for table in tables(folder):
            pcm = samples_of(table)
            with open(table, encoding="utf-8") as f:
                rows = [line.rstrip("\n").split("\t")[:5] for line in f]
            ends = align(net, tokens, [(pcm[int(r[1]):int(r[1]) + int(r[2])], r[3]) for r in rows], shifts, a.device)
            with open(table + ".part", "w", encoding="utf-8") as f:
                f.writelines("\t".join([*r, ",".join(map(str, e or []))]) + "\n" for r, e in zip(rows, ends))
            os.replace(table + ".part", table)
            done, total = done + sum(e is not None for e in ends), total + len(rows)
        print(f"{os.path.basename(folder.rstrip('/'))}: {done} of {total} utterances aligned", flush=True)


if __name__ == "__main__":
    main()
