"""safetensors files: eight bytes of header length, a JSON header, the tensors. (Debian has no package of it.)"""

import json
import struct

import torch

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {v: k for k, v in DTYPES.items()}


def save_file(tensors, path, metadata=None):
    """tensors: {name: tensor}; metadata: {text: text}"""
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    order = sorted(
        tensors, key=lambda k: (-tensors[k].element_size(), k)
    )  # so that each lies at a multiple of its element's size
    for k in order:
        t = tensors[k]
        n = t.numel() * t.element_size()
        header[k] = {"dtype": NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for k in order:
            f.write(tensors[k].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def load_file(path):
    """-> {name: tensor}"""
    with open(path, "rb") as f:
        data = f.read()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    out = {}
    for k, v in json.loads(data[8:start]).items():
        if k != "__metadata__":
            a, b = v["data_offsets"]
            flat = (
                torch.frombuffer(bytearray(data[start + a : start + b]), dtype=DTYPES[v["dtype"]])
                if b > a
                else torch.empty(0, dtype=DTYPES[v["dtype"]])
            )
            out[k] = flat.reshape(v["shape"])
    return out
