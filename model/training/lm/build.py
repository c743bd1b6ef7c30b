"""Build the decoder's language model: an n-gram over the recogniser's own pieces, from plain English text, as ARPA.

    python -m lm.build TEXT[:WEIGHT] ... --tokenizer tokenizer.model --out lm.arpa --avoid packs.tsv ... [--order 6]
                       [--least 1,1,1,2,2,2] [--check packs.tsv]

TEXT is a file of sentences (.xz too), or a packs.tsv, whose fifth column is taken. The sentences of one file follow each
other without a mark between them, as they do in a stream. A sentence that shares six words in a row with a file named by
--avoid (the development and test sets), or is one of their sentences, is dropped (synth/passages.py).

Interpolated, modified Kneser-Ney (Chen and Goodman 1998, section 3): below the highest order an n-gram counts the
different pieces before it. Several files are one model: each file's counts are discounted by its own discounts, times its
WEIGHT, and added up. --least drops n-grams whose weighted count is below its order's number; what they held goes to the
back-off, so every context's probabilities still add up to one.

--check prints the perplexity of another text, a word and a piece.
"""
import argparse
import math
import re

import numpy as np

from synth.passages import clean, opener, transcript
from text import Tokens

BITS = 9  # a piece's; seven of them fit into 64 bits


def avoided(paths):
    """Six words in a row, and whole sentences, that must not be learnt."""
    grams, whole = set(), set()
    for path in paths:
        for line in opener(path):
            words = line.rstrip("\n").split("\t")[4].split()
            whole.add(" ".join(words))
            grams.update(tuple(words[i:i + 6]) for i in range(len(words) - 5))
    return grams, whole


def sentences(path, grams, whole):
    dropped = 0
    for line in opener(path):
        if path.endswith(".tsv"):
            text = " ".join(line.rstrip("\n").split("\t")[4].upper().split())
            text = text if re.fullmatch("[A-Z' ]+", text) else None
        else:
            text = clean(line)
            text = text and transcript(text)
        if not text:
            continue
        words = text.split()
        if text in whole or any(tuple(words[i:i + 6]) in grams for i in range(len(words) - 5)):
            dropped += 1
            continue
        yield text
    print(f"{path.rsplit('/', 2)[-2:]}: {dropped} dropped for sharing words with --avoid", flush=True)


class Encoder:
    def __init__(self, model):
        self.tokens = Tokens(model)
        self.known = {}

    def __call__(self, text):
        ids = []
        for word in text.split():
            if word not in self.known:
                self.known[word] = self.tokens.encode(word)
            ids += self.known[word]
        return ids


def grams_of(ids, n):
    """Every run of n pieces as one number, the first piece highest."""
    key = np.zeros(len(ids) - n + 1, np.uint64)
    for i in range(n):
        key = (key << np.uint64(BITS)) | ids[i:len(ids) - n + 1 + i].astype(np.uint64)
    return key


def last_pieces(keys, n):
    return keys & np.uint64((1 << (BITS * n)) - 1)


def counts(ids, order):
    """[(keys, counts)] of each order: plain counts at the highest, different pieces before it below."""
    # The text as a ring: every piece has others before it, the first one too.
    keys, count = np.unique(grams_of(np.concatenate([ids, ids[:order - 1]]), order), return_counts=True)
    result = [(keys, count)]
    for n in range(order - 1, 0, -1):
        keys, count = np.unique(last_pieces(keys, n), return_counts=True)
        result.append((keys, count))
    return result[::-1]


