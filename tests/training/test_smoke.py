"""The whole recipe on the processor, small: made-up speech -> train -> resume -> export -> golden vectors -> the C++ engine reads
the export, in under two minutes.

    SIDEWINDER_BIN=build/bin/sidewinder python3 -m pytest tests/training
"""
import json
import math
import os
import re
import shutil
import subprocess
import sys
import wave

import numpy as np
import pytest
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
TRAINING = os.path.join(HERE, "..", "..", "model", "training")
sys.path.insert(0, TRAINING)
import evaluate
import export
import test_whisper
from tensors import load_file, save_file

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
    r = subprocess.run([sys.executable, *args], cwd=TRAINING, env=env, capture_output=True, text=True, timeout=900)
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
        f.write(open(os.path.join(TRAINING, "configs", "default.toml")).read().split("[sets]")[0] + "[sets]\ntones = 0.9\nsynthetic = 0.1\n")
    tiny = ["model.d=64", "model.layers=2", "model.inter=[0]", "train.rows=2", "train.frames=110", "train.warm=8", "train.drop=0",
            "train.masks=1", "train.lr=0.004"]
    common = [str(d / "tiny.toml"), "--speech", str(d / "speech"), "--tokens", str(d / "tokenizer.model"), "--minutes", "60",
              "--noise-clips", "2", "--set", *tiny]
    make_set(d / "synthetic", 5, 3)
    make_set(d / "more" / "0", 20, 4)
    (d / "more" / "0" / "ready").touch()
    make_set(d / "more" / "1", 20, 5)                      # not ready yet
    first = run("train.py", *common, "--out", str(d / "run"), "--steps", "50", "--keep", "2", "--dev", str(d / "dev"),
                "--synthetic", str(d / "synthetic"), "--more", str(d / "more"), "--more-hours", "0.1")
    again = run("train.py", *common, "--out", str(d / "run2"), "--steps", "3", "--resume", str(d / "run" / "last"))
    return d, first, again, common


def losses(text):
    return [float(x) for x in re.findall(r"ctc ([0-9.]+)", text)]


def test_training_with_a_listener(trained):
    d, first, _, common = trained
    assert set(re.findall(r"heard ([0-9.]+) ", first)) == {"0.000"}
    said = run("train.py", *common, "train.listen_after=1", "--listener", test_whisper.listener(d), "--init", str(d / "run" / "export"), "--out", str(d / "run3"), "--steps", "3")
    assert float(re.search(r"heard ([0-9.]+) ", said).group(1)) > 1          # foretold by chance: 1.5 a frame, and more than a frame a token
    net, _, _ = export.read(d / "run3" / "export")
    assert not any("listener" in name for name in net.names)


def test_loss_falls_and_training_resumes(trained):
    d, first, again, _ = trained
    untrained = 110 * np.log(33) / 20                      # about what guessing costs a token
    assert losses(again)[-1] < 6 < untrained
    with open(d / "run2" / "last" / "state.json") as f:
        assert json.load(f)["step"] == 53
    assert "final WER" in first
    assert first.count("more speech: 0.01 h") == 1         # the folder that was ready


def test_the_mean_of_the_run(trained):
    """Weights of every 20th step from mean = 0.1 of the run on: of 50 steps, those after 20 and 40."""
    d, first, _, _ = trained
    end, mean = (load_file(d / "run" / f / "model.safetensors") for f in ("export", "export-mean"))
    name = "backbone.layers.0.mlp.fc1.weight"
    assert end.keys() == mean.keys() and (end[name] != mean[name]).any() and "WER of the mean" in first
    export.read(str(d / "run" / "export-mean"))


def test_kept_exports_are_averaged(trained):
    d, _, _, _ = trained
    kept = [str(d / "run" / f"export-{i}") for i in (1, 2)]
    run("average.py", *kept, "--out", str(d / "mean"))
    one, two, mean = (load_file(os.path.join(f, "model.safetensors")) for f in [*kept, str(d / "mean")])
    name = "backbone.layers.0.mlp.fc1.weight"
    assert (one[name] != two[name]).any() and mean.keys() == one.keys()
    assert torch.equal(mean[name], ((one[name].double() + two[name].double()) / 2).half())
    export.read(str(d / "mean"))


def test_export_is_the_daemons_format(trained):
    d, _, _, _ = trained
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


def spoken(logits, pieces, samples):
    """The best path of golden logits as the engine tells it: (word, first sample, last sample, confidence); none ends after the
    recording."""
    words, before = [], 0
    for j, (score, k) in enumerate(zip(*(t.tolist() for t in logits.double().log_softmax(-1).max(-1)))):
        if k and not pieces[k].startswith("<"):
            if k == before:
                words[-1][3][-1] = max(words[-1][3][-1], score)
            else:
                if pieces[k].startswith("\u2581") or not words:
                    words.append(["", 640 * j + 360, 0, []])
                words[-1][0] += pieces[k].lstrip("\u2581")
                words[-1][3].append(score)
            words[-1][2] = 640 * (j + 1) + 360
        before = k
    return [(w, min(a, samples), min(b, samples), math.exp(sum(scores) / len(scores))) for w, a, b, scores in words if w]


@pytest.mark.skipif("SIDEWINDER_BIN" not in os.environ, reason="SIDEWINDER_BIN does not say where the program is")
def test_the_engine_reads_the_export(trained):
    """After so little training blanks are all that comes out. With biases that make all tokens equally likely on the whole, every
    frame says something, and the engine must find the same words at the same samples with the same confidences."""
    d, _, _, _ = trained
    folder = d / "talkative"
    shutil.copytree(d / "run" / "export", folder)
    said = np.concatenate([u.samples for u in evaluate.load(d / "dev")])
    path = folder / "golden.safetensors"
    export.golden(folder, said, path)
    w = load_file(folder / "model.safetensors")
    w["ctc_head.bias"] -= load_file(path)["logits"].mean(0)
    save_file(w, folder / "model.safetensors", {"format": "pt"})
    export.golden(folder, said, path)
    want = spoken(load_file(path)["logits"], export.read(folder)[2], len(said))
    with wave.open(str(d / "said.wav"), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(16000)
        f.writeframes(said.tobytes())
    r = subprocess.run([os.environ["SIDEWINDER_BIN"], "transcribe", "-m", str(folder), "-f", "json", "--engine", "cpu", str(d / "said.wav")],
                       capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    got = json.loads(r.stdout)["words"]
    assert len(want) > 3 and sum(len(w[0]) for w in want) > 100
    assert [(w["word"].upper(), w["start_sample"], w["end_sample"]) for w in got] == [w[:3] for w in want]
    assert max(abs(w["confidence"] - c) for w, (_, _, _, c) in zip(got, want)) < 1e-3      # three decimals are printed
