"""Speech in memory, and rows made of it.

A set is a folder: Opus packs with packs.tsv (pack, start second, seconds, speaker, TEXT), or w*.pcm of int16 samples, each with
its w*.tsv (id, first sample, samples, TEXT, speaker; from synthesis and align.py also where each word ends, in samples from the first, by
commas), as prepare.py and synth/synth.py write them. All of it lies in one pool of int16 samples on the training device. Training
sees rows of one fixed length, each a little stream: leading silence or none, whole utterances one after another with pauses
between, a tail of silence. So there is one shape, no padding, and a stream of many sentences is what the model knows.

Real utterances whose words' ends are known are also cut up and put together anew: half of their phrases give way to phrases of others of
the set, so that no sentence can be known by heart (after aligned data augmentation: Lam et al. 2021).
"""
import contextlib
import glob
import os
import queue
import random
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from network import Encoder

RATE = 16000
STRETCHES = 40                                             # at most so many utterances and phrases of utterances in a row
FADE = RATE // 100                                         # samples in which one phrase gives way to the next


def decode(path):
    import soundfile
    x, rate = soundfile.read(path, dtype="int16", always_2d=True)
    if rate != RATE:
        raise SystemExit(f"{path}: {rate} Hz, not {RATE}")
    return x[:, 0]


def decode_all(paths, threads=8):
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(decode, paths))


def find_sets(speech, shares):
    """The sets below the folder `speech`: [(name, folder, share)]. shares: {name: share}; a name may be a pattern (talkie-*), whose
    sets divide its share by their sizes in bytes. A set with a name of its own belongs to no pattern."""
    found = []
    for name, share in shares.items():
        folders = [f for f in sorted(glob.glob(os.path.join(glob.escape(speech), name)))
                   if os.path.isdir(f) and (name == os.path.basename(f) or os.path.basename(f) not in shares)]
        size = [sum(os.path.getsize(p) for p in glob.glob(os.path.join(glob.escape(f), "*.*"))) for f in folders]
        found += [(os.path.basename(f), f, share * s / sum(size)) for f, s in zip(folders, size) if s]
    return found


def tables(folder):
    """The folder's w*.tsv, in order."""
    return sorted(glob.glob(os.path.join(glob.escape(folder), "w*.tsv")))


def samples_of(table):
    """The int16 samples that a w*.tsv tells of."""
    pcm = table[:-len(".tsv")] + ".pcm"
    return np.memmap(pcm, dtype=np.int16, mode="r") if os.path.getsize(pcm) else np.zeros(0, np.int16)


def read_set(folder, threads=8):
    """-> samples (int16), [(first sample, samples, TEXT, speaker, ends of words in samples or None)]"""
    if glob.glob(os.path.join(folder, "*.pcm")):
        parts, rows, base = [], [], 0
        for t in tables(folder):
            pcm = samples_of(t)
            for line in open(t, encoding="utf-8"):
                p = line.rstrip("\n").split("\t")
                if len(p) >= 4 and int(p[1]) + int(p[2]) <= len(pcm):
                    ends = [int(x) for x in p[5].split(",")] if len(p) > 5 and p[5] else None
                    rows.append((base + int(p[1]), int(p[2]), p[3], p[4] if len(p) > 4 else "", ends))
            parts.append(pcm)
            base += len(pcm)
        return parts, rows
    table = [line.rstrip("\n").split("\t") for line in open(os.path.join(folder, "packs.tsv"), encoding="utf-8")]
    names = sorted({p[0] for p in table})
    parts = decode_all([os.path.join(folder, n) for n in names], threads)
    base = dict(zip(names, np.cumsum([0] + [len(p) for p in parts])))
    rows = [(int(base[p[0]] + round(float(p[1]) * RATE)), round(float(p[2]) * RATE), p[4], p[3], None) for p in table]
    return parts, rows


