"""The largest magnitudes that reach out_proj and fc2 in each layer of an exported model, from speech: MODEL_DIR/float8.json, by
which the CUDA engine's Float8 chooses how it writes them in e4m3 (kernels/packed_model.h).

    python float8.py MODEL_DIR SET [--limit N]

SET: a set of training speech, as data.read_set reads it; a few minutes are enough, the engine leaves 8 times as much room. The file
is no part of the model's hash.
"""
import argparse
import json
import os

import torch
import torch.nn.functional as F

import export
from blocks import linear, rms
from evaluate import load, transcribe
from network import after


def peaks(net, pieces, waves):
    """-> {"out_proj": [a number a layer], "fc2": ...}; waves: int16 arrays."""
    seen = []

    def listen(x, y, w_out, norm, w1, *rest):
        a, g = linear(rms(x + linear(y, w_out), norm), w1).chunk(2, dim=-1)
        seen.append((y.abs().max().item(), (a * F.silu(g)).abs().max().item()))
        return after(x, y, w_out, norm, w1, *rest)

    net.f_after = listen
    transcribe(net, waves, pieces, "cpu")
    layers = [[max(value) for value in zip(*seen[i::net.layers])] for i in range(net.layers)]
    return {name: [float(f"{layer[k]:.3g}") for layer in layers] for k, name in enumerate(("out_proj", "fc2"))}


@torch.no_grad()
def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("set")
    ap.add_argument("--limit", type=int, default=40, help="utterances, spread over the set")
    a = ap.parse_args()
    net, _, pieces = export.read(a.model)
    found = peaks(net, pieces, [u.samples for u in load(a.set, a.limit)])
    with open(os.path.join(a.model, "float8.json"), "w") as f:
        json.dump(found, f)
        f.write("\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
