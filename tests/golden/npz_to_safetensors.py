#!/usr/bin/env python3
"""Rewrites the arrays of an .npz file as .safetensors, which the tests read. Standard library only.

usage: npz_to_safetensors.py IN.npz OUT.safetensors [ARRAY ...]      (all numeric arrays where none is named)
"""
import ast
import itertools
import json
import operator
import struct
import sys
import zipfile

DTYPES = {"<f4": "F32", "<f8": "F64", "<i2": "I16", "<i4": "I32", "<i8": "I64", "|i1": "I8", "|u1": "U8"}


def read_npy(data):
    """(dtype string, shape, bytes) of one .npy file in C order."""
    assert data[:6] == b"\x93NUMPY"
    width, start = ("<H", 10) if data[6] == 1 else ("<I", 12)
    (length,) = struct.unpack(width, data[8:start])
    header = ast.literal_eval(data[start : start + length].decode("latin1"))
    dtype, shape, values = header["descr"], header["shape"], data[start + length :]
    if header["fortran_order"]:
        size, strides, step = int(dtype[2:]), [], int(dtype[2:])
        for extent in shape:
            strides.append(step)
            step *= extent
        starts = (sum(map(operator.mul, at, strides)) for at in itertools.product(*map(range, shape)))
        values = b"".join(values[start : start + size] for start in starts)
    return dtype, shape, values


def main(source, target, *names):
    header, blobs, offset = {}, [], 0
    with zipfile.ZipFile(source) as archive:
        for entry in archive.namelist():
            name = entry.removesuffix(".npy")
            dtype, shape, data = read_npy(archive.read(entry))
            if dtype not in DTYPES or (names and name not in names):
                continue
            header[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [offset, offset + len(data)]}
            blobs.append(data)
            offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


if __name__ == "__main__":
    main(*sys.argv[1:])
