"""Word times and confidences of an exported model: how far off they are, and the constants that put them right.

    python calibrate.py MODEL_DIR --program build/bin/sidewinder --dev SET --sentences TEXT.txt.xz [--align 40] [--write]

Times: Festival (Debian's festival, festvox-kallpc16k, festvox-us-slt-hts) speaks sentences and says where each word begins and
ends. A CTC model brings a word out when it is sure of it, which is later than it was said, by much the same amount for all words;
the medians of these differences, fitted on every other sentence and reported on the rest, become "begin_shift" and "end_shift". Also
reported: the distance to the forced alignment of the reference by the same model's CTC (Viterbi), for --align utterances of SET, before
the shifts.

Confidences: words of SET read rightly or not (alignment with the least errors) against the probability that the decoder gives;
p -> 1 / (1 + exp(-(scale logit(p) + offset))) (Platt 1999), fitted by maximum likelihood. The table and the expected calibration
error (Guo et al. 2017, ten bins of equal width) are of speakers that the fit did not hear: two halves, each fitted on the other.

--write puts the four numbers into MODEL_DIR/config.json, "words". Words are read without them, whatever is there before.
"""
import argparse
import difflib
import json
import os
import random
import re
import subprocess
import tempfile
import wave

import numpy as np

from data import RATE, read_set
from synth.passages import opener

VOICES = ["kal_diphone", "cmu_us_slt_arctic_hts"]
BINS = 10


