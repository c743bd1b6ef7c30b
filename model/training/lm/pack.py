"""Pack an ARPA n-gram over the recogniser's pieces into lm.safetensors, which the decoder maps into memory.

    python -m lm.pack lm.arpa tokens.txt lm.safetensors

Any ARPA file will do whose words are the pieces of tokens.txt. The n-grams become one tree: node 0 is the empty context,
its children are the pieces, theirs the bigrams, level after level, the children of a node side by side and sorted. Tensors:

    tokens      I16 (nodes)      the last piece of the node's n-gram; node 0: 0
    first_child I32 (nodes + 1)  its children are nodes first_child[i] to first_child[i + 1] - 1
    suffix      I32 (nodes)      the node of its longest proper suffix that is a node: where a look-up backs off to
    log_probs   U8 (nodes)       index into log_prob_values, F32 (256), natural log
    backoffs    U8 (nodes)       index into backoff_values, F32 (256), natural log; 0 stands for none
"""
import argparse
import json
import math
import struct

import numpy as np

BITS = 9  # a piece's; seven of them fit into 64 bits


def read_arpa(path, ids):
    """[(keys, log p, back-off)] of each order, sorted by key."""
    model, rows, n = [], None, 0
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.rstrip("\n")
        if line.startswith("\\"):
            if rows is not None:
                model.append(rows)
            rows = [] if line.endswith("-grams:") else None
            n += rows is not None
            continue
        if rows is None or not line.strip():
            continue
        fields = line.split()
        try:
            key = 0
            for piece in fields[1:1 + n]:
                key = key << BITS | ids[piece]
            rows.append((key, float(fields[0]), float(fields[1 + n]) if len(fields) > 1 + n else 0.0))
        except (KeyError, ValueError, IndexError) as error:
            raise SystemExit(f"{path}:{number}: not an n-gram over the pieces of tokens.txt ({error!r})") from None
    for i, rows in enumerate(model):
        rows.sort()
        keys = np.array([r[0] for r in rows], np.uint64)
        model[i] = (keys, *(np.array([r[c] for r in rows]) * math.log(10) for c in (1, 2)))
    return model


def codebook(values):
    """256 values and the index of the nearest for each: the middle of each 256th of them."""
    levels = np.unique(np.quantile(values, (np.arange(255) + 0.5) / 255).astype(np.float32))
    levels = np.concatenate([levels, np.full(255 - len(levels), levels[-1], np.float32)])
    edges = (levels[1:] + levels[:-1]) / 2
    return levels, np.searchsorted(edges, values).astype(np.uint8)


def find(keys, wanted):
    """Where each wanted key is in the sorted keys, or -1."""
    if not len(keys):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def pack(model):
    order = len(model)
    base = np.cumsum([1] + [len(m[0]) for m in model])  # where each order's nodes begin
    nodes = int(base[-1])
    tokens, suffix = np.zeros(nodes, np.int16), np.zeros(nodes, np.int32)
    children = np.zeros(nodes, np.int64)
    for n, (keys, _, _) in enumerate(model, 1):
        own = slice(base[n - 1], base[n])
        tokens[own] = (keys & np.uint64((1 << BITS) - 1)).astype(np.int16)
        if n == 1:
            children[0] = len(keys)
        else:
            parent = find(model[n - 2][0], keys >> np.uint64(BITS))
            if (parent < 0).any():
                raise SystemExit(f"an n-gram of order {n} is there without its first {n - 1} pieces")
            np.add.at(children, parent + base[n - 2], 1)
        found = np.full(len(keys), -1)
        for m in range(n - 1, 0, -1):
            at = find(model[m - 1][0], keys & np.uint64((1 << (BITS * m)) - 1))
            found = np.where((found < 0) & (at >= 0), at + base[m - 1], found)
        suffix[own] = np.maximum(found, 0)
    first = np.concatenate([[1], 1 + np.cumsum(children)]).astype(np.int32)
    log_values, log_index = codebook(np.concatenate([m[1] for m in model]))
    backoff = np.concatenate([m[2] for m in model])
    some = backoff != 0
    back_values, back_index = codebook(backoff[some]) if some.any() else (np.zeros(255, np.float32), np.zeros(0))
    backoffs = np.zeros(nodes, np.uint8)
    backoffs[1:][some] = back_index + 1
    log_probs = np.zeros(nodes, np.uint8)
    log_probs[1:] = log_index
    return {
        "first_child": first, "suffix": suffix,
        "log_prob_values": np.concatenate([log_values, log_values[-1:]]).astype(np.float32),
        "backoff_values": np.concatenate([[0], back_values]).astype(np.float32),
        "tokens": tokens, "log_probs": log_probs, "backoffs": backoffs}


def write_safetensors(tensors, path, metadata):
    names = {np.dtype(np.int16): "I16", np.dtype(np.int32): "I32", np.dtype(np.float32): "F32", np.dtype(np.uint8): "U8"}
    header, offset = {"__metadata__": metadata}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": names[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + t.nbytes]}
        offset += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that every tensor lies on a multiple of its element's size
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            f.write(t.tobytes())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("arpa")
    ap.add_argument("tokens")
    ap.add_argument("out")
    a = ap.parse_args()
    ids = {}
    for line in open(a.tokens, encoding="utf-8"):
        piece, number = line.rstrip("\n").rsplit(" ", 1)
        ids[piece] = int(number)
    if len(ids) > 1 << BITS:
        raise SystemExit(f"{a.tokens}: more than {1 << BITS} pieces")
    model = read_arpa(a.arpa, ids)
    if len(model) < 1 or len(model) > 7:
        raise SystemExit(f"{a.arpa}: order 1 to 7 can be packed, this has {len(model)}")
    tensors = pack(model)
    write_safetensors(tensors, a.out, {"order": str(len(model))})
    print(f"{a.out}: order {len(model)}, {len(tensors['tokens'])} nodes")


if __name__ == "__main__":
    main()
