"""A small punctuation model of random weights, tests/golden/punctuation/, and what PyTorch decides with it (golden.json).

    cd model/training; python ../../tests/golden/make_punctuation_vectors.py
"""
import os
import random
import sys

import torch

sys.path.insert(0, os.getcwd())
from punctuation import golden, train  # noqa: E402
from punctuation.network import Punctuator  # noqa: E402
from punctuation.pieces import SPECIAL, Pieces  # noqa: E402

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "punctuation")
WORDS = "the of and to in it was that he she is for on with as his they at be this have from or one had by but not what all were".split()


def main():
    torch.manual_seed(3)
    r = random.Random(3)
    letters = [p + c for p in ("\u2581", "") for c in "abcdefghijklmnopqrstuvwxyz"]
    inner = ["th", "in", "er", "at", "on", "ing", "he"]
    pieces = Pieces(SPECIAL + ["\u2581" + w for w in WORDS] + inner + letters)
    net = Punctuator(len(pieces), 32, 2)
    with torch.no_grad():
        net.p("ctc_head.weight").mul_(4)                   # decisions that rounding does not turn over
        net.p("ctc_head.bias").normal_(0, 0.5)
    os.makedirs(FOLDER, exist_ok=True)
    tokens = os.path.join(FOLDER, "tokens.tmp")
    pieces.write(tokens)
    train.export(FOLDER, net.export_state(), tokens, 2)
    os.remove(tokens)
    made = lambda: "".join(r.choice("abcdefghijklmnopqrstuvwxyz'") for _ in range(r.randint(1, 9)))
    words = [r.choice(WORDS) if r.random() < 0.6 else "/" if r.random() < 0.2 else made() for _ in range(150)]
    words = [w for i, w in enumerate(words) if w != "/" or (i and words[i - 1] != "/")]   # a pause is heard once
    text = os.path.join(FOLDER, "text.tmp")
    with open(text, "w") as f:
        f.write(" ".join(words))
    sys.argv = ["golden", FOLDER, text, "--out", os.path.join(FOLDER, "golden.json")]
    golden.main()
    os.remove(text)


if __name__ == "__main__":
    main()