class Pool:
    """Utterance i: samples first[i] to first[i] + count[i], pieces ids[i], of the set which[i], said by speaker[i]. words[i], of real
    utterances whose words' ends are known: (their ends in samples from the first, the pieces of each, gain to the set's level)."""

    def __init__(self, sets, tokens, device, synthetic=(), spare=0.0):
        """sets: [(name, folder, share)]: the part of what is heard that comes from the set. synthetic: names. spare: hours that
        add() has room for."""
        self.tokens, self.device = tokens, device
        self.names, self.shares = [s[0] for s in sets], np.asarray([s[2] for s in sets], np.float64)
        self.synthetic = np.asarray([n in synthetic for n in self.names])
        self.hours, self.level = [0.0] * len(sets), [0.05] * len(sets)
        self.first, self.count, self.which = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.ids, self.speaker, self.words = [], [], []
        read = [read_set(folder) for _, folder, _ in sets]
        room = sum(len(p) for parts, _ in read for p in parts) + int(spare * 3600 * RATE)
        self.samples, self.used = torch.zeros(room + RATE, dtype=torch.int16, device=device), 0
        for k, (parts, rows) in enumerate(read):
            self.add(k, parts, rows)

    def add(self, k, parts, rows):
        """Puts what read_set() gave to set k -> the numbers of its utterances. Those that were there keep theirs, and their tables are
        never changed in place, so one thread may add while another one plans."""
        starts = np.cumsum([0] + [len(p) for p in parts])
        if self.used + int(starts[-1]) + RATE > len(self.samples):
            raise ValueError(f"{starts[-1] / RATE / 3600:.2f} h more of {self.names[k]}: no room")
        first, count, ids, speaker, words, energy = [], [], [], [], [], []
        for i, (at, n, text, who, ends) in enumerate(rows):
            t = self.tokens.encode(" ".join(text.upper().split()))
            if not 0.35 * RATE <= n <= 22 * RATE or not t or len(t) > 120 or len(t) > 0.75 * n / 640:
                continue
            first.append(self.used + at)
            count.append(n)
            ids.append(np.asarray(t, np.int32))
            speaker.append(who)
            each = [self.tokens.encode(w) for w in text.upper().split()] if ends and not self.synthetic[k] else []
            known = len(each) == len(ends or []) and sum(each, []) == t
            if len(energy) < 300 and i % 7 == 0 or known:
                j = np.searchsorted(starts, at, "right") - 1
                x = parts[j][at - starts[j]:at - starts[j] + n].astype(np.float32)
                energy.append(float(np.sqrt((x * x).mean() + 1.0)) / 32768)
            words.append((ends, each, energy[-1]) if known else None)
        for p in parts:
            with warnings.catch_warnings():                # a read-only map is fine: nothing writes to it
                warnings.simplefilter("ignore")
                self.samples[self.used:self.used + len(p)].copy_(torch.from_numpy(p))
            self.used += len(p)
        if energy and not self.hours[k]:
            self.level[k] = float(np.median(energy))
        words = [w and (w[0], w[1], self.level[k] / w[2]) for w in words]
        self.hours[k] += sum(count) / RATE / 3600
        new = np.arange(len(self.ids), len(self.ids) + len(ids))
        self.first, self.count = np.append(self.first, np.asarray(first, np.int64)), np.append(self.count, np.asarray(count, np.int64))
        self.which = np.append(self.which, np.full(len(ids), k))
        self.speaker, self.words = self.speaker + speaker, self.words + words
        self.ids = self.ids + ids                          # last: what is counted by it has all the rest
        return new

    @property
    def share(self):
        there = np.where(np.asarray(self.hours) > 0, self.shares, 0.0)
        return there / there.sum()

    def summary(self):
        return "; ".join(f"{n} {h:.2f} h, {100 * s:.1f} %" for n, h, s in zip(self.names, self.hours, self.share))


