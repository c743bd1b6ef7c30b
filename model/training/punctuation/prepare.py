"""Text to what `train` reads: one compressed file of word pieces and labels, and the pieces.

    cd model/training; python -m punctuation.prepare punctuation/default.toml TEXT_FOLDER ... --out OUT --avoid packs.tsv ...

TEXT_FOLDER: ../shared/text, and what `python -m lm.prose FOLDER --whole` writes.

OUT/text.npz holds, for each source of the config: pieces (uint16), lengths (pieces of each word, uint8), labels (spoken.py, uint8)
and sentences (words of each, uint16). OUT/tokens.txt: the pieces, `train` ships them with the model.
A sentence that shares six words in a row with a file named by --avoid is dropped.
"""
import argparse
import os
import tempfile
import tomllib

import numpy as np

from punctuation.pieces import SPECIAL, Pieces
from punctuation.spoken import MARKS, TITLES, labelled
from synth.passages import opener

LONGEST = 80                                               # words a sentence
ABBREVIATED = {title.lower() for title in TITLES.values()} - {"number"}    # a line that ends so was cut at its full stop


def sentences(path, avoid):
    """-> lists of (word, label)."""
    kept = dropped = 0
    for line in opener(path):
        s = labelled(line)
        words = [w for w, _ in s or []]
        if not 3 <= len(words) <= LONGEST or words[-1] in ABBREVIATED:
            continue
        if any(tuple(words[i:i + 6]) in avoid for i in range(len(words) - 5)):
            dropped += 1
            continue
        if s[-1][1] % len(MARKS) == 0:                     # headings, captions
            if s[0][1] // len(MARKS) == 0:
                continue
            s[-1] = (s[-1][0], s[-1][1] + MARKS.index("."))
        kept += 1
        yield s
    print(f"{os.path.basename(path)}: {kept} sentences, {dropped} dropped for sharing words with a test set", flush=True)


def vocabulary(words, size):
    """A unigram model's pieces (sentencepiece) over `words` (lists), every letter among them."""
    import sentencepiece
    with tempfile.TemporaryDirectory() as tmp:
        with open(os.path.join(tmp, "text"), "w") as f:
            f.writelines(" ".join(s) + "\n" for s in words)
        sentencepiece.SentencePieceTrainer.train(
            input=os.path.join(tmp, "text"), model_prefix=os.path.join(tmp, "m"), vocab_size=size, model_type="unigram",
            character_coverage=1.0, bos_id=-1, eos_id=-1, unk_id=0, minloglevel=2, num_threads=2)
        sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(tmp, "m.model"))
    pieces = [sp.id_to_piece(i) for i in range(1, sp.vocab_size())]
    letters = [p + c for p in ("\u2581", "") for c in "abcdefghijklmnopqrstuvwxyz'"]
    return SPECIAL + list(dict.fromkeys([p for p in pieces if p != "\u2581"] + letters))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("config")
    ap.add_argument("text", nargs="+", help="folders; one of them holds SOURCE.txt.xz for each source of the config")
    ap.add_argument("--out", required=True)
    ap.add_argument("--avoid", nargs="*", default=[])
    a = ap.parse_args()
    with open(a.config, "rb") as f:
        conf = tomllib.load(f)
    avoid = set()
    for path in a.avoid:
        for line in opener(path):
            w = line.rstrip("\n").split("\t")[4].lower().split()
            avoid.update(tuple(w[i:i + 6]) for i in range(len(w) - 5))
    paths = {name: [p for f in a.text if os.path.exists(p := os.path.join(f, name + ".txt.xz"))] for name in conf["sources"]}
    if missing := [name for name, found in paths.items() if not found]:
        ap.error(f"no {', '.join(missing)} (.txt.xz) in {', '.join(a.text)}; name further folders, or leave them out of the config")
    texts = {name: list(sentences(found[0], avoid)) for name, found in paths.items()}
    share = conf["tokens"]["without"]
    pieces = Pieces(vocabulary(([w for w, _ in s] for n, t in texts.items() if n not in share for s in t),
                               conf["tokens"]["size"]))
    os.makedirs(a.out, exist_ok=True)
    pieces.write(os.path.join(a.out, "tokens.txt"))
    arrays = {}
    for name, text in texts.items():
        ids, lengths, labels = [], [], []
        for s in text:
            for word, label in s:
                p = pieces.encode(word)
                ids += p
                lengths.append(len(p))
                labels.append(label)
        arrays |= {f"{name}/pieces": np.array(ids, np.uint16), f"{name}/lengths": np.array(lengths, np.uint8),
                   f"{name}/labels": np.array(labels, np.uint8),
                   f"{name}/sentences": np.array([len(s) for s in text], np.uint16)}
        print(f"{name}: {len(labels)} words, {len(ids)} pieces", flush=True)
    path = os.path.join(a.out, "text.npz")
    np.savez_compressed(path, **arrays)
    print(f"{len(pieces)} pieces; {os.path.getsize(path) / 2 ** 20:.1f} MiB")


if __name__ == "__main__":
    main()
