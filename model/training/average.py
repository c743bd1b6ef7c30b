"""The mean of several exports of one run: weights from different parts of it, each overfitted in its own way.

    python average.py RUN/export-1 RUN/export-2 ... --out FOLDER

Means are made in float64 and stored in the first export's types; config.json and tokens.txt are the last one's. Exports of
different shapes are refused. (Wortsman et al. 2022, "Model soups".)
"""
import argparse
import os
import shutil
import sys

import torch

from tensors import load_file, save_file


def mean(folders):
    """-> {name: tensor}, or SystemExit for exports that do not fit together."""
    every = [load_file(os.path.join(f, "model.safetensors")) for f in folders]
    shapes = [{k: v.shape for k, v in e.items()} for e in every]
    for folder, shape in zip(folders, shapes):
        if shape != shapes[0]:
            sys.exit(f"{folder}: not of the same network as {folders[0]}; only exports of one config can be averaged")
    return {k: torch.stack([e[k].double() for e in every]).mean(0).to(v.dtype) for k, v in every[0].items()}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("exports", nargs="+")
    ap.add_argument("--out", required=True)
    ap.add_argument("--blank-bias", type=float, default=0.0, help="added to the blank's logit: below 0, fewer words are left out")
    a = ap.parse_args()
    weights = mean(a.exports)
    weights["ctc_head.bias"][0] += a.blank_bias
    os.makedirs(a.out, exist_ok=True)
    for name in ("config.json", "tokens.txt"):
        shutil.copy(os.path.join(a.exports[-1], name), a.out)
    path = os.path.join(a.out, "model.safetensors")
    save_file(weights, path + ".new", metadata={"format": "pt"})
    os.replace(path + ".new", path)                        # a daemon may have the old one mapped


if __name__ == "__main__":
    main()
