"""The language model's estimate and pruning against direct computations; text drawn from a trigram in CMU Sphinx's binary form."""
import collections
import itertools
import json
import math
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

TRAINING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training")
sys.path.insert(0, TRAINING)
from lm import build, pack, sphinx

ORDER, VOCABULARY = 4, 12  # pieces 1 to 11; 11 is never said
WEIGHTS = (1.0, 0.4)


def texts():
    r = np.random.default_rng(5)
    for n in (4000, 3000):
        ids = [1, 2, 3]
        while len(ids) < n:  # something to learn: a piece follows from the two before it, most of the time
            ids.append(int((ids[-1] * 3 + ids[-2] * n) % 10 + 1) if r.random() < 0.7 else int(r.integers(1, 11)))
        yield np.array(ids)


def sources():
    return [(w, *build.counts(ids, ORDER)) for w, ids in zip(WEIGHTS, texts())]


def pieces(key, n):
    return tuple(int(key) >> build.BITS * i & (1 << build.BITS) - 1 for i in range(n - 1, -1, -1))


def key_of(gram):
    key = 0
    for piece in gram:
        key = key << build.BITS | piece
    return key


def grams(model):
    return [{pieces(k, n) for k in keys} for n, (keys, *_) in enumerate(model, 1)]


def probabilities(model, grams):
    return build.probability(model, np.array([key_of(g) for g in grams], np.uint64), len(grams[0]))


def check_normalised(model):
    r = np.random.default_rng(6)
    for context in [tuple(int(x) for x in r.integers(1, VOCABULARY, ORDER - 1)) for _ in range(300)]:
        assert probabilities(model, [context + (w,) for w in range(1, VOCABULARY)]).sum() == pytest.approx(1, abs=1e-6)


def raw_counts():
    """Of each order, each source: {n-gram: count} of the text as a ring."""
    result = []
    for n in range(1, ORDER + 1):
        result.append([])
        for ids in texts():
            ring = [int(i) for i in ids] + [int(i) for i in ids[:ORDER - 1]]
            result[-1].append(collections.Counter(tuple(ring[i:i + n]) for i in range(len(ids))))
    return result


def direct(kept):
    """p(gram) of interpolated Kneser-Ney over the n-grams of `kept`, by dictionaries: each order's counts from the one above."""
    counts = raw_counts()[-1]
    tables = {}
    for n in range(ORDER, 0, -1):
        share, total = collections.Counter(), collections.Counter()
        for weight, source in zip(WEIGHTS, counts):
            d = build.discounts(np.array(list(source.values())))
            for gram, c in source.items():
                total[gram[:-1]] += weight * c
                if n == 1 or gram in kept[n - 1]:
                    share[gram] += weight * (c - float(d[min(c, 3)]))
        tables[n] = share, total
        lower = []
        for source in counts:
            lower.append(collections.Counter())
            for gram, c in source.items():
                lower[-1][gram[1:]] += 1 if gram in kept[n - 1] else c
        counts = lower

    def p(gram):
        if not gram:
            return 1 / (VOCABULARY - 1)
        share, total = tables[len(gram)]
        listed = [share[gram[:-1] + (w,)] for w in range(1, VOCABULARY) if gram[:-1] + (w,) in share]
        if not listed:
            return p(gram[1:])
        sums = total[gram[:-1]]
        return share[gram] / sums + (1 - sum(listed) / sums) * p(gram[1:])
    return p


@pytest.mark.parametrize("least", [(0, 0, 0, 0), (0, 2, 3, 3)])
def test_estimate(least):
    model = build.estimate(sources(), ORDER, VOCABULARY, least=least)
    p = direct(grams(model))
    some = sorted(grams(model)[-1])[::5] + [tuple(map(int, g)) for g in np.random.default_rng(7).integers(1, VOCABULARY, (200, ORDER))]
    assert probabilities(model, some) == pytest.approx([p(g) for g in some], rel=1e-4)
    check_normalised(model)


