"""A valid model folder of a few kilobytes with random weights, to be damaged in one way or another."""

import json
import random
import struct

CONFIG = {
    "model_type": "streaming-mamba-ctc",
    "sample_rate": 16000,
    "features": {"kind": "log_mel", "window": "hann_symmetric", "window_length": 400, "hop_length": 160,
                 "fft_length": 512, "n_mels": 8, "mel_scale": "htk", "f_min": 20.0, "f_max": 7600.0,
                 "log_floor": 1e-6, "center": False},
    "stem": {"kernel": 3, "stride": 2, "lookahead": 2},
    "frame_hop": 640,
    "d_model": 8, "n_layer": 1, "d_intermediate": 0, "vocab_size": 8, "blank": 0, "norm_eps": 1e-5,
    "ssm_cfg": {"layer": "Mamba1", "d_state": 8, "d_conv": 4, "expand": 2, "dt_rank": 8},
}
TOKENS = "<blank> 0\n<unk> 1\n\u2581ONE 2\n\u2581TWO 3\n\u2581THREE 4\nS 5\nER 6\nING 7\n"

_LAYER = "backbone.layers.0."
SHAPES = {
    "features.mean": [8], "features.inv_std": [8],
    "stem.conv1.weight": [8, 8, 3], "stem.conv1.bias": [8],
    "stem.conv2.weight": [8, 8, 3], "stem.conv2.bias": [8],
    "stem.norm.weight": [8], "stem.lookahead.weight": [8, 1, 3], "stem.lookahead.bias": [8],
    _LAYER + "norm.weight": [8],
    _LAYER + "mixer.in_proj.weight": [32, 8],
    _LAYER + "mixer.conv1d.weight": [16, 1, 4], _LAYER + "mixer.conv1d.bias": [16],
    _LAYER + "mixer.x_proj.weight": [24, 16],
    _LAYER + "mixer.dt_proj.weight": [16, 8], _LAYER + "mixer.dt_proj.bias": [16],
    _LAYER + "mixer.A_log": [16, 8], _LAYER + "mixer.D": [16],
    _LAYER + "mixer.out_proj.weight": [8, 16],
    "backbone.norm_f.weight": [8],
    "ctc_head.weight": [8, 8], "ctc_head.bias": [8],
}


def size(shape):
    count = 1
    for extent in shape:
        count *= extent
    return count


class Tensors:
    """Header entries and data of a safetensors file; `entries` and `data` can be changed before `encoded`."""

    def __init__(self):
        source = random.Random(7)
        self.entries = {}
        self.data = bytearray()
        for name, shape in SHAPES.items():
            values = [source.gauss(0, 1) for _ in range(size(shape))]
            begin = len(self.data)
            self.data += struct.pack(f"<{len(values)}f", *values)
            self.entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(self.data)]}

    def encoded(self, header=None):
        text = json.dumps(self.entries) if header is None else header
        text = text if isinstance(text, bytes) else text.encode()
        return struct.pack("<Q", len(text)) + text + bytes(self.data)


def write(folder, config=None, tensors=None, tokens=TOKENS):
    """config: an object or text; tensors: bytes. None leaves config and tensors as they should be."""
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG if config is None else config
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / "model.safetensors").write_bytes(Tensors().encoded() if tensors is None else tensors)
    (folder / "tokens.txt").write_bytes(tokens if isinstance(tokens, bytes) else tokens.encode())
    return folder
