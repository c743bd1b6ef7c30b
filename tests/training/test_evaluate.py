"""What the evaluation measures, on the shipped model and real speech."""

import os
import sys

import numpy as np
import soundfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "model", "training"))
import evaluate
import export
from synth.synth import last_sounds

PIECES = ["<blank>", "\u2581THE", "\u2581", "CA", "T", "S"]


def test_words_and_the_frames_that_finish_them():
    frames = [0, 1, 1, 0, 2, 3, 0, 4, 4, 5, 0, 0]
    assert evaluate.words_out(frames, PIECES) == [("THE", 1), ("CATS", 9)]
    assert evaluate.words_out([0, 4, 0, 4], PIECES) == [("TT", 3)] and evaluate.words_out([0, 0], PIECES) == []


def test_where_speech_ends():
    rng = np.random.default_rng(1)
    x = rng.normal(0, 3, 32000)
    x[3200:16000] += rng.normal(0, 2000, 12800)
    x[20000:20800] += rng.normal(0, 30, 800)  # a breath
    assert evaluate.speech_end(x.astype(np.int16)) == 16000


def test_last_sounds_of_words():
    voc = {c: i for i, c in enumerate(" .,abcd\u02c8", 1)}
    tokens = [voc[c] for c in "a\u02c8b, cd ."]
    assert last_sounds(tokens, 2, voc) == [2, 6]
    assert last_sounds(tokens, 3, voc) == []  # phonemes that make another number of words say nothing


def test_delays_of_the_shipped_model():
    net, _, pieces = export.read(os.path.join(ROOT, "model", "pretrained"))
    x, _ = soundfile.read(os.path.join(HERE, "..", "data", "quilter.flac"), dtype="int16")
    x = x[: int(5.8 * 16000)]
    text = "MISTER QUILTER IS THE APOSTLE OF THE MIDDLE CLASSES AND WE ARE GLAD TO WELCOME HIS GOSPEL"
    whole = evaluate.Utterance(x, text, "")
    frames = evaluate.best_tokens(net, [x], "cpu")
    (last,), total = evaluate.delays([whole], frames, pieces, net.look)
    assert total == 1 and 0.32 < last < 1.5  # the lookahead is 320 ms
    told = whole._replace(ends=[len(x)] * len(text.split()))  # all words said to end with the recording
    found, total = evaluate.delays([told], frames, pieces, net.look)
    assert total == 17 and 12 <= len(found) <= 17
    assert found[-1] == last and found[0] < found[-2] < last and found[0] < -3
