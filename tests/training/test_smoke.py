"""The whole recipe on the processor, small: made-up speech -> prepare -> train -> resume -> export -> golden vectors, in under two
minutes. The export is left in $SIDEWINDER_SMOKE_EXPORT, if set, for the engine's own test to load: golden-smoke.safetensors
beside it says what must come out.

    python -m pytest tests/training        (needs torch, numpy, safetensors, sentencepiece; see model/training/requirements.txt)
"""
import json
import os
import re
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sentencepiece")
import numpy as np
from safetensors.torch import load_file

HERE = os.path.dirname(os.path.abspath(__file__))
TRAINING = os.path.join(HERE, "..", "..", "model", "training")
sys.path.insert(0, TRAINING)
import evaluate
import export

WORDS = "ALFA BRAVO CHARLIE DELTA ECHO FOXTROT GOLF HOTEL INDIA JULIET KILO LIMA".split()


def word(i, n=4000):
    """A word is a pair of tones; the second differs more than the first."""
    t = np.arange(n) / 16000
    x = np.where(np.arange(n) < n // 2, np.sin(2 * np.pi * (300 + 60 * (i % 4)) * t), np.sin(2 * np.pi * (900 + 170 * i) * t))
    return x * np.hanning(n) * 8000


def make_set(folder, utterances, seed):
    os.makedirs(folder)
    rng = np.random.default_rng(seed)
    pos = 0
    with open(os.path.join(folder, "w0.pcm"), "wb") as pcm, open(os.path.join(folder, "w0.tsv"), "w") as tsv:
        for k in range(utterances):
            said = rng.integers(0, len(WORDS), rng.integers(2, 5))
            x = np.concatenate([np.zeros(1600)] + [np.concatenate([word(i), np.zeros(800)]) for i in said])
            x = (x + rng.normal(0, 20, len(x))).astype(np.int16)
            x.tofile(pcm)
            tsv.write(f"{k}\t{pos}\t{len(x)}\t{' '.join(WORDS[i] for i in said)}\tsomebody\n")
            pos += len(x)


def run(*args):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    r = subprocess.run([sys.executable, *args], cwd=TRAINING, env=env, capture_output=True, text=True, timeout=150)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    d = tmp_path_factory.mktemp("smoke")
    make_set(d / "speech" / "tones", 60, 1)
    make_set(d / "dev", 6, 2)
    with open(d / "text.tsv", "w") as f:
        f.write("".join(f"\t\t\t\t{' '.join(WORDS[i:] + WORDS[:i])}\n" for i in range(len(WORDS))))
    run("text.py", str(d / "text.tsv"), "--out", str(d / "tokenizer.model"), "--vocab", "32")
    with open(d / "tiny.toml", "w") as f:
        f.write(open(os.path.join(TRAINING, "configs", "default.toml")).read().split("[sets]")[0] + "[sets]\ntones = 1.0\n")
    tiny = ["model.d=64", "model.layers=2", "model.inter=[0]", "train.rows=2", "train.frames=110", "train.warm=8", "train.drop=0",
            "train.masks=1", "train.lr=0.004"]
    common = [str(d / "tiny.toml"), "--speech", str(d / "speech"), "--tokens", str(d / "tokenizer.model"), "--minutes", "1",
              "--noise-clips", "2", "--set", *tiny]
    first = run("train.py", *common, "--out", str(d / "run"), "--steps", "50", "--dev", str(d / "dev"))
    again = run("train.py", *common, "--out", str(d / "run2"), "--steps", "3", "--resume", str(d / "run" / "last"))
    return d, first, again


def losses(text):
    return [float(x) for x in re.findall(r"ctc ([0-9.]+)", text)]


def test_loss_falls_and_training_resumes(trained):
    d, first, again = trained
    untrained = 110 * np.log(33) / 20                      # about what guessing costs a token
    assert losses(again)[-1] < 6 < untrained
    with open(d / "run2" / "last" / "state.json") as f:
        assert json.load(f)["step"] == 53
    assert "final WER" in first


def test_export_is_the_daemons_format(trained):
    d, _, _ = trained
    folder = d / "run" / "export"
    net, cfg, pieces = export.read(folder)
    assert cfg["model_type"] == "streaming-mamba-ctc" and cfg["vocab_size"] == len(pieces) == 33 and pieces[0] == "<blank>"
    w = load_file(folder / "model.safetensors")
    assert w["backbone.layers.1.mixer.in_proj.weight"].dtype == torch.float16
    assert w["backbone.layers.1.mixer.A_log"].dtype == w["stem.norm.weight"].dtype == torch.float32
    utts = evaluate.load(d / "dev")
    path = folder / "golden-smoke.safetensors"
    text = export.golden(folder, utts[0][0], path)
    g = load_file(path)
    # the network that was trained agrees with the one written out naively in float64
    got = net(net.normalise(evaluate.log_mel(g["wav"].float()[None] / 32768, evaluate.mel_bank().float())))[0][0]
    assert ((got - g["logits"]).norm() / g["logits"].norm()).item() < 1e-4
    assert evaluate.transcribe(net, [utts[0][0]], pieces, "cpu") == [text]
    if keep := os.environ.get("SIDEWINDER_SMOKE_EXPORT"):
        import shutil
        shutil.copytree(folder, keep, dirs_exist_ok=True)