def discounts(count):
    n1, n2, n3, n4 = (max(1, int(np.sum(count == k))) for k in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    return np.clip([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3], 0.05, 2.95)


def merged(parts):
    """parts: [(weight, keys, counts)]. Keys of all, their weighted counts and weighted discounted counts."""
    keys = np.unique(np.concatenate([k for _, k, _ in parts]))
    total, rest = np.zeros(len(keys)), np.zeros(len(keys))
    for weight, k, c in parts:
        d = discounts(c)[np.minimum(c, 3) - 1]
        at = np.searchsorted(keys, k)
        total[at] += weight * c
        rest[at] += weight * np.maximum(c - d, 0)
    return keys, total, rest


def build(streams, order, vocabulary, least):
    """streams: [(weight, ids)]. [(keys, log p, log back-off)] of each order, natural logs; keys sorted."""
    by_source = [(weight, counts(ids, order)) for weight, ids in streams]
    levels = [merged([(w, *c[n]) for w, c in by_source]) for n in range(order)]
    # What is kept: enough counts, or the start of something kept. All pieces are.
    kept = [None] * order
    above = np.zeros(0, np.uint64)
    for n in range(order, 1, -1):
        keys, total, _ = levels[n - 1]
        keep = (total >= least[n - 1]) | np.isin(keys, above)
        kept[n - 1] = keep
        above = np.unique(keys[keep] >> np.uint64(BITS))
    model = []
    below_keys, below_p = None, None
    for n in range(1, order + 1):
        keys, total, rest = levels[n - 1]
        context = keys >> np.uint64(BITS)
        contexts, of = np.unique(context, return_inverse=True)
        sums = np.bincount(of, total)
        p = rest / sums[of]
        keep = np.ones(len(keys), bool) if n == 1 else kept[n - 1]
        gamma = 1 - np.bincount(of[keep], p[keep], minlength=len(contexts))
        if n == 1:
            everything = np.arange(1, vocabulary, dtype=np.uint64)
            full = np.full(len(everything), gamma[0] / len(everything))
            full[np.searchsorted(everything, keys)] += p
            keys, p = everything, full / full.sum()
        else:
            p = p[keep] + gamma[of[keep]] * probability(model, last_pieces(keys[keep], n - 1), n - 1)
            keys = keys[keep]
            # The back-off of a context is its own rest over what lower orders would give to the words it does
            # not list: with interpolated probabilities, gamma itself.
            lower_keys, lower_p, backoff = model[n - 2]
            at = np.searchsorted(lower_keys, contexts)
            there = (at < len(lower_keys)) & (lower_keys[np.minimum(at, len(lower_keys) - 1)] == contexts)
            used = np.zeros(len(contexts), bool)
            used[np.unique(of[keep])] = True
            backoff[at[there & used]] = np.log(np.maximum(gamma[there & used], 1e-7))
        model.append([keys, np.log(p), np.zeros(len(keys))])
        print(f"order {n}: {len(keys)} of {len(total)}", flush=True)
    return model


def probability(model, keys, n):
    """p of n-grams that may not be listed, by backing off."""
    result, missing = np.zeros(len(keys)), np.ones(len(keys), bool)
    scale = np.zeros(len(keys))
    for m in range(n, 0, -1):
        tail = last_pieces(keys, m)
        listed, logs, _ = model[m - 1]
        at = np.minimum(np.searchsorted(listed, tail), len(listed) - 1)
        hit = missing & (listed[at] == tail)
        result[hit] = np.exp(scale[hit] + logs[at[hit]])
        missing &= ~hit
        if m > 1:
            context = tail >> np.uint64(BITS)
            listed, _, backoff = model[m - 2]
            at = np.minimum(np.searchsorted(listed, context), len(listed) - 1)
            scale += np.where(missing & (listed[at] == context), backoff[at], 0)
    return result


def perplexity(model, ids, words):
    order = len(model)
    log_p = 0.0
    for n in range(1, order):  # the first pieces have less before them
        log_p += math.log(probability(model, grams_of(ids[:n], n), n)[0])
    log_p += np.log(probability(model, grams_of(ids, order), order)).sum()
    return math.exp(-log_p / words), math.exp(-log_p / len(ids))


def write_arpa(model, pieces, path):
    with open(path, "w", encoding="utf-8") as f:
        f.write("\\data\\\n" + "".join(f"ngram {n}={len(m[0])}\n" for n, m in enumerate(model, 1)))
        for n, (keys, logs, backoff) in enumerate(model, 1):
            f.write(f"\n\\{n}-grams:\n")
            columns = [(keys >> np.uint64(BITS * i)) & np.uint64((1 << BITS) - 1) for i in range(n - 1, -1, -1)]
            for k in range(len(keys)):
                words = " ".join(pieces[int(c[k])] for c in columns)
                tail = f"\t{backoff[k] / math.log(10):.5f}" if n < len(model) else ""
                f.write(f"{logs[k] / math.log(10):.5f}\t{words}{tail}\n")
        f.write("\n\\end\\\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("text", nargs="+")
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--avoid", nargs="+", required=True)
    ap.add_argument("--order", type=int, default=6)
    ap.add_argument("--least", default="", help="an order's least weighted count, from the first on; default 0")
    ap.add_argument("--check", nargs="*", default=[])
    a = ap.parse_args()
    if not 2 <= a.order <= 7:
        raise SystemExit("--order must be 2 to 7: seven pieces fit into 64 bits")
    encode = Encoder(a.tokenizer)
    if encode.tokens.size > 1 << BITS:
        raise SystemExit(f"{a.tokenizer}: more than {1 << BITS} pieces")
    grams, whole = avoided(a.avoid)
    streams = []
    for spec in a.text:
        path, weight = (spec.rsplit(":", 1) + ["1"])[:2]
        ids = [i for s in sentences(path, grams, whole) for i in encode(s)]
        streams.append((float(weight), np.array(ids)))
        print(f"{path.rsplit('/', 2)[-2:]}: {len(ids)} pieces, weight {weight}", flush=True)
    least = [float(x) for x in a.least.split(",")] if a.least else []
    least += [0.0] * (a.order - len(least))
    model = build(streams, a.order, encode.tokens.size, least)
    for path in a.check:
        texts = [line.rstrip("\n").split("\t")[4] for line in opener(path)]
        ids = np.array([i for t in texts for i in encode(t)])
        word, piece = perplexity(model, ids, sum(len(t.split()) for t in texts))
        print(f"{path.rsplit('/', 2)[-2:]}: perplexity {word:.0f} a word, {piece:.1f} a piece", flush=True)
    write_arpa(model, ["<blank>"] + encode.tokens.pieces(), a.out)


if __name__ == "__main__":
    main()
