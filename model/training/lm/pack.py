"""Pack an ARPA n-gram over the recogniser's pieces, or over words, into a file that the decoder maps into memory.

    python -m lm.pack lm.arpa tokens.txt lm.safetensors
    python -m lm.pack words.arpa --words words.safetensors

Any ARPA file will do whose words are the pieces of tokens.txt, or with --words any of at most 65,533 words. The n-grams become one tree: node 0 is the empty context,
its children are the pieces, theirs the bigrams, level after level, the children of a node side by side and sorted. Tensors:

    tokens      U16 (nodes)      the last piece of the node's n-gram; node 0: 0 (I16 likewise)
    first_child I32 (nodes + 1)  its children are nodes first_child[i] to first_child[i + 1] - 1
    suffix      I32 (nodes)      the node of its longest proper suffix that is a node: where a look-up backs off to
    log_probs   U8 (nodes)       index into log_prob_values, F32 (256), natural log
    backoffs    U8 (nodes)       index into backoff_values, F32 (256), natural log; 0 stands for none
    words       I64 (words)      over words: the bits of each word's hash (FNV-1a, 64 bits, of its letters in lower case) as a signed
                                 number, sorted; the tokens are their places, from 1 on, and one more for <unk>
"""
import argparse
import json
import math
import struct

import numpy as np

BITS = 9        # a piece's; seven of them fit into 64 bits
WORD_BITS = 21  # a word's; three
MOST_WORDS = 65_533
UNKNOWN = "<unk>"


def word_hash(word):
    """FNV-1a (Fowler, Noll and Vo) of the letters in lower case, its 64 bits as a signed number."""
    value = 0xCBF29CE484222325
    for byte in word.lower().encode():
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return value - (value >> 63 << 64)


def words_of(path):
    """The words of an ARPA file -> {word: its place among the sorted hashes, from 1 on}, the hashes."""
    words, inside = [], False
    for line in open(path, encoding="utf-8"):
        if line.startswith("\\"):
            inside = line.startswith("\\1-grams:")
        elif inside and line.strip() and line.split()[1] != UNKNOWN:
            words.append(line.split()[1])
    hashes = sorted({word_hash(w) for w in words})
    if not 0 < len(hashes) == len(words) <= MOST_WORDS:
        raise SystemExit(f"{path}: {len(words)} words, {len(hashes)} hashes: must be as many, 1 to {MOST_WORDS}")
    place = {h: i for i, h in enumerate(hashes, 1)}
    return {**{w: place[word_hash(w)] for w in words}, UNKNOWN: len(words) + 1}, np.array(hashes)


def read_arpa(path, ids, bits=BITS):
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
                key = key << bits | ids[piece]
            rows.append((key, float(fields[0]), float(fields[1 + n]) if len(fields) > 1 + n else 0.0))
        except (KeyError, ValueError, IndexError) as error:
            raise SystemExit(f"{path}:{number}: not an n-gram over its own words or the pieces of tokens.txt ({error!r})") from None
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


def pack(model, bits=BITS):
    order = len(model)
    base = np.cumsum([1] + [len(m[0]) for m in model])  # where each order's nodes begin
    nodes = int(base[-1])
    tokens, suffix = np.zeros(nodes, np.uint16), np.zeros(nodes, np.int32)
    children = np.zeros(nodes, np.int64)
    for n, (keys, _, _) in enumerate(model, 1):
        own = slice(base[n - 1], base[n])
        tokens[own] = (keys & np.uint64((1 << bits) - 1)).astype(np.uint16)
        if n == 1:
            children[0] = len(keys)
        else:
            parent = find(model[n - 2][0], keys >> np.uint64(bits))
            if (parent < 0).any():
                raise SystemExit(f"an n-gram of order {n} is there without its first {n - 1} pieces")
            np.add.at(children, parent + base[n - 2], 1)
        found = np.full(len(keys), -1)
        for m in range(n - 1, 0, -1):
            at = find(model[m - 1][0], keys & np.uint64((1 << (bits * m)) - 1))
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
    names = {np.dtype(np.int64): "I64", np.dtype(np.uint16): "U16", np.dtype(np.int32): "I32", np.dtype(np.float32): "F32", np.dtype(np.uint8): "U8"}
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
    ap.add_argument("tokens", nargs="?", help="the recogniser's tokens.txt")
    ap.add_argument("out")
    ap.add_argument("--words", action="store_true")
    a = ap.parse_args()
    if (a.tokens is None) != a.words:
        raise SystemExit("say either tokens.txt, for an n-gram over pieces, or --words")
    bits, ids, words = (WORD_BITS, *words_of(a.arpa)) if a.words else (BITS, {}, None)
    for line in open(a.tokens, encoding="utf-8") if a.tokens else []:
        piece, number = line.rstrip("\n").rsplit(" ", 1)
        ids[piece] = int(number)
    if a.tokens and len(ids) > 1 << bits:
        raise SystemExit(f"{a.tokens}: more than {1 << bits} pieces")
    model = read_arpa(a.arpa, ids, bits)
    if len(model) < 1 or len(model) > 64 // bits:
        raise SystemExit(f"{a.arpa}: order 1 to {64 // bits} can be packed, this has {len(model)}")
    tensors = pack(model, bits)
    if a.words:
        tensors = {"words": words, **tensors}
    write_safetensors(tensors, a.out, {"order": str(len(model))})
    print(f"{a.out}: order {len(model)}, {len(tensors['tokens'])} nodes")


if __name__ == "__main__":
    main()
