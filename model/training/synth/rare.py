"""Sentences rich in words that the jobs at hand hold seldom, for passages.py.

    python -m synth.rare SENTENCES.tsv --jobs prose.tsv novels.tsv ... --dictionary cmudict-en-us.dict --words 3000000 --out rare.txt

A word that training heard ten times is read wrong four times as often as a common one, and a sixth of what people read aloud is such words.
SENTENCES.tsv holds a sentence in the fifth column of each line (lm/sphinx.py draws 37 million words of them). Those are taken first whose
seldom words, of at least four letters, were heard least, in the jobs and in what was taken before; names and noise that --dictionary (CMU's)
has not are not among them, so that the phonemiser's guess teaches no spelling. A sentence with a word outside the dictionary is left.
"""
import argparse
import collections
import re

from synth.passages import opener, words_said

MOST = 40                                                  # words that are heard more often are no rare ones


def choose(sentences, heard, known, words):
    """Which of the sentences (lists of words): those with the rarest word first, until there are so many words.
    heard: {word: times in the jobs}, brought up to date."""
    at = collections.defaultdict(list)                     # of each seldom word, the sentences that hold it
    for i, s in enumerate(sentences):
        if 4 <= len(s) <= 30 and all(w in known for w in s):
            for w in {w for w in s if len(w) > 3 and heard[w] < MOST}:
                at[w].append(i)
    taken, count = set(), 0
    for times in range(MOST):                              # every word is to be heard more than so many times
        for w, where in at.items():
            if heard[w] > times:
                continue
            while where and where[-1] in taken:
                where.pop()
            if not where:
                continue
            i = where.pop()
            taken.add(i)
            heard.update(sentences[i])
            count += len(sentences[i])
            if count >= words:
                return sorted(taken)
    return sorted(taken)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("sentences")
    ap.add_argument("--jobs", nargs="+", required=True)
    ap.add_argument("--dictionary", required=True)
    ap.add_argument("--words", type=int, required=True)
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    known = {re.sub(r"\(\d+\)$", "", line.split()[0]).upper() for line in opener(a.dictionary) if line.strip()}
    heard = collections.Counter()
    for path in a.jobs:
        heard.update(words_said(path))
    sentences = list({line.rstrip("\n").split("\t")[4]: None for line in opener(a.sentences)})
    sentences = [s.split() for s in sentences]
    had = sum(1 for w in known if heard[w] >= 20)
    taken = choose(sentences, heard, known, a.words)
    with open(a.out, "w", encoding="utf-8") as f:
        for i in taken:
            f.write(" ".join(sentences[i]).lower() + ".\n")
    print(f"{len(taken)} sentences, {sum(len(sentences[i]) for i in taken)} words; of the dictionary's {len(known)} words "
          f"{had} were heard twenty times, now {sum(1 for w in known if heard[w] >= 20)}")


if __name__ == "__main__":
    main()