def save_wav(path, samples):
    with wave.open(path, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(RATE)
        f.writeframes(samples.astype("<i2").tobytes())


def plain_model(model, folder):
    """A copy of the model folder, by links, whose config has no "words"."""
    os.makedirs(folder)
    for name in os.listdir(model):
        if name != "config.json":
            os.symlink(os.path.join(os.path.abspath(model), name), os.path.join(folder, name))
    with open(os.path.join(model, "config.json")) as f:
        config = json.load(f)
    config.pop("words", None)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    return folder


def read_words(a, model, wavs):
    """-> for each file its words as `sidewinder transcribe --format json` has them."""
    out = subprocess.run([a.program, "transcribe", "--model", model, "--format", "json", *a.options.split(), *wavs],
                         check=True, stdout=subprocess.PIPE).stdout
    documents = json.loads(out)
    return [d["words"] for d in (documents if len(wavs) > 1 else [documents])]


def spoken(a, folder):
    """Sentences spoken by Festival -> [(wav, [(word, begin, end)])], seconds."""
    fit = re.compile(r"[A-Z][A-Za-z', ]+\.")
    lines = [s.strip() for s in opener(a.sentences)]
    lines = [s for s in lines if fit.fullmatch(s) and 5 <= len(s.split()) <= 16 and not re.search(r"\b[A-Z]{2}", s)]
    random.Random(1).shuffle(lines)
    out = []
    for v, voice in enumerate(VOICES):
        script = [f"(voice_{voice})"]
        for i, s in enumerate(lines[v * a.count:(v + 1) * a.count]):
            stem = os.path.join(folder, f"{voice}-{i}")
            script.append(f'(set! utt (Utterance Text "{s}")) (utt.synth utt) (utt.wave.resample utt {RATE}) '
                          f'(utt.save.wave utt "{stem}.wav" \'riff) (set! fd (fopen "{stem}.txt" "w")) '
                          f"(set! w (utt.relation.first utt 'Word)) "
                          f"(while w (format fd \"%s %f %f\\n\" (item.name w) (item.feat w 'word_start) (item.feat w 'word_end)) "
                          f"(set! w (item.next w))) (fclose fd)")
            out.append(stem)
        path = os.path.join(folder, voice + ".scm")
        with open(path, "w") as f:
            f.write("\n".join(script))
        subprocess.run(["festival", "-b", path], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    result = []
    for stem in out:
        with open(stem + ".txt") as f:
            words = [line.split() for line in f]
        result.append((stem + ".wav", [(re.sub("[^a-z']", "", w.lower()), float(b), float(e)) for w, b, e in words]))
    return result


def matched(said, read):
    """Pairs of positions where the two lists of words agree."""
    for a, b, n in difflib.SequenceMatcher(None, said, read, autojunk=False).get_matching_blocks():
        yield from ((a + k, b + k) for k in range(n))


def correct(said, read):
    """For each word read, whether the alignment with the least errors pairs it with the same word."""
    cost = np.zeros((len(said) + 1, len(read) + 1), int)
    cost[:, 0], cost[0] = np.arange(len(said) + 1), np.arange(len(read) + 1)
    for i, x in enumerate(said, 1):
        for j, y in enumerate(read, 1):
            cost[i, j] = min(cost[i - 1, j - 1] + (x != y), cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    right, i, j = [False] * len(read), len(said), len(read)
    while i and j:
        if cost[i, j] == cost[i - 1, j - 1] + (said[i - 1] != read[j - 1]):
            right[j - 1] = said[i - 1] == read[j - 1]
            i, j = i - 1, j - 1
        elif cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return right


def median_error(pairs, shift=0.0):
    return float(np.median(np.abs(np.array([out - true for true, out in pairs]) + shift)))


def times(a, model, folder):
    """-> {"begin_shift", "end_shift"}, seconds"""
    files = spoken(a, folder)
    found = []                                             # (sentence, (true, read) begin, end)
    for i, ((_, said), read) in enumerate(zip(files, read_words(a, model, [w for w, _ in files]))):
        for x, y in matched([w for w, _, _ in said], [w["word"] for w in read]):
            found.append((i, (said[x][1], read[y]["start"]), (said[x][2], read[y]["end"])))
    shifts = {}
    print(f"\n{len(found)} words of {len(files)} sentences by {len(VOICES)} voices; distance from the known place, ms, "
          f"on the sentences that were not fitted\n\n| | shift | median before | median after | 90th percentile after |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for k, name in ((1, "begin"), (2, "end")):
        fit = [f[k] for f in found if f[0] % 2 == 0]
        rest = [f[k] for f in found if f[0] % 2]
        shift = -float(np.median([out - true for true, out in fit]))
        after = np.abs(np.array([out - true for true, out in rest]) + shift)
        print(f"| {name} | {1000 * shift:.0f} | {1000 * median_error(rest):.0f} | {1000 * np.median(after):.0f} | "
              f"{1000 * np.percentile(after, 90):.0f} |")
        shifts[f"{name}_shift"] = round(shift, 3)
    return shifts


def alignment(a, utterances, read):
    """Prints how far the words' times lie from the forced alignment of the reference."""
    import torch
    import export
    import features
    from align import HOP, MIDDLE, viterbi
    from text import Tokens
    net, cfg, _ = export.read(a.model)
    tokens = Tokens(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer.model"))
    begins, ends = [], []
    step = max(1, len(utterances) // a.align)
    for (samples, text, _), words in list(zip(utterances, read))[::step][:a.align]:
        x = torch.from_numpy(np.concatenate([samples, np.zeros(export.TAIL, np.int16)])).float() / 32768
        with torch.no_grad():
            z = net(net.normalise(features.log_mel(x)[None]))[0].log_softmax(-1)
        said = text.split()
        parts = [tokens.encode(w) for w in said]
        (_, spans), = viterbi(z, [z.shape[1]], [sum(parts, [])])
        at = np.cumsum([0] + [len(p) for p in parts])
        for i, j in matched([w.lower() for w in said], [w["word"] for w in words]):
            begins.append((spans[at[i]][0] * HOP + MIDDLE, words[j]["start"]))
            ends.append(((spans[at[i + 1] - 1][1] + 1) * HOP + MIDDLE, words[j]["end"]))
    print(f"\nforced alignment, {len(begins)} words of {a.align} utterances: median distance {1000 * median_error(begins):.0f} ms "
          f"(begin), {1000 * median_error(ends):.0f} ms (end); the same frame for "
          f"{100 * np.mean([abs(x - y) < HOP / 2 for x, y in begins]):.1f} % and "
          f"{100 * np.mean([abs(x - y) < HOP / 2 for x, y in ends]):.1f} %")


def logit(p):
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return np.log(p / (1 - p))


def platt(p, right):
    """-> scale, offset, by Newton's method."""
    x, w = np.stack([logit(p), np.ones_like(p)], 1), np.array([1.0, 0.0])
    for _ in range(50):
        q = 1 / (1 + np.exp(-x @ w))
        w = w - np.linalg.solve((x * (q * (1 - q))[:, None]).T @ x + 1e-9 * np.eye(2), x.T @ (q - right))
    return w


def calibrated(p, w):
    return 1 / (1 + np.exp(-(w[0] * logit(p) + w[1])))


def reliability(p, right):
    """-> expected calibration error, rows (from, to, words, mean confidence, share that is right)"""
    which = np.minimum((p * BINS).astype(int), BINS - 1)
    rows = [(k / BINS, (k + 1) / BINS, int(at.sum()), float(p[at].mean()), float(right[at].mean()))
            for k in range(BINS) if (at := which == k).any()]
    return sum(n * abs(c - r) for _, _, n, c, r in rows) / len(p), rows


def confidences(utterances, read):
    """-> {"confidence_scale", "confidence_offset"}"""
    speakers = sorted({s for _, _, s in utterances})
    p, right, half = [], [], []
    for (_, text, speaker), words in zip(utterances, read):
        ok = correct(text.lower().split(), [w["word"] for w in words])
        p += [w["confidence"] for w in words]
        right += ok
        half += [speakers.index(speaker) % 2] * len(words)
    p, right, half = np.array(p), np.array(right, float), np.array(half)
    after = np.zeros_like(p)
    for k in (0, 1):
        after[half == k] = calibrated(p[half == k], platt(p[half != k], right[half != k]))
    raw, _ = reliability(p, right)
    ece, rows = reliability(after, right)
    print(f"\n{len(p)} words, {100 * right.mean():.1f} % right; expected calibration error {100 * raw:.1f} % before, "
          f"{100 * ece:.1f} % after\n\n| confidence | words | mean | right |\n| --- | ---: | ---: | ---: |")
    for low, high, n, mean, share in rows:
        print(f"| {low:.1f} to {high:.1f} | {n} | {mean:.3f} | {share:.3f} |")
    scale, offset = platt(p, right)
    return {"confidence_scale": round(float(scale), 4), "confidence_offset": round(float(offset), 4)}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--program", required=True)
    ap.add_argument("--dev", required=True, help="a set as data.read_set reads it")
    ap.add_argument("--sentences", required=True, help="sentences for Festival, one a line (.xz too)")
    ap.add_argument("--count", type=int, default=120, help="sentences a voice")
    ap.add_argument("--limit", type=int, default=10 ** 9, help="utterances of --dev, spread over it")
    ap.add_argument("--align", type=int, default=0, help="utterances to align; needs PyTorch")
    ap.add_argument("--options", default="--engine cpu", help="for `sidewinder transcribe`")
    ap.add_argument("--write", action="store_true")
    a = ap.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        model = plain_model(a.model, os.path.join(tmp, os.path.basename(os.path.abspath(a.model))))
        words = times(a, model, tmp)
        parts, rows = read_set(a.dev)
        flat = np.concatenate(parts)
        rows = rows[::max(1, len(rows) // a.limit)]
        utterances = [(flat[r[0]:r[0] + r[1]], r[2], r[3]) for r in rows]
        wavs = [os.path.join(tmp, f"u{i}.wav") for i in range(len(utterances))]
        for path, (samples, _, _) in zip(wavs, utterances):
            save_wav(path, samples)
        read = read_words(a, model, wavs)
        if a.align:
            alignment(a, utterances, read)
        words |= confidences(utterances, read)
    print(f'\n"words": {json.dumps(words)}')
    if a.write:
        path = os.path.join(a.model, "config.json")
        with open(path) as f:
            config = json.load(f)
        config["words"] = words
        with open(path, "w") as f:
            json.dump(config, f, indent=1)


if __name__ == "__main__":
    main()
