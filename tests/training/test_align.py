"""Forced alignment and the cuts between words; speech through MP3.

    python3 -m pytest tests/training/test_align.py
"""
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
TRAINING = os.path.join(ROOT, "model", "training")
sys.path.insert(0, TRAINING)
import align
import coded
from data import RATE, decode, read_set
from text import best_path


def test_the_path_is_the_likeliest_of_all():
    torch.manual_seed(0)
    log_probs = torch.randn(3, 6, 4, dtype=torch.float64).log_softmax(-1)
    frames, tokens = [6, 5, 4], [[1, 1], [2, 3, 1], [3]]
    for b, (best, spans) in enumerate(align.viterbi(log_probs, frames, tokens)):
        paths = [p for p in itertools.product(range(4), repeat=frames[b]) if best_path(p) == tokens[b]]
        scores = [sum(float(log_probs[b, t, k]) for t, k in enumerate(p)) for p in paths]
        assert best == pytest.approx(max(scores))
        path = paths[int(np.argmax(scores))]
        assert [path[first] for first, _ in spans] == tokens[b] and sum(last - first + 1 for first, last in spans) == sum(k > 0 for k in path)
        assert all(path[t] == k for k, (first, last) in zip(tokens[b], spans) for t in range(first, last + 1))


def test_too_few_frames_give_nothing():
    assert align.viterbi(torch.zeros(1, 2, 3), [2], [[1, 1]]) == [(-np.inf, [])], "a repeated token needs a blank between"


def test_the_cut_is_where_it_is_quietest():
    x = np.full(RATE, 1000, np.int16)
    x[8000:8400] = 0
    assert abs(align.quietest(x, 7500, 9000) - 8200) <= 16
    assert 2000 <= align.quietest(x, 2000, 3000) <= 3000
    ends = align.word_ends(x, [1, 2], [(5, 5), (13, 13), (20, 21)], (0.0, 0.0))
    assert ends[-1] == RATE and abs(ends[0] - 8200) <= 16, "frames 5 and 13 are 0.24 and 0.52 s: the pause is between them"


@pytest.fixture(scope="module")
def quilter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quilter")
    samples = decode(os.path.join(ROOT, "tests", "data", "quilter.flac"))
    text = " ".join(open(os.path.join(ROOT, "tests", "data", "quilter.txt")).read().split())
    samples.tofile(folder / "w0.pcm")
    with open(folder / "w0.tsv", "w") as f:
        f.write(f"0\t0\t{len(samples)}\t{text}\tls-1272\n1\t0\t{len(samples)}\tTHIS IS NOT WHAT ANYBODY SAYS\tls-1272\n")
    return folder


def test_words_of_a_recording_end_between_the_words(quilter):
    run = subprocess.run([sys.executable, os.path.join(TRAINING, "align.py"), os.path.join(ROOT, "model", "pretrained"), str(quilter),
                          "--device", "cpu"], check=True, capture_output=True, text=True)
    assert "1 of 2 utterances aligned" in run.stdout
    (samples,), ((_, n, text, _, ends), (*_, nothing)) = read_set(quilter)
    assert nothing is None and len(ends) == len(text.split()) and ends[-1] == n and all(np.diff([0, *ends]) > 0)
    power = np.convolve(samples.astype(float) ** 2, np.ones(400) / 400, "same")
    pause = [b for a, b in zip(text.split(), ends) if a in ("GOSPEL", "MATTER")]        # the utterances' ends
    assert len(pause) == 2 and all(power[b] < 1e-3 * np.mean(power) for b in pause)


@pytest.mark.skipif(soundfile.__version__ < "0.13", reason="bit rates want the soundfile of requirements.txt")
def test_mp3_keeps_every_sample_in_its_place(quilter, tmp_path):
    run = subprocess.run([sys.executable, os.path.join(TRAINING, "coded.py"), str(quilter), str(tmp_path), "--jobs", "1"], check=True,
                         capture_output=True, text=True)
    assert "0.01 h" in run.stdout and (tmp_path / "ready").exists()
    assert (tmp_path / "w0.tsv").read_bytes() == (quilter / "w0.tsv").read_bytes()
    x = np.fromfile(quilter / "w0.pcm", np.int16)
    for kbit in sorted(set(coded.KBITS)):
        y = coded.through_mp3(x, kbit)
        near = [np.corrcoef(x[20:-20], np.roll(y, s)[20:-20])[0, 1] for s in range(-3, 4)]
        assert len(y) == len(x) and np.argmax(near) == 3 and 0.9 < near[3] < 1, f"{kbit} kbit/s"