def test_pruned_to_a_number():
    whole = build.estimate(sources(), ORDER, VOCABULARY, least=[0] * ORDER)
    text = build.shares(sources(), ORDER)
    counts = [{g: sum(w * c[g] for w, c in zip(WEIGHTS, order)) for g in set().union(*order)} for order in raw_counts()]
    size = sum(counts[0].values())
    direct_worth = {}
    for n, (found, (keys, logs, _)) in enumerate(zip(build.worth(whole, text), whole[1:]), 2):
        listed = {pieces(k, n) for k in keys}
        for value, key, log_p in zip(found, keys, logs):
            gram = pieces(key, n)
            others = [gram[:-1] + (w,) for w in range(1, VOCABULARY) if gram[:-1] + (w,) in listed]
            left = 1 - probabilities(whole, others).sum()
            under = 1 - probabilities(whole, [g[1:] for g in others]).sum()
            # the back-off as its definition has it: what the listed pieces leave, over what the lower order leaves them
            backed_off = left / under * probabilities(whole, [gram[1:]])[0]
            expected = counts[n - 1][gram] / size * (log_p - math.log(backed_off))
            assert value == pytest.approx(expected, rel=1e-3, abs=1e-7)
            direct_worth[gram] = value
    most = 400
    kept = build.best(whole, text, most)
    assert most <= sum(map(len, kept[1:])) < most + ORDER  # a tie of an n-gram and its beginnings goes together
    kept = [{pieces(k, n) for k in keys} for n, keys in enumerate(kept, 1)]
    inner = {g[:i] for order in kept for g in order for i in range(1, len(g))}
    assert all(g in kept[len(g) - 1] for g in inner)
    dropped = [v for g, v in direct_worth.items() if g not in kept[len(g) - 1]]
    assert all(direct_worth[g] >= max(dropped) for order in kept[1:] for g in order if g not in inner)

    model = build.estimate(sources(), ORDER, VOCABULARY, kept=[np.array(sorted(map(key_of, k)), np.uint64) for k in kept])
    assert grams(model)[1:] == kept[1:]
    check_normalised(model)
    p = direct(kept)
    some = sorted(kept[-1]) + [tuple(map(int, g)) for g in np.random.default_rng(8).integers(1, VOCABULARY, (300, ORDER))]
    assert probabilities(model, some) == pytest.approx([p(g) for g in some], rel=1e-4)


WORDS = ["</s>", "<s>", "a.", "it's", "no", "yes"]
ONE = {"</s>": 0.2, "<s>": 1e-9, "a.": 0.1, "it's": 0.2, "no": 0.2, "yes": 0.3 - 1e-9}
TWO = {("<s>", "it's"): 0.5, ("<s>", "no"): 0.2, ("it's", "a."): 0.1, ("it's", "no"): 0.4, ("it's", "yes"): 0.2, ("no", "</s>"): 0.5,
       ("no", "yes"): 0.1}
THREE = {("<s>", "it's", "no"): 0.6, ("<s>", "it's", "yes"): 0.2, ("it's", "no", "</s>"): 0.7}
LISTED = {**{(w,): p for w, p in ONE.items()}, **TWO, **THREE}


def spoken(*gram):
    """p of the last word after the others, by the definition of backing off."""
    return LISTED[gram] if gram in LISTED else backoff(gram[:-1]) * spoken(*gram[1:])


def backoff(context):
    listed = [w for w in WORDS if (*context, w) in LISTED]
    return (1 - sum(LISTED[(*context, w)] for w in listed)) / (1 - sum(spoken(*context[1:], w) for w in listed))


