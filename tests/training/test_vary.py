"""What Kokoro's speech is varied by: only where it should, and nothing at strength 0.

    python3 -m pytest tests/training/test_vary.py
"""
import os
import sys

import pytest
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training", "synth"))
from vary import intoned, slurred, uneven


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


def test_durations_are_stretched_about_as_often_as_shortened():
    x = uneven(400, 30, 1.0, "cpu")
    assert x.shape == (400, 30) and (x > 0).all() and abs(torch.log(x).mean()) < 0.01
    spread = torch.log(x).std(1)
    assert spread.min() < 0.05 < 0.25 < spread.max(), "each utterance draws its own strength"
    assert torch.equal(uneven(3, 30, 0.0, "cpu"), torch.ones(3, 30))


def test_sounds_are_drawn_towards_their_neighbours_within_the_utterance():
    ln = torch.tensor([20, 13])
    same = torch.ones(2, 5, 20)
    mask = (torch.arange(20) < ln[:, None])[:, None].float()
    assert torch.allclose(slurred(same, ln, 1.0), same * mask), "what is the same all along stays, to its ends"
    x = torch.randn(2, 5, 20)
    torch.manual_seed(2)
    y = slurred(x, ln, 1.0)
    assert (y[1, :, 13:] == 0).all() and (y - x * mask).abs().max() > 0.1
    step = lambda z: (z[1, :, 1:13] - z[1, :, :12]).abs().mean()
    assert step(y) < step(x), "smoother"
    z = x.clone()
    z[1, :, 13:] = 99
    torch.manual_seed(2)
    assert torch.allclose(slurred(z, ln, 1.0)[1], y[1]), "what lies behind its end says nothing"
    assert torch.allclose(slurred(x, ln, 0.0), x * mask)


def test_melodies_change_where_there_is_voice():
    f0 = torch.where(torch.rand(6, 1, 200) < 0.3, torch.full((), 2.0), 120 + 40 * torch.rand(6, 1, 200))
    y = intoned(f0, 1.0)
    assert torch.equal(y[f0 <= 10], f0[f0 <= 10]), "unvoiced stays"
    heard = y[f0 > 10]
    assert (heard >= 50).all() and (heard <= 550).all() and (heard != f0[f0 > 10]).float().mean() > 0.99
    assert torch.allclose(intoned(f0, 0.0), f0, rtol=1e-4)
