"""float8.json's numbers: the largest inputs that out_proj and fc2 really get."""

import json
import os
import sys

import pytest
import soundfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "model", "training"))
import export
import float8
import network


@pytest.fixture
def wave():
    x, _ = soundfile.read(os.path.join(HERE, "..", "data", "quilter.flac"), dtype="int16")
    return x[: 5 * 16000]


def test_peaks_are_those_of_the_products_inputs(wave, monkeypatch):
    net, _, pieces = export.read(os.path.join(ROOT, "model", "pretrained"))
    whose = {
        net.p(f"backbone.layers.{i}.{part}.weight").data_ptr(): (name, i)
        for i in range(net.layers)
        for part, name in (("mixer.out_proj", "out_proj"), ("mlp.fc2", "fc2"))
    }
    given, linear = {}, network.linear

    def watched(x, w, b=None):
        if w.data_ptr() in whose:
            given[whose[w.data_ptr()]] = x.abs().max().item()
        return linear(x, w, b)

    monkeypatch.setattr(network, "linear", watched)
    found = float8.peaks(net, pieces, [wave])
    assert len(given) == 2 * net.layers
    for (name, i), peak in given.items():
        assert found[name][i] == pytest.approx(peak, rel=6e-3)  # three digits


@pytest.mark.parametrize("model", ["pretrained", "pretrained/low-latency"])
def test_shipped_models_have_room_for_other_speech(wave, model):
    folder = os.path.join(ROOT, "model", model)
    net, _, pieces = export.read(folder)
    with open(os.path.join(folder, "float8.json")) as f:
        stored = json.load(f)
    found = float8.peaks(net, pieces, [wave])
    for name, peaks in found.items():
        assert len(stored[name]) == net.layers
        assert all(peak < 4 * most for peak, most in zip(peaks, stored[name]))
