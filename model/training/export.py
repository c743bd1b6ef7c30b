"""The daemon's format: config.json, model.safetensors (matrices float16; vectors and A_log float32), tokens.txt, and golden
vectors computed in float64 from the stored weights.

    python export.py golden EXPORT_DIR AUDIO ...       golden vectors (safetensors) of 16 kHz recordings
    python export.py hash EXPORT_DIR                   the hash by which transcripts and results name it

Golden files hold: wav (int16, half a second of silence appended), log_mel (T, 80) before normalisation, stem (J, d) after the
lookahead, layer0 and the last layer (J, d) after the block, ssm_state0 and the last (2 d, 16) at the end, logits (J, vocab),
tokens (J) argmax; and in the metadata, text.
"""
import argparse
import hashlib
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from tensors import load_file, save_file

import features
from network import Encoder
from text import best_path

TAIL = 8000                                                # samples of silence at the end of a stream


def write(folder, state, pieces, model):
    """state: Encoder.export_state() or the like; pieces: the tokeniser's, without the blank; model: the config's [model]. Blocks other
    than Mamba are for comparison: `read` takes them, the daemon does not."""
    os.makedirs(folder, exist_ok=True)
    out = {k: (v.half() if v.ndim > 1 and not k.endswith("A_log") else v.float()).contiguous() for k, v in state.items()}
    save_file(out, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    d = out["stem.norm.weight"].shape[0]
    layers = sum(k.endswith("mlp.fc2.weight") for k in out)
    block = model.get("block", "mamba")
    cfg = {"model_type": f"streaming-{block}-ctc", "sample_rate": 16000,
           "features": {"kind": "log_mel", "window": "hann_symmetric", "window_length": 400, "hop_length": 160, "fft_length": 512,
                        "n_mels": 80, "mel_scale": "htk", "f_min": 20.0, "f_max": 7600.0, "log_floor": 1e-6, "center": False},
           "stem": {"kernel": 3, "stride": 2, "lookahead": model["look"]}, "frame_hop": 640,
           "d_model": d, "n_layer": layers, "d_intermediate": out["backbone.layers.0.mlp.fc2.weight"].shape[1],
           "vocab_size": out["ctc_head.weight"].shape[0], "blank": 0, "norm_eps": 1e-5,
           **({"ssm_cfg": {"layer": "Mamba1", "d_state": 16, "d_conv": 4, "expand": 2, "dt_rank": -(-d // 16)}} if block == "mamba"
              else {"training": {k: v for k, v in model.items() if k != "inter"}})}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(cfg, f, indent=1)
    with open(os.path.join(folder, "tokens.txt"), "w", encoding="utf-8") as f:
        f.write("<blank> 0\n" + "".join(f"{p} {i + 1}\n" for i, p in enumerate(pieces)))


def read(folder):
    """-> Encoder with the stored weights, config, pieces (with the blank)."""
    with open(os.path.join(folder, "config.json")) as f:
        cfg = json.load(f)
    mamba = {"d": cfg["d_model"], "layers": cfg["n_layer"], "look": cfg["stem"]["lookahead"]}
    net = Encoder(cfg["vocab_size"], **cfg.get("training", mamba))
    net.load_export(load_file(os.path.join(folder, "model.safetensors")))
    with open(os.path.join(folder, "tokens.txt"), encoding="utf-8") as f:
        pieces = [line.rstrip("\n").rsplit(" ", 1)[0] for line in f]
    return net.eval(), cfg, pieces


def words(tokens, pieces):
    return " ".join("".join(pieces[k] for k in tokens).replace("\u2581", " ").split())


def sha256(folder):
    """The model's identity, as transcripts and results name it: of each file, its length (8 bytes, little-endian) and its content."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors", "tokens.txt"):
        with open(os.path.join(folder, name), "rb") as f:
            content = f.read()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


@torch.no_grad()
def stages(W, wav, layers, look):
    """Every stage of the network in float64, written out once more and as naively as the specification reads."""
    rms = lambda x, w: x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w
    g = {"log_mel": features.log_mel(wav)}
    x = ((g["log_mel"] - W["features.mean"]) * W["features.inv_std"]).T[None]
    x = F.silu(F.conv1d(x, W["stem.conv1.weight"], W["stem.conv1.bias"], stride=2))
    x = F.silu(F.conv1d(x, W["stem.conv2.weight"], W["stem.conv2.bias"], stride=2))[0].T
    x = rms(x, W["stem.norm.weight"])
    if look:
        h = F.pad(x.T[None], (0, look))
        x = x + F.conv1d(h, W["stem.lookahead.weight"], W["stem.lookahead.bias"], groups=x.shape[1])[0].T
    g["stem"] = x
    for i in range(layers):
        q = f"backbone.layers.{i}."
        m = q + "mixer."
        u, z = (rms(x, W[q + "norm.weight"]) @ W[m + "in_proj.weight"].T).chunk(2, -1)
        u = F.silu(F.conv1d(F.pad(u.T[None], (3, 0)), W[m + "conv1d.weight"], W[m + "conv1d.bias"], groups=u.shape[1])[0].T)
        dt, B, C = (u @ W[m + "x_proj.weight"].T).split([W[m + "dt_proj.weight"].shape[1], 16, 16], -1)
        dt = F.softplus(dt @ W[m + "dt_proj.weight"].T + W[m + "dt_proj.bias"])
        A = -torch.exp(W[m + "A_log"])
        s, y = torch.zeros_like(A), torch.empty_like(u)
        for t in range(len(u)):
            s = torch.exp(dt[t, :, None] * A) * s + (dt[t] * u[t])[:, None] * B[t]
            y[t] = s @ C[t] + W[m + "D"] * u[t]
        x = x + (y * F.silu(z)) @ W[m + "out_proj.weight"].T
        a, b = (rms(x, W[q + "norm2.weight"]) @ W[q + "mlp.fc1.weight"].T).chunk(2, -1)
        x = x + (a * F.silu(b)) @ W[q + "mlp.fc2.weight"].T
        if i in (0, layers - 1):
            g[f"layer{i}"], g[f"ssm_state{i}"] = x, s
    g["logits"] = rms(x, W["backbone.norm_f.weight"]) @ W["ctc_head.weight"].T + W["ctc_head.bias"]
    return g


def golden(folder, wav, path):
    """wav: int16 samples, without the tail."""
    _, cfg, pieces = read(folder)
    W = {k: v.double() for k, v in load_file(os.path.join(folder, "model.safetensors")).items()}
    wav = np.concatenate([wav, np.zeros(TAIL, np.int16)])
    g = stages(W, torch.from_numpy(wav).double() / 32768, cfg["n_layer"], cfg["stem"]["lookahead"])
    t = g["logits"].argmax(-1)
    text = words(best_path(t.tolist()), pieces)
    out = {k: v.float().contiguous() for k, v in g.items()}
    out["wav"], out["tokens"] = torch.from_numpy(wav), t.int()
    save_file(out, path, metadata={"text": text})
    return text


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=["golden", "hash"])
    ap.add_argument("folder")
    ap.add_argument("audio", nargs="*")
    a = ap.parse_args()
    if a.what == "hash":
        return print(sha256(a.folder))
    from data import decode
    for p in a.audio:
        name = os.path.splitext(os.path.basename(p))[0]
        print(name, "|", golden(a.folder, decode(p), os.path.join(a.folder, f"golden-{name}.safetensors")))


if __name__ == "__main__":
    main()
