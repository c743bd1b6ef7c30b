"""How common each of the recogniser's tokens is in the text it learns, for the beam search, which takes part of that off again.

    python -m lm.prior novels2.tsv:1.5 novels.tsv:1 ... --tokenizer tokenizer.model --out prior.json

JOBS (synth/passages.py) with the copies that synth/revoice.py made of them: {"counts": [one for each token of tokens.txt]}.
"""
import argparse
import collections
import json

from synth.passages import words_said
from text import Tokens


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("jobs", nargs="+")
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    tokens = Tokens(a.tokenizer)
    words = collections.Counter()
    for spec in a.jobs:
        path, copies = spec.rsplit(":", 1)
        for word, times in words_said(path).items():
            words[word] += times * float(copies)
    counts = [0.0] * tokens.size
    for word, times in words.items():
        for token in tokens.encode(word):
            counts[token] += times
    with open(a.out, "w", encoding="utf-8") as f:
        json.dump({"counts": [round(c) for c in counts]}, f)
        f.write("\n")
    print(f"{a.out}: {len(words)} words, {round(sum(counts))} tokens")


if __name__ == "__main__":
    main()
