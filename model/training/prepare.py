"""Bring speech into the form that training reads: a folder of w*.pcm (int16, 16 kHz, mono) with w*.tsv.

    python prepare.py packs FOLDER OUT          Opus packs with packs.tsv: decoded
    python prepare.py librispeech FOLDER OUT    LibriSpeech as downloaded (speaker/chapter/*.flac with *.trans.txt)
    python prepare.py libritts FOLDER OUT       LibriTTS as downloaded (*.wav with *.normalized.txt)
    python prepare.py commonvoice FOLDER OUT    Common Voice as downloaded (validated.tsv or train.tsv, clips/)
    python prepare.py tedlium FOLDER OUT        TED-LIUM 3 as downloaded (stm/*.stm, sph/*.sph)

Text becomes capitals and apostrophes. What holds digits or other symbols is left out: a wrong transcript costs more than a
missing one. soundfile reads FLAC, WAV, MP3, Opus and plain SPHERE files; other rates than 16 kHz are resampled.
"""
import argparse
import csv
import glob
import os
import re
from concurrent.futures import ProcessPoolExecutor

import numpy as np

PART = 3600 * 16000                                        # samples a .pcm file, about


def audio(path):
    import soundfile
    x, rate = soundfile.read(path, dtype="float32", always_2d=True)
    x = x.mean(1)
    if rate != 16000:
        from math import gcd
        from scipy.signal import resample_poly
        g = gcd(rate, 16000)
        x = resample_poly(x, 16000 // g, rate // g)
    return np.clip(np.round(x * 32768), -32768, 32767).astype(np.int16)


def plain(text):
    t = text.upper().replace("\u2019", "'").replace("-", " ")
    if re.search(r"[^A-Z' .,;:!?\"()\u2014\u201c\u201d]", t):
        return ""
    return " ".join(w.strip("'") for w in re.sub(r"[^A-Z' ]", " ", t).split() if w.strip("'"))


def packs(folder):
    table = [line.rstrip("\n").split("\t") for line in open(os.path.join(folder, "packs.tsv"), encoding="utf-8")]
    for name in sorted({p[0] for p in table}):
        yield os.path.join(folder, name), [(float(p[1]), float(p[2]), p[4], p[3]) for p in table if p[0] == name]


def librispeech(folder):
    for t in sorted(glob.glob(os.path.join(folder, "**", "*.trans.txt"), recursive=True)):
        for line in open(t, encoding="utf-8"):
            name, text = line.strip().split(" ", 1)
            yield os.path.join(os.path.dirname(t), name + ".flac"), [(0, None, text, name.split("-")[0])]


def libritts(folder):
    for t in sorted(glob.glob(os.path.join(folder, "**", "*.normalized.txt"), recursive=True)):
        name = os.path.basename(t)[:-len(".normalized.txt")]
        yield t[:-len(".normalized.txt")] + ".wav", [(0, None, open(t, encoding="utf-8").read(), name.split("_")[0])]


def commonvoice(folder):
    table = next(p for n in ("train.tsv", "validated.tsv") if os.path.exists(p := os.path.join(folder, n)))
    with open(table, encoding="utf-8", newline="") as f:
        for r in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield os.path.join(folder, "clips", r["path"]), [(0, None, r["sentence"], r["client_id"][:12])]


def tedlium(folder):
    for t in sorted(glob.glob(os.path.join(folder, "stm", "*.stm"))):
        cut = []
        for line in open(t, encoding="utf-8"):
            p = line.strip().split(None, 6)
            if len(p) == 7 and "ignore_time_segment" not in p[6]:
                text = re.sub(r"<[^>]*>|\([0-9]+\)", " ", p[6]).replace(" '", "'")
                cut.append((float(p[3]), float(p[4]) - float(p[3]), text, p[2]))
        yield os.path.join(folder, "sph", os.path.basename(t)[:-4] + ".sph"), cut


def one(item):
    path, cuts = item
    x, out = audio(path), []
    for start, seconds, text, speaker in cuts:
        a = round(start * 16000)
        b = len(x) if seconds is None else min(len(x), a + round(seconds * 16000))
        t = plain(text)
        if t and b - a > 3200:
            out.append((x[a:b], t, speaker))
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {f.__name__: f for f in (packs, librispeech, libritts, commonvoice, tedlium)}
    ap.add_argument("kind", choices=list(kinds))
    ap.add_argument("folder")
    ap.add_argument("out")
    ap.add_argument("--jobs", type=int, default=os.cpu_count())
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    k = pos = total = n = 0
    pcm = tsv = None
    with ProcessPoolExecutor(a.jobs) as pool:
        for found in pool.map(one, kinds[a.kind](a.folder), chunksize=1 if a.kind in ("packs", "tedlium") else 32):
            for x, text, speaker in found:
                if pcm is None or pos > PART:
                    for f in (pcm, tsv):
                        f and f.close()
                    pcm = open(os.path.join(a.out, f"w{k}.pcm"), "wb")
                    tsv = open(os.path.join(a.out, f"w{k}.tsv"), "w", encoding="utf-8")
                    k, pos = k + 1, 0
                x.tofile(pcm)
                tsv.write(f"{n}\t{pos}\t{len(x)}\t{text}\t{speaker}\n")
                pos, total, n = pos + len(x), total + len(x), n + 1
    for f in (pcm, tsv):
        f and f.close()
    print(f"{a.out}: {n} utterances, {total / 57.6e6:.2f} h")


if __name__ == "__main__":
    main()