def written(path):
    """That trigram in the binary form, as the module's description has it."""
    def newest_first(gram):
        return [WORDS.index(w) for w in reversed(gram)]

    def logarithm(x):
        return math.log(x) / math.log(1.0001)

    def packed(rows, count, widths):
        number = 0
        for row in reversed(rows):
            for value, width in zip(reversed(row), reversed(widths)):
                number = number << width | value
        return number.to_bytes(((count + 1) * sum(widths) + 7) // 8 + 8, "little")

    two, three = sorted(TWO, key=newest_first), sorted(THREE, key=newest_first)
    unigrams = b"".join(struct.pack("<ffI", logarithm(ONE[w]), logarithm(backoff((w,))), sum(newest_first(g)[0] < i for g in two))
                        for i, w in enumerate(WORDS)) + struct.pack("<ffI", 0, 0, len(two))
    tables = np.zeros((3, 1 << 16), "<f4")
    tables[0, 7:7 + len(two)] = [logarithm(TWO[g]) for g in two]
    tables[1, 300:300 + len(two)] = [logarithm(backoff(g)) for g in two]
    tables[2, 65000:65000 + len(three)] = [logarithm(THREE[g]) for g in three]
    rows2 = [(WORDS.index(g[0]), 300 + i, 7 + i, sum(newest_first(t)[:2] < newest_first(g) for t in three)) for i, g in enumerate(two)]
    rows3 = [(WORDS.index(g[0]), 65000 + i) for i, g in enumerate(three)]
    word, child = len(WORDS).bit_length(), len(three).bit_length()
    names = "".join(w + "\0" for w in WORDS).encode()
    path.write_bytes(sphinx.MAGIC + struct.pack("<B4I", 3, len(WORDS), len(two), len(three), 1) + tables.tobytes() + unigrams
                     + packed([*rows2, (0, 0, 0, len(three))], len(two), (word, 16, 16, child))
                     + packed(rows3, len(three), (word, 16)) + struct.pack("<I", len(names)) + names)
    return str(path)


def test_a_trigram_is_read(tmp_path):
    model = sphinx.Trigram(written(tmp_path / "lm.bin"))
    assert model.words == WORDS
    for n, (keys, p, backoffs) in enumerate(model.levels, 1):
        grams = [tuple(WORDS[key // len(WORDS) ** i % len(WORDS)] for i in range(n - 1, -1, -1)) for key in keys.tolist()]
        assert set(grams) == {g for g in LISTED if len(g) == n} and sorted(keys) == keys.tolist()
        assert p == pytest.approx([LISTED[g] for g in grams], rel=1e-4)
        assert backoffs == pytest.approx([backoff(g) if n < 3 else 1 for g in grams], rel=1e-4)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "lm.bin").write_bytes(b"\\data\\" + bytes(100))
    with pytest.raises(SystemExit, match="lm.bin: not a trigram of CMU Sphinx"):
        sphinx.Trigram(str(tmp_path / "lm.bin"))


def test_words_are_drawn_as_likely_as_they_are(tmp_path):
    model = sphinx.Trigram(written(tmp_path / "lm.bin"))
    drawn = sphinx.Sampler(model, np.random.default_rng(1))
    size, times = len(WORDS), 40000
    for older, newer in itertools.product(WORDS, WORDS):
        context = WORDS.index(older) * size + WORDS.index(newer)
        found = np.bincount(drawn.draw(3, np.full(times, context)), minlength=size) / times
        expected = np.array([spoken(older, newer, w) for w in WORDS])
        assert np.abs(found - expected).max() < 5 * math.sqrt(0.25 / times), (older, newer)


def test_sentences_are_drawn(tmp_path):
    """Sentences from their beginning to their end, without initials, as likely as the trigram has them."""
    lines = list(sphinx.sentences(sphinx.Trigram(written(tmp_path / "lm.bin")), 400000, np.random.default_rng(2), walkers=2000))
    assert {w for line in lines for w in line.split()} == {"IT'S", "NO", "YES"}
    first = collections.Counter(line.split()[0] for line in lines)
    allowed = {w: spoken("<s>", w) for w in ("it's", "no", "yes")}
    for w, p in allowed.items():
        assert first[w.upper()] / len(lines) == pytest.approx(p / sum(allowed.values()), abs=0.01)


def test_over_words(tmp_path):
    """Text -> ARPA -> packed: the commonest words in the order of their hashes, all others one; each n-gram's probability."""
    r = np.random.default_rng(9)
    said = ["SEA", "SHIP", "MAST", "SAIL", "WHALE", "AHAB"]
    lines = ["\t\t\t\t" + " ".join(said[i] for i in r.choice(6, 9, p=[.3, .25, .2, .15, .06, .04])) for _ in range(300)]
    (tmp_path / "text.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "packs.tsv").write_text("\t\t\t\tNOTHING TO AVOID\n")

    def run(module, *args):
        subprocess.run([sys.executable, "-m", module, *map(str, args)], cwd=TRAINING, check=True, capture_output=True)
    run("lm.build", tmp_path / "text.tsv", "--words", 4, "--order", 3, "--out", tmp_path / "arpa", "--avoid", tmp_path / "packs.tsv")
    run("lm.pack", tmp_path / "arpa", "--words", tmp_path / "words")

    data = (tmp_path / "words").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    types = {"I64": "<i8", "I32": "<i4", "U16": "<u2", "U8": "u1", "F32": "<f4"}
    t = {k: np.frombuffer(data[8 + size:][slice(*v["data_offsets"])], types[v["dtype"]]) for k, v in header.items() if k != "__metadata__"}
    ids = {w: t["words"].tolist().index(pack.word_hash(w)) + 1 for w in ("SEA", "SHIP", "MAST", "SAIL")}
    assert sorted(ids.values()) == [1, 2, 3, 4] and (t["words"][1:] > t["words"][:-1]).all()
    assert pack.word_hash("FOOBAR") % (1 << 64) == 0x85944171F73967E8, "FNV-1a's published value"
    ids["<unk>"] = 5
    names = {i: w for w, i in ids.items()}

    def walk(node, gram):
        for c in range(t["first_child"][node], t["first_child"][node + 1]):
            longer = (*gram, names[t["tokens"][c]])
            found[longer] = t["log_prob_values"][t["log_probs"][c]]
            walk(c, longer)
    found = {}
    walk(0, ())
    rows = [line.split() for line in (tmp_path / "arpa").read_text().splitlines() if line[:1] in "-0" and line[:1]]
    listed = {}
    for row in rows:
        words = [x for x in row[1:] if x in ids]
        listed[tuple(words)] = float(row[0]) * math.log(10)
    assert found.keys() == listed.keys() and ("SEA", "SHIP", "<unk>") in found
    assert max(abs(found[g] - listed[g]) for g in found) < 0.2           # one of 255 values, and the nearest of them
    assert all(abs(found[g] - listed[g]) <= np.abs(t["log_prob_values"] - listed[g]).min() + 1e-4 for g in found)
