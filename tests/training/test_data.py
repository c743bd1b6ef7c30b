"""Speech in memory, and what comes to it while rows are planned.

    python3 -m pytest tests/training/test_data.py
"""
import os
import sys

import numpy as np
import pytest
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training"))
import data

RATE = data.RATE


class Letters:
    """A piece a letter."""

    def encode(self, text):
        return [1 + ord(c) - ord("A") for c in text if c != " "]


def made(folder, texts, value):
    """A set of one-second utterances whose samples all have one value each: value, value + 1, ..."""
    os.makedirs(folder)
    with open(folder / "w0.pcm", "wb") as pcm, open(folder / "w0.tsv", "w") as tsv:
        for i, text in enumerate(texts):
            np.full(RATE, value + i, np.int16).tofile(pcm)
            tsv.write(f"{i}\t{i * RATE}\t{RATE}\t{text}\tsomebody\n")
    return str(folder)


def planned(rows):
    """The utterances of one plan: {value of the samples: pieces}, of the rows with one utterance, and all values."""
    src, ints, _, labels, lens, _ = rows.plan()
    pool, values = rows.pool, set()
    for b in range(len(lens)):
        for m in range(data.STRETCHES):
            if ints[0, b, m]:
                part = pool.samples[src[b, m]:src[b, m] + ints[0, b, m]]
                assert (part == part[0]).all(), "an utterance's samples are its own"
                values.add(int(part[0]))
    return values


@pytest.fixture
def pool(tmp_path):
    sets = [("real", made(tmp_path / "real", ["AB", "CD"], 100), 0.5), ("synthetic", made(tmp_path / "syn", ["EF"], 200), 0.5)]
    return data.Pool(sets, Letters(), torch.device("cpu"), synthetic=("synthetic",), spare=3.5 / 3600)


def test_what_is_added_is_planned_beside_the_rest(pool, tmp_path):
    rows = data.Rows(pool, 4, 300, 40, seed=1)
    assert set().union(*(planned(rows) for _ in range(10))) == {100, 101, 200}
    new = pool.add(1, *data.read_set(made(tmp_path / "more", ["GH", "IJ"], 300)))
    assert new.tolist() == [3, 4] and [pool.ids[i].tolist() for i in new] == [[7, 8], [9, 10]]
    assert set().union(*(planned(rows) for _ in range(10))) == {100, 101, 200}, "not before the rows were told"
    rows.added.put((1, new))
    assert set().union(*(planned(rows) for _ in range(10))) == {100, 101, 200, 300, 301}
    assert pool.hours == pytest.approx([2 / 3600, 3 / 3600]) and pool.share.tolist() == [0.5, 0.5]


def spelt(folder, texts):
    """A set whose letters are a quarter of a second each, of samples that are all 5000 and its piece; every word's end is known."""
    os.makedirs(folder)
    at = 0
    with open(folder / "w0.pcm", "wb") as pcm, open(folder / "w0.tsv", "w") as tsv:
        for i, text in enumerate(texts):
            x = np.repeat(5000 + np.asarray(Letters().encode(text), np.int16), RATE // 4)
            x.tofile(pcm)
            ends = np.cumsum([len(w) * RATE // 4 for w in text.split()])
            tsv.write(f"{i}\t{at}\t{len(x)}\t{text}\tspeaker {i % 2}\t{','.join(map(str, ends))}\n")
            at += len(x)
    return str(folder)


def test_utterances_put_together_anew_say_their_pieces(tmp_path):
    texts = ["ABC DE F GH", "IJ KLM NO", "PQ R STU", "VW XYZ"]
    pool = data.Pool([("real", spelt(tmp_path / "real", texts), 1.0)], Letters(), torch.device("cpu"))
    rows = data.Rows(pool, 4, 600, 200, seed=1, anew=1.0)
    said = set()
    for i in list(range(4)) * 50:
        stretches, ids, long = rows.play(i)
        pos, pieces = 0, []
        for at, n, q, place, out, fade, gain in stretches:
            assert place == max(0, pos - fade) and out == int(n / q) and fade == data.FADE and 0.75 < gain < 1.3
            x = pool.samples[at + fade // 2:at + n - fade // 2].numpy() - 5000      # without what fades
            pieces += x[np.flatnonzero(np.diff(x, prepend=-1))].tolist()
            pos = place + out
        assert pieces == ids.tolist() and pos == long, "what is heard is what is to be read"
        said.add(tuple(ids.tolist()))
    assert len(said) > 80 and len({len(s) for s in said}) > 3
    _, ints, _, labels, lens, active = rows.plan()
    assert (lens > 20).all() and (ints[3][ints[0] > 0] == data.FADE).all() and (active > 4 * RATE).all()
    assert data.Rows(pool, 4, 600, 200, seed=1).play(0)[0][0][5] == 0, "not unless it was asked for"


def test_words_that_do_not_fit_their_text_are_not_cut(tmp_path):
    folder = spelt(tmp_path / "real", ["AB CD", "EF GH"])
    lines = open(tmp_path / "real" / "w0.tsv").read().splitlines()
    with open(tmp_path / "real" / "w0.tsv", "w") as f:
        f.write(lines[0] + ",99\n" + lines[1] + "\n")
    pool = data.Pool([("real", folder, 1.0)], Letters(), torch.device("cpu"))
    assert pool.words[0] is None and pool.words[1][:2] == ([8000, 16000], [[5, 6], [7, 8]])
    rows = data.Rows(pool, 4, 300, 40, seed=1, anew=1.0)
    assert len(rows.play(0)[0]) == 1 and rows.cut == [[1]]


def test_a_set_without_speech_has_no_share_until_it_gets_some(tmp_path):
    os.makedirs(tmp_path / "empty")
    for name in ("w0.pcm", "w0.tsv"):
        (tmp_path / "empty" / name).touch()
    sets = [("real", made(tmp_path / "real", ["AB"], 100), 0.2), ("synthetic", str(tmp_path / "empty"), 0.8)]
    pool = data.Pool(sets, Letters(), torch.device("cpu"), synthetic=("synthetic",), spare=2 / 3600)
    rows = data.Rows(pool, 4, 300, 40, seed=1)
    assert pool.share.tolist() == [1.0, 0.0] and planned(rows) == {100}
    rows.added.put((1, pool.add(1, *data.read_set(made(tmp_path / "more", ["CD"], 300)))))
    assert set().union(*(planned(rows) for _ in range(10))) == {100, 300} and pool.share.tolist() == pytest.approx([0.2, 0.8])


def test_more_than_there_is_room_for_is_refused_and_changes_nothing(pool, tmp_path):
    before = (pool.samples.clone(), pool.hours[:], list(pool.ids))
    with pytest.raises(ValueError, match="no room"):
        pool.add(1, *data.read_set(made(tmp_path / "more", ["GH"] * 4, 300)))
    assert torch.equal(pool.samples, before[0]) and pool.hours == before[1] and len(pool.ids) == len(before[2])
