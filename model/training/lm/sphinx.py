"""Text as CMU Sphinx's trigram of US English would say it: one more source for lm.build.

    python -m lm.sphinx en-us.lm.bin OUT.tsv [--words 50000000] [--seed 1]

en-us.lm.bin comes with Debian's pocketsphinx-en-us (/usr/share/pocketsphinx/model/en-us; two-clause BSD): 72,547 words, 2.1 million
bigrams, 1.7 million trigrams. Its own programs (Debian's sphinx_lm_convert, PyPI's pocketsphinx 5.1.1) fail to write it as ARPA, so it
is read as it lies. Sentences are drawn from it word by word, thousands at once; each is the fifth column of a line, as in a packs.tsv.
Words with initials ("a.") are not drawn.

The file (sphinxbase, lm/lm_trie.c, lm_trie_quant.c, bitarr.c; after KenLM's trie): "Trie Language Model", u8 order, u32 count of each
order, u32 1, tables of 65,536 float32 (bigrams' probabilities, their back-offs, trigrams' probabilities), the unigrams (float32
probability, float32 back-off, u32 first child), bigrams and trigrams in whole bits (newest word, then older; see `entries`), u32 bytes
of the words, the words, each with a NUL. Values are logarithms to the base 1.0001.
"""
import argparse
import re
import struct

import numpy as np

from synth.passages import transcript

MAGIC = b"Trie Language Model"
LOG_BASE = np.log(1.0001)


def bits(n):
    return int(n).bit_length()


def entries(mem, count, widths):
    """count entries side by side, each of fields of so many bits, the lowest bits first: the fields as arrays."""
    at = np.arange(count, dtype=np.int64) * sum(widths)
    fields = []
    for width in widths:
        value = sum(mem[(at >> 3) + k].astype(np.int64) << (8 * k) for k in range(5))
        fields.append(value >> (at & 7) & ((1 << width) - 1))
        at += width
    return fields


class Trigram:
    """words; of each order 1 to 3 the n-grams as numbers (older word first, base `size`), sorted, with p and back-off."""

    def __init__(self, path):
        with open(path, "rb") as f:
            data = f.read()
        if data[:len(MAGIC)] != MAGIC or data[len(MAGIC)] != 3 or struct.unpack_from("<I", data, len(MAGIC) + 13)[0] != 1:
            raise SystemExit(f"{path}: not a trigram of CMU Sphinx in its binary form (quantised to 16 bits)")
        n1, n2, n3 = struct.unpack_from("<3I", data, len(MAGIC) + 1)
        at = len(MAGIC) + 17
        tables = np.exp(np.frombuffer(data, "<f4", 3 << 16, at).astype(float) * LOG_BASE).reshape(3, 1 << 16)
        at += tables.size * 4
        unigrams = np.frombuffer(data, [("p", "<f4"), ("backoff", "<f4"), ("child", "<u4")], n1 + 1, at)
        at += unigrams.nbytes
        mem = np.frombuffer(data, np.uint8, offset=at)
        widths = [bits(n1), 16, 16, bits(n3)]
        size = [((n + 1) * width + 7) // 8 + 8 for n, width in ((n2, sum(widths)), (n3, bits(n1) + 16))]
        at += sum(size)
        self.words = data[at + 4:at + 4 + struct.unpack_from("<I", data, at)[0]].decode().split("\0")[:n1]

        self.size = n1
        n2 = int(unigrams["child"][n1])  # a few that were counted are not there
        older, backoff, p, child = entries(mem, n2 + 1, widths)
        oldest, p3 = entries(mem[size[0]:], child[n2], [bits(n1), 16])
        two = older[:n2] * n1 + np.repeat(np.arange(n1), np.diff(unigrams["child"].astype(np.int64)))
        of = np.repeat(np.arange(n2), np.diff(child))
        three = oldest * n1 * n1 + two[of]
        one = np.exp(unigrams["p"][:n1] * LOG_BASE), np.exp(unigrams["backoff"][:n1] * LOG_BASE)
        o2, o3 = np.argsort(two), np.argsort(three)
        self.levels = [(np.arange(n1), *one), (two[o2], tables[0, p[:n2]][o2], tables[1, backoff[:n2]][o2]),
                       (three[o3], tables[2, p3][o3], np.ones(len(three)))]


class Sampler:
    """Draws words from a Trigram with r, a numpy generator."""

    def __init__(self, model, r):
        self.model, self.r, self.sums = model, r, [np.concatenate([[0], np.cumsum(p)]) for _, p, _ in model.levels]

    def draw(self, order, context):
        """The next word of each context: order - 1 words as a number."""
        keys, size = self.model.levels[order - 1][0], self.model.size
        by_context = np.argsort(context)  # neighbouring look-ups find each other's memory in the cache
        context = context[by_context]
        begin, end = np.searchsorted(keys, context * size), np.searchsorted(keys, (context + 1) * size)
        sums = self.sums[order - 1]
        at = np.searchsorted(sums, sums[begin] + self.r.random(len(context)) * (sums[-1] if order == 1 else 1), "right") - 1
        listed = at < end
        word = keys[np.minimum(at, len(keys) - 1)] % size
        back = np.flatnonzero(~listed) if order > 1 else []
        while len(back):  # a word that this order lists is its own affair: once more
            word[back] = self.draw(order - 1, context[back] % size ** (order - 2))
            full = context[back] * size + word[back]
            back = back[keys[np.minimum(np.searchsorted(keys, full), len(keys) - 1)] == full]
        result = np.empty_like(word)
        result[by_context] = word
        return result


def sentences(model, words, r, walkers=200_000):
    """At least so many words in sentences, each a line in capitals."""
    sampler = Sampler(model, r)
    begin, end = model.words.index("<s>"), model.words.index("</s>")
    said = np.array([transcript(w) for w in model.words], dtype=object)
    said[end] = "\n"
    allowed = np.array([re.fullmatch("[a-z'-]+|</s>", w) is not None for w in model.words])  # no initials, no <s>
    older, newer = np.full(walkers, begin), np.full(walkers, begin)
    starts = np.ones(walkers, bool)
    steps = []
    for _ in range(-(-words // walkers)):
        word = np.empty(walkers, np.int64)
        todo = np.arange(walkers)
        while len(todo):
            first = starts[todo]
            drawn = np.empty(len(todo), np.int64)
            drawn[first] = sampler.draw(2, newer[todo[first]])
            drawn[~first] = sampler.draw(3, older[todo[~first]] * model.size + newer[todo[~first]])
            word[todo] = drawn
            todo = todo[~allowed[drawn]]
        steps.append(word.astype(np.int32))
        starts = word == end
        older, newer = newer, np.where(starts, begin, word)
    for walk in np.array(steps).T:
        yield from (line.strip() for line in " ".join(said[walk]).split("\n") if line.strip())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("out")
    ap.add_argument("--words", type=int, default=50_000_000)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    with open(a.out, "w", encoding="utf-8") as f:
        f.writelines(f"\t\t\t\t{line}\n" for line in sentences(Trigram(a.model), a.words, np.random.default_rng(a.seed)))


if __name__ == "__main__":
    main()
