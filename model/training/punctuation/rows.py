"""text.npz (prepare.py) -> rows to train on: consecutive sentences as pieces, with pauses and wrong words put in."""
import numpy as np
import torch

from punctuation.pieces import PAUSE
from punctuation.spoken import MARKS

NOTHING = 255                                              # no word is decided here


class Source:
    """Text of one source; part of it, by sentences."""

    def __init__(self, arrays, name, held_out, keep):
        self.pieces, self.lengths, self.labels = (arrays[f"{name}/{k}"] for k in ("pieces", "lengths", "labels"))
        ends = np.cumsum(arrays[f"{name}/sentences"], dtype=np.int64)
        self.starts = np.concatenate([[0], ends[:-1]])
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])    # of a word's first piece
        cut = int(len(self.starts) * (1 - held_out))
        first = 0 if keep == "train" else self.starts[cut]
        self.end = self.starts[cut] if keep == "train" else len(self.lengths)
        self.starts = self.starts[:cut] if keep == "train" else self.starts[cut:]
        self.first = int(first)


def row(source, start, length, ahead, r=None, noise=0.0, pauses=(0.0, 0.0, 0.0)):
    """Words from `start` on -> pieces (length), labels (length): that of the word decided after each piece, or NOTHING. A
    pause is heard as `ahead` PAUSE pieces, each of which counts as a word. r: a random generator, for noise and pauses."""
    n = min(length, source.end - start)
    word = np.arange(start, start + n)
    label = source.labels[word].astype(np.int64)
    heard = word.copy()
    pause = np.zeros(n, bool)
    if r is not None:
        mark = label % len(MARKS)
        rate = np.where(mark == 0, pauses[2], np.where(mark == 1, pauses[1], pauses[0]))
        pause = r.random(n) < rate
        if noise:
            k = r.random(n)
            wrong = k < noise * 2 / 3
            heard[wrong] = r.integers(source.first, source.end, wrong.sum())
            stays = (k < noise * 2 / 3) | (k >= noise) | (label != 0)     # the rest is not heard at all
            heard, label, pause = heard[stays], label[stays], pause[stays]
    times = 1 + ahead * pause
    event = np.repeat(np.arange(len(heard)), times)
    is_pause = np.ones(len(event), bool)
    is_pause[np.cumsum(times) - times] = False
    size = np.where(is_pause, 1, source.lengths[heard[event]]).astype(np.int64)
    end = np.cumsum(size)
    which = np.repeat(np.arange(len(event)), size)
    within = np.arange(end[-1]) - np.repeat(end - size, size)
    pieces = np.where(is_pause[which], PAUSE, source.pieces[np.minimum(source.offsets[heard[event[which]]] + within, len(source.pieces) - 1)])
    target = np.full(end[-1], NOTHING, np.int64)
    decided = np.where(is_pause, NOTHING, label[event])
    target[end[ahead:] - 1] = decided[:-ahead]
    out = np.full((2, length), PAUSE, np.int64)
    out[1] = NOTHING
    m = min(length, end[-1])
    out[0, :m], out[1, :m] = pieces[:m], target[:m]
    return out


class Rows(torch.utils.data.IterableDataset):
    """Endless batches: pieces, labels (rows, length)."""

    def __init__(self, path, conf, seed=0):
        self.path, self.conf, self.seed = path, conf, seed

    def __iter__(self):
        c = self.conf["train"]
        info = torch.utils.data.get_worker_info()
        r = np.random.default_rng([self.seed, info.id if info else 0])
        with np.load(self.path) as f:
            arrays = dict(f)
        sources = [Source(arrays, n, c["held_out"], "train") for n in self.conf["sources"]]
        # Rows are longer than sentences, so each source's share of rows is its share of what is heard.
        share = np.array(list(self.conf["sources"].values()))
        while True:
            batch = []
            for k in r.choice(len(sources), c["rows"], p=share / share.sum()):
                s = sources[k]
                start = int(r.choice(s.starts[:-4])) + (int(r.integers(0, 12)) if r.random() < 0.2 else 0)
                noise = r.random() * c["noise"][1] if r.random() < c["noise"][0] else 0.0
                batch.append(row(s, start, c["length"], c["words_ahead"], r, noise, r.random() * np.array(c["pauses"])))
            yield tuple(torch.from_numpy(np.stack(batch)).unbind(1))


def held_out(arrays, conf, source, limit):
    """-> pieces, labels (rows, length): held-out text of a source as it stands, `limit` rows at most, spread over it."""
    c = conf["train"]
    s = Source(arrays, source, c["held_out"], "held out")
    starts, at = [], s.first
    for begin in s.starts:                                 # rows that follow each other; none is more than `length` pieces
        if s.offsets[begin] - s.offsets[at] >= c["length"] - 160:
            starts.append(at)
            at = int(begin)
    starts = (starts or [s.first])[:: max(1, len(starts) // limit)][:limit]
    return torch.from_numpy(np.stack([row(s, b, c["length"], c["words_ahead"]) for b in starts])).unbind(1)
