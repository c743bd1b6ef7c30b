"""Names for punctuation by rules: words that are written with a capital nearly always, also within sentences.

    cd model/training; python -m punctuation.names DATA --out names.txt [--least 4] [--share 0.9] [--held-out 0.04]

DATA is what prepare.py wrote. A word counts once for each place within a sentence; only words that two sources know, so that one
author's habits do not count. names.txt: one a line, as it is written. Reports casing over the held-out text, sentences' first words aside.
"""
import argparse
import collections
import os

import numpy as np

from punctuation.pieces import Pieces
from punctuation.rows import Source
from punctuation.spoken import MARKS

SOURCES = ["nltk-masc", "nltk-state_union", "nltk-inaugural", "nltk-genesis", "fortunes", "endless-sky", "anarchism-faq",
           "wordnet-examples", "gcide"]


def words(source, pieces):
    """-> (word, case) within sentences, in order"""
    first = set(source.starts.tolist())
    for w in range(source.first, source.end):
        if w not in first:
            ids = source.pieces[source.offsets[w]:source.offsets[w + 1]]
            yield "".join(pieces.pieces[i] for i in ids)[1:], int(source.labels[w]) // len(MARKS)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("data")
    ap.add_argument("--out", required=True)
    ap.add_argument("--least", type=int, default=4)
    ap.add_argument("--share", type=float, default=0.9)
    ap.add_argument("--held-out", type=float, default=0.04)
    a = ap.parse_args()
    pieces = Pieces.read(os.path.join(a.data, "tokens.txt"))
    with np.load(os.path.join(a.data, "text.npz")) as f:
        arrays = dict(f)
    seen, where = collections.defaultdict(lambda: [0, 0, 0]), collections.defaultdict(set)
    for name in SOURCES:
        for word, case in words(Source(arrays, name, a.held_out, "train"), pieces):
            seen[word][case] += 1
            where[word].add(name)
    names = {}
    for word, counts in seen.items():
        n = sum(counts)
        if len(word) > 1 and n >= a.least and len(where[word]) > 1 and n - counts[0] >= a.share * n:
            names[word] = word.upper() if counts[2] > counts[1] else word.capitalize()
    with open(a.out, "w", encoding="utf-8") as f:
        f.writelines(sorted(v + "\n" for v in names.values()))
    print(f"{len(names)} names, {os.path.getsize(a.out)} bytes\n\n| held-out text | words | casing right | capitals found | rightly |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in SOURCES:
        right = found = said = there = n = 0
        for word, case in words(Source(arrays, name, a.held_out, "held out"), pieces):
            mine = 1 if word == "i" or word.startswith("i'") else 0
            if word in names:
                mine = 2 if names[word].isupper() else 1
            n, right, there, said = n + 1, right + (mine == case), there + (case > 0), said + (mine > 0)
            found += mine > 0 and case > 0
        print(f"| {name} | {n} | {100 * right / n:.1f} % | {100 * found / max(1, there):.1f} % | {100 * found / max(1, said):.1f} % |")


if __name__ == "__main__":
    main()