class Rows:
    """Plans batches of rows, endlessly, in a thread of its own."""

    def __init__(self, pool, rows, frames, labels, seed, anew=0.0):
        """anew: of the utterances whose words' ends are known, so many are put together anew."""
        self.pool, self.rows, self.frames, self.labels, self.anew = pool, rows, frames, labels, anew
        self.samples = Encoder.samples(frames)
        self.r = random.Random(seed)
        self.by_set = [np.nonzero(pool.which == k)[0] for k in range(len(pool.names))]
        self.order = [[] for _ in pool.names]
        self.cut = [[int(i) for i in numbers if pool.words[i]] for numbers in self.by_set]
        self.same = {}                                     # (set, speaker): the utterances that can be cut
        for i in sum(self.cut, []):
            self.same.setdefault((pool.which[i], pool.speaker[i]), []).append(i)
        self.added = queue.SimpleQueue()                   # (set, numbers) of what the pool has got since
        self.weigh()
        self.kept = []                                     # utterances that did not fit where they came up
        self.q = queue.Queue(maxsize=8)
        self.thread = None

    def start(self):
        def work():
            while True:
                self.q.put(self.plan())
        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        return self

    def __next__(self):
        return self.q.get() if self.thread else self.plan()

    def weigh(self):
        """How likely each set's next utterance is the next."""
        mean = [self.pool.count[i].mean() if len(i) else 1.0 for i in self.by_set]
        p = np.asarray([s / m if len(i) else 0 for s, m, i in zip(self.pool.share, mean, self.by_set)])
        self.pick = list(np.cumsum(p / p.sum()))

    def draw(self):
        while not self.added.empty():
            k, new = self.added.get()
            self.by_set[k] = np.append(self.by_set[k], new)
            self.order[k] += new.tolist()                  # beside what is left of this time round
            self.r.shuffle(self.order[k])
            self.weigh()
        x = self.r.random()
        k = next((i for i, c in enumerate(self.pick) if x < c), len(self.pick) - 1)
        if not self.order[k]:
            o = self.by_set[k].tolist()
            self.r.shuffle(o)
            self.order[k] = o
        return self.order[k].pop()

    def tempo(self, synthetic, seconds, pieces):
        """How much faster than it was said, so many pieces in so many seconds, it is played this time."""
        r = self.r
        x = r.random()
        if synthetic:
            q = 1.0 if x < 0.2 else r.uniform(1.12, 1.38) if x > 0.86 else min(1.25, max(0.8, r.gauss(1.0, 0.09)))
        else:
            q = 1.0 if x < 0.3 else min(1.2, max(0.84, r.gauss(1.0, 0.07)))
        return max(min(q, 10.5 * seconds / pieces), 0.8)   # nobody says more than ten pieces a second

    def play(self, i):
        """How utterance i is played this time: [stretch], pieces, samples in the row. A stretch: first sample, samples of the pool, rate,
        place from the utterance's first, samples in the row, samples of fading, gain."""
        r, pool = self.r, self.pool
        if pool.words[i] and r.random() < self.anew:
            return self.put_together(i)
        at, n = int(pool.first[i]), int(pool.count[i])
        tts = pool.synthetic[pool.which[i]]
        cut = 0.2 if tts else 0.08
        if n > RATE:
            if r.random() < 0.4:
                c = int(r.uniform(0, cut) * RATE)
                at, n = at + c, n - c
            if r.random() < 0.4:
                n -= int(r.uniform(0, cut * 0.7) * RATE)
        q = self.tempo(tts, n / RATE, len(pool.ids[i]))
        return [(at, n, q, 0, int(n / q), 0, 1.0)], pool.ids[i], int(n / q)

    def put_together(self, i):
        """Utterance i, half of its phrases (two words, more or fewer) replaced by as long ones of others, each played its own way; of the
        same speaker, half of them."""
        r, pool = self.r, self.pool
        out, ids, pos, at = [], [], 0, 0
        own = self.tempo(False, pool.count[i] / RATE, len(pool.ids[i]))
        said = len(pool.words[i][0])
        while at < said and len(out) < STRETCHES // 2:
            n = 1
            while n < 6 and r.random() < 0.55:
                n += 1
            n = min(n, said - at)
            j, k = i, at
            if r.random() < 0.5:
                j = r.choice(self.same[pool.which[i], pool.speaker[i]] if r.random() < 0.5 else self.cut[pool.which[i]])
                n = min(n, len(pool.words[j][0]))
                k = r.randrange(len(pool.words[j][0]) - n + 1)
            at += n
            ends, each, gain = pool.words[j]
            pieces = sum(each[k:k + n], [])
            begin, end = (max(0, ends[k - 1] - FADE // 2) if k else 0), min(int(pool.count[j]), ends[k + n - 1] + FADE // 2)
            if end - begin < 0.05 * RATE * len(pieces):        # nobody says them so fast: badly aligned
                continue
            q = own if j == i else self.tempo(False, (end - begin) / RATE, len(pieces))
            long = int((end - begin) / q)
            place = max(0, pos - FADE)
            out.append((int(pool.first[j]) + begin, end - begin, q, place, long, FADE, gain * 10 ** (r.uniform(-2, 2) / 20)))
            ids += pieces
            pos = place + long
        return out, np.asarray(ids, np.int32), pos

    def plan(self):
        r, pool, S = self.r, self.pool, self.samples
        R, M = self.rows, STRETCHES
        src = np.zeros((R, M), np.int64)
        ints = np.zeros((4, R, M), np.int32)               # samples of the pool, place in the row, samples in it, of them fading at either end
        fl = np.ones((2, R, M), np.float32)                # rate, gain
        labels = np.zeros((R, self.labels), np.int32)
        lens = np.zeros(R, np.int32)
        active = np.zeros(R, np.float32)
        for b in range(R):
            x = r.random()
            pos = 0 if x < 0.3 else int(RATE * (r.uniform(0, 0.4) if x < 0.6 else r.uniform(0.4, 2.2)))
            end = S - int(RATE * r.uniform(0.35, 0.8))
            m = 0
            if r.random() < 0.03:                          # nobody speaks
                continue
            follow = None
            while m < M and pos < end - RATE // 2:
                got = None
                for _ in range(12):
                    if follow is not None:
                        i, follow = follow, None
                    elif self.kept and r.random() < 0.5:
                        i = self.kept.pop(r.randrange(len(self.kept)))
                    else:
                        i = self.draw()
                    stretches, ids, out = self.play(i)
                    if pos + out <= end and lens[b] + len(ids) <= self.labels and m + len(stretches) <= M:
                        got = i
                        break
                    if len(self.kept) < 200:
                        self.kept.append(i)
                if got is None:
                    break
                k = pool.which[i]
                level = 0.05 / max(pool.level[k], 1e-3) * 10 ** (r.uniform(-4, 4) / 20)
                for at, n, q, place, long, fade, gain in stretches:
                    src[b, m], ints[:, b, m], fl[:, b, m] = at, (n, pos + place, long, fade), (q, level * gain)
                    m += 1
                labels[b, lens[b]:lens[b] + len(ids)] = ids
                lens[b] += len(ids)
                active[b] += out
                x = r.random()
                pos += out + int(RATE * (r.uniform(0.02, 0.35) if x < 0.5 else r.uniform(0.35, 1.2) if x < 0.88 else r.uniform(1.2, 5)))
                if not pool.synthetic[k] and i + 1 < len(pool.ids) and pool.speaker[i + 1] == pool.speaker[i] and r.random() < 0.4:
                    follow = i + 1                         # the same speaker goes on
        return src, ints, fl, labels, lens, active


class More:
    """Speech that is made while the run goes on: a thread reads each folder below `folder` into set k once it holds a file named
    `ready`. said: called with a line for each."""

    def __init__(self, folder, k, pool, rows, said):
        self.folder, self.k, self.pool, self.rows, self.said = folder, k, pool, rows, said
        self.seen = set()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        cuda = self.pool.device.type == "cuda"
        side = torch.cuda.Stream(self.pool.device) if cuda else None
        while True:
            for ready in sorted(glob.glob(os.path.join(glob.escape(self.folder), "*", "ready"))):
                if ready not in self.seen:
                    self.seen.add(ready)
                    with torch.cuda.stream(side) if cuda else contextlib.nullcontext():
                        self.read(os.path.dirname(ready))
            time.sleep(1)

    def read(self, folder):
        before = self.pool.hours[self.k]
        try:
            new = self.pool.add(self.k, *read_set(folder))
        except Exception as e:                             # a run does not end for want of more
            self.said(f"more speech: {folder}: {e}")
            return
        if self.pool.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        self.rows.added.put((self.k, new))
        self.said(f"more speech: {self.pool.hours[self.k] - before:.2f} h, {self.pool.hours[self.k]:.2f} h now")
