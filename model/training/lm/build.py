"""Build the decoder's language models from plain English text, as ARPA: an n-gram over the recogniser's own pieces, or over words.

    python -m lm.build TEXT[:WEIGHT] ... --tokenizer tokenizer.model --out lm.arpa --avoid packs.tsv ... [--order 6]
                       [--least 1,1,1,2,2,2] [--most 1800000] [--check packs.tsv]
    python -m lm.build TEXT[:WEIGHT] ... --words 60000 --out words.arpa ...                     over the most frequent words

TEXT is a file of sentences (.xz too), or a packs.tsv, whose fifth column is taken. The sentences of one file follow each
other without a mark between them, as they do in a stream. A sentence that shares six words in a row with a file named by
--avoid (the development and test sets), or is one of their sentences, is dropped (synth/passages.py).

Interpolated, modified Kneser-Ney (Chen and Goodman 1998, section 3): below the highest order an n-gram counts the
different pieces before it. Several files are one model: each file's counts are discounted by its own discounts, times its
WEIGHT, and added up. --least drops n-grams whose weighted count is below its order's number; --most keeps those that do
most for the text, after which the model is estimated again. What a dropped n-gram held goes to the back-off and its whole
count to the lower order, so every context's probabilities still add up to one.

--check prints the perplexity of another text, a word and a piece.
"""
import argparse
import array
import math
import re

import numpy as np

from lm.pack import BITS, UNKNOWN, WORD_BITS, find
from synth.passages import clean, opener, transcript
from text import Tokens


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


class Pieces:
    """Text as the recogniser's pieces: 1 to size - 1. names: of all, 0 too."""

    def __init__(self, model):
        self.tokens, self.known = Tokens(model), {}
        self.size, self.names = self.tokens.size, ["<blank>"] + self.tokens.pieces()

    def __call__(self, text):
        return [i for word in text.split() for i in self.of(word)]

    def of(self, word):
        if word not in self.known:
            self.known[word] = self.tokens.encode(word)
        return self.known[word]


class Words:
    """Text as words, numbered as they come."""

    def __init__(self):
        self.number, self.names = {}, [UNKNOWN]

    def __call__(self, text):
        ids = []
        for word in text.split():
            i = self.number.setdefault(word, len(self.names))
            if i == len(self.names):
                self.names.append(word)
            ids.append(i)
        return ids

    def keep(self, texts, most):
        """The `most` words of the largest weighted count stay; all others become one, the last. texts: [(weight, ids)] -> the same."""
        total = sum(weight * np.bincount(ids, minlength=len(self.names)) for weight, ids in texts)
        kept = np.argsort(-total, kind="stable")[:most]
        kept = np.sort(kept[total[kept] > 0])
        new = np.full(len(self.names), len(kept) + 1)
        new[kept] = np.arange(1, len(kept) + 1)
        names = [self.names[i] for i in kept]
        self.number, self.names = {w: i for i, w in enumerate(names, 1)}, ["", *names, UNKNOWN]
        self.size = len(self.names)
        return [(weight, new[ids]) for weight, ids in texts]


def grams_of(ids, n, bits=BITS):
    """Every run of n pieces as one number, the first piece highest."""
    key = np.zeros(len(ids) - n + 1, np.uint64)
    for i in range(n):
        key = (key << np.uint64(bits)) | ids[i:len(ids) - n + 1 + i].astype(np.uint64)
    return key


def last_pieces(keys, n, bits=BITS):
    return keys & np.uint64((1 << (bits * n)) - 1)


def runs(keys):
    """Where each run of equal keys begins."""
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))


def counts(ids, order, bits=BITS):
    """The n-grams of the highest order, sorted, and their counts. The text is a ring: every piece has others before it."""
    keys = grams_of(np.concatenate([ids, ids[:order - 1]]), order, bits)
    keys.sort()
    begin = runs(keys)
    return keys[begin], np.diff(begin, append=len(keys)).astype(np.float32)


