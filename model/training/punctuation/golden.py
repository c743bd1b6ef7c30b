"""What an exported model decides, by PyTorch: a check of the daemon's own reading of it.

    cd model/training; python -m punctuation.golden EXPORT_DIR TEXT.txt --out GOLDEN.json

TEXT: words in lower case; "/" is a pause. GOLDEN.json: the text, and for each word its pieces and its style (case, mark), decided
where `words_ahead` more words or pauses have been heard, or at the end, which is a pause.
"""
import argparse
import json
import os

import torch
from safetensors.torch import load_file

from punctuation.network import Punctuator
from punctuation.pieces import PAUSE, Pieces
from punctuation.spoken import CASES


def read(folder):
    """-> Punctuator with the stored weights, its pieces, words_ahead"""
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    net = Punctuator(config["vocab_size"], config["d_model"], config["n_layer"])
    stored = load_file(os.path.join(folder, "model.safetensors"))
    with torch.no_grad():
        for name in net.names:
            net.p(name).copy_(stored[name.replace("ctc_head.", "head.")].float())
    return net.eval(), Pieces.read(os.path.join(folder, "tokens.txt")), config["words_ahead"]


@torch.no_grad()
def styles(net, pieces, ahead, words):
    """words, "/" among them -> (case, mark) of each that is a word."""
    ids, ends, spoken = [], [], []
    for w in words + ["/"]:
        for part in [[PAUSE]] * ahead if w == "/" else [pieces.encode(w)]:
            ids += part
            ends.append(len(ids) - 1)
            spoken.append(w != "/")
    z = net(torch.tensor([ids]))[0][0]
    out = []
    for i, end in enumerate(ends[ahead:]):
        if spoken[i]:
            out.append((z[end, :len(CASES)].argmax().item(), z[end, len(CASES):].argmax().item()))
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("folder")
    ap.add_argument("text")
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    net, pieces, ahead = read(a.folder)
    with open(a.text, encoding="utf-8") as f:
        words = f.read().split()
    spoken = [w for w in words if w != "/"]
    with open(a.out, "w", encoding="utf-8") as f:
        json.dump({"text": " ".join(words), "pieces": [pieces.encode(w) for w in spoken],
                   "styles": styles(net, pieces, ahead, words)}, f)
        f.write("\n")


if __name__ == "__main__":
    main()