def discounts(count):
    """What modified Kneser-Ney takes from a count of 0, 1, 2, and 3 or more."""
    n1, n2, n3, n4 = (max(1, int(np.sum(count == k))) for k in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    return np.array([0, *np.clip([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3], 0.05, 2.95)], np.float32)


def merged(sources):
    """sources: [(weight, keys, counts)]. Keys of all, their weighted counts and weighted discounted counts."""
    keys = np.concatenate([k for _, k, _ in sources])
    keys.sort()
    keys = keys[runs(keys)]
    total, rest = np.zeros(len(keys), np.float32), np.zeros(len(keys), np.float32)
    for weight, k, c in sources:
        at = np.searchsorted(keys, k)
        total[at] += np.float32(weight) * c
        rest[at] += np.float32(weight) * (c - discounts(c)[np.minimum(c, 3).astype(np.int8)])
    return keys, total, rest


def handed_down(sources, kept, n, bits):
    """The counts of order n - 1. An n-gram that is kept counts once: as one more piece before what follows it. One that is not
    hands its whole count down, for then the lower order alone speaks for it (Siivola, Hirsimaki and Virpioja 2007)."""
    result = []
    for weight, keys, c in sources:
        c = np.where(find(kept, keys) >= 0, np.float32(1), c)
        tail = last_pieces(keys, n - 1, bits)
        by_tail = np.argsort(tail)
        tail = tail[by_tail]
        begin = runs(tail)
        result.append((weight, tail[begin], np.add.reduceat(c[by_tail], begin)))
    return result


def estimate(sources, order, vocabulary, least=None, kept=None, bits=BITS):
    """[(keys, log p, log back-off)] of each order, natural logs; keys sorted. Of the highest order's counts, either what has the
    least weighted count of its order, or the n-grams of `kept` (each order's, sorted); and the beginnings of what is kept."""
    levels, above = [], np.zeros(0, np.uint64)
    for n in range(order, 0, -1):
        keys, total, rest = merged(sources)
        if n == 1:
            keep = np.ones(len(keys), bool)
        elif kept:
            keep = find(kept[n - 1], keys) >= 0
        else:
            keep = total >= least[n - 1]
            keep[find(keys, above)] = True
        context = keys >> np.uint64(bits)
        begin = runs(context)
        sums = np.add.reduceat(total, begin, dtype=np.float64)
        of = np.repeat(np.arange(len(begin)), np.diff(begin, append=len(keys)))[keep]
        share = rest[keep] / sums[of]
        used = np.flatnonzero(np.bincount(of, minlength=len(begin)))
        above = context[begin[used]]
        gamma = 1 - np.bincount(of, share, minlength=len(begin))[used]
        levels.append((keys[keep], share, above, gamma))
        print(f"order {n}: {len(share)} of {len(keys)}", flush=True)
        if n > 1:
            sources = handed_down(sources, keys[keep], n, bits)
    model = []
    for n, (keys, share, contexts, gamma) in enumerate(reversed(levels), 1):
        if n == 1:
            p = np.full(vocabulary - 1, gamma[0] / (vocabulary - 1))
            p[keys.astype(int) - 1] += share
            keys, p = np.arange(1, vocabulary, dtype=np.uint64), p / p.sum()
        else:
            # A context's back-off is what is left over what lower orders would give to the pieces that it does not list: with
            # interpolated probabilities, gamma itself.
            p = share + gamma[find(contexts, keys >> np.uint64(bits))] * probability(model, last_pieces(keys, n - 1, bits), n - 1, bits)
            model[n - 2][2][find(model[n - 2][0], contexts)] = np.log(np.maximum(gamma, 1e-7))
        model.append([keys, np.log(p), np.zeros(len(keys))])
    return model


def shares(sources, order, bits=BITS):
    """[(keys, share of the text)] of each order's n-grams."""
    keys, total, _ = merged(sources)
    result = [(keys, total / total.sum(dtype=np.float64))]
    for _ in range(order - 1):
        keys, total = result[-1]
        keys = keys >> np.uint64(bits)
        begin = runs(keys)
        result.append((keys[begin], np.add.reduceat(total, begin)))
    return result[::-1]


def worth(model, text, bits=BITS):
    """What each n-gram of order 2 and up does for the text: how often it is there, times how much more likely (natural log) it is
    than by backing off (the weighted difference of Seymore and Rosenfeld 1996)."""
    result = []
    for n in range(2, len(model) + 1):
        keys, logs, _ = model[n - 1]
        backoff = model[n - 2][2][find(model[n - 2][0], keys >> np.uint64(bits))]
        lower = np.log(probability(model, last_pieces(keys, n - 1, bits), n - 1, bits))
        result.append(text[n - 1][1][find(text[n - 1][0], keys)] * (logs - backoff - lower))
    return result


def best(model, text, most, bits=BITS):
    """Each order's keys: all pieces, and of the rest the `most` n-grams that are worth most."""
    values = [None, *worth(model, text, bits)]
    for n in range(len(model), 2, -1):  # the beginning of an n-gram is worth at least as much: no tree without it
        context = model[n - 1][0] >> np.uint64(bits)
        begin = runs(context)
        at = find(model[n - 2][0], context[begin])
        values[n - 2][at] = np.maximum(values[n - 2][at], np.maximum.reduceat(values[n - 1], begin))
    every = np.concatenate(values[1:])
    least = np.partition(every, -most)[-most] if most < len(every) else -np.inf
    return [model[0][0], *(m[0][v >= least] for m, v in zip(model[1:], values[1:]))]


def probability(model, keys, n, bits=BITS):
    """p of n-grams that may not be listed, by backing off."""
    result, missing = np.zeros(len(keys)), np.ones(len(keys), bool)
    scale = np.zeros(len(keys))
    for m in range(n, 0, -1):
        tail = last_pieces(keys, m, bits)
        listed, logs, _ = model[m - 1]
        at = np.minimum(np.searchsorted(listed, tail), len(listed) - 1)
        hit = missing & (listed[at] == tail)
        result[hit] = np.exp(scale[hit] + logs[at[hit]])
        missing &= ~hit
        if m > 1:
            context = tail >> np.uint64(bits)
            listed, _, backoff = model[m - 2]
            at = np.minimum(np.searchsorted(listed, context), len(listed) - 1)
            scale += np.where(missing & (listed[at] == context), backoff[at], 0)
    return result


def perplexity(model, ids, words, bits=BITS):
    order = len(model)
    log_p = 0.0
    for n in range(1, order):  # the first pieces have less before them
        log_p += math.log(probability(model, grams_of(ids[:n], n, bits), n, bits)[0])
    log_p += np.log(probability(model, grams_of(ids, order, bits), order, bits)).sum()
    return math.exp(-log_p / words), math.exp(-log_p / len(ids))


def write_arpa(model, pieces, path, bits=BITS):
    with open(path, "w", encoding="utf-8") as f:
        f.write("\\data\\\n" + "".join(f"ngram {n}={len(m[0])}\n" for n, m in enumerate(model, 1)))
        for n, (keys, logs, backoff) in enumerate(model, 1):
            f.write(f"\n\\{n}-grams:\n")
            columns = [(keys >> np.uint64(bits * i)) & np.uint64((1 << bits) - 1) for i in range(n - 1, -1, -1)]
            for k in range(len(keys)):
                words = " ".join(pieces[int(c[k])] for c in columns)
                tail = f"\t{backoff[k] / math.log(10):.5f}" if n < len(model) else ""
                f.write(f"{logs[k] / math.log(10):.5f}\t{words}{tail}\n")
        f.write("\n\\end\\\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("text", nargs="+")
    ap.add_argument("--tokenizer", help="whose pieces the n-grams are of")
    ap.add_argument("--words", type=int, help="n-grams of so many words instead, the most frequent; of all others one more")
    ap.add_argument("--out", required=True)
    ap.add_argument("--avoid", nargs="+", required=True)
    ap.add_argument("--order", type=int, default=6)
    ap.add_argument("--least", default="", help="an order's least weighted count, from the first on; default 0")
    ap.add_argument("--most", type=int, help="n-grams besides the pieces or words; 12 bytes each when packed")
    ap.add_argument("--check", nargs="*", default=[])
    a = ap.parse_args()
    if (a.tokenizer is None) == (a.words is None):
        raise SystemExit("say --tokenizer for an n-gram over pieces or --words for one over words")
    encode = Pieces(a.tokenizer) if a.tokenizer else Words()
    bits = BITS if a.tokenizer else WORD_BITS
    if not 2 <= a.order <= 64 // bits:
        raise SystemExit(f"--order must be 2 to {64 // bits}: so many fit into 64 bits")
    if a.tokenizer and encode.size > 1 << bits:
        raise SystemExit(f"{a.tokenizer}: more than {1 << bits} pieces")
    grams, whole = avoided(a.avoid)
    texts = []
    for spec in a.text:
        path, weight = (spec.rsplit(":", 1) + ["1"])[:2]
        ids, words = array.array("I"), 0
        for sentence in sentences(path, grams, whole):
            ids.extend(encode(sentence))
            words += sentence.count(" ") + 1
        texts.append((float(weight), np.array(ids)))
        print(f"{path.rsplit('/', 2)[-2:]}: {words} words, {len(ids)} tokens, weight {weight}", flush=True)
    if a.words:
        texts = encode.keep(texts, a.words)
    sources = [(weight, *counts(ids, a.order, bits)) for weight, ids in texts]
    least = [float(x) for x in a.least.split(",")] if a.least else []
    least += [0.0] * (a.order - len(least))
    model = estimate(sources, a.order, encode.size, least=least, bits=bits)
    if a.most and a.most < sum(len(keys) for keys, _, _ in model[1:]):
        kept = best(model, shares(sources, a.order, bits), a.most, bits)
        model = estimate(sources, a.order, encode.size, kept=kept, bits=bits)
    for path in a.check:
        texts = [line.rstrip("\n").split("\t")[4] for line in opener(path)]
        if a.words:
            ids = np.array([encode.number.get(w, encode.size - 1) for t in texts for w in t.split()])
        else:
            ids = np.array([i for t in texts for i in encode(t)])
        word, token = perplexity(model, ids, sum(len(t.split()) for t in texts), bits)
        print(f"{path.rsplit('/', 2)[-2:]}: perplexity {word:.0f} a word, {token:.1f} a token" +
              (f", {np.mean(ids == encode.size - 1):.1%} of the words are none of them" if a.words else ""), flush=True)
    write_arpa(model, encode.names, a.out, bits)


if __name__ == "__main__":
    main()
