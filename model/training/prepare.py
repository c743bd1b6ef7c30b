"""Bring speech into the form that training reads: a folder of w*.pcm (int16, 16 kHz, mono) with w*.tsv.

    python prepare.py packs FOLDER OUT          Opus packs with packs.tsv: decoded
    python prepare.py librispeech FOLDER OUT    LibriSpeech as downloaded (speaker/chapter/*.flac with *.trans.txt)
    python prepare.py libritts FOLDER OUT       LibriTTS as downloaded (*.wav with *.normalized.txt)
    python prepare.py commonvoice FOLDER OUT    Common Voice as downloaded (validated.tsv or train.tsv, clips/)
    python prepare.py tedlium FOLDER OUT        TED-LIUM as downloaded: the folder that has stm/ and sph/, such as legacy/train

Text becomes capitals and apostrophes. What holds digits, unknown words or other symbols is left out: a wrong transcript costs
more than a missing one. soundfile reads FLAC, WAV, MP3, Opus and plain SPHERE files; other rates than 16 kHz are resampled. Files
that are missing or cannot be read are left out, and named at the end.
"""
import argparse
import csv
import glob
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np

RATE = 16000
PART = 3600 * RATE                                         # samples a .pcm file, about


def audio(path):
    import soundfile
    x, rate = soundfile.read(path, dtype="float32", always_2d=True)
    x = x.mean(1)
    if rate != RATE:
        from math import gcd
        from scipy.signal import resample_poly
        g = gcd(rate, RATE)
        x = resample_poly(x, RATE // g, rate // g)
    return np.clip(np.round(x * 32768), -32768, 32767).astype(np.int16)


SPELT = {"MR": "MISTER", "MRS": "MISSUS", "DR": "DOCTOR"}      # LibriSpeech's way; one word must not have two spellings


def said(words):
    return " ".join(SPELT.get(w, w) for w in words)


def plain(text):
    """Capitals and apostrophes; "" if that does not say it."""
    t = re.sub("[\u2018\u2019`]", "'", text.upper())
    t = re.sub("[-\u2010-\u2015\u2026]", " ", t)
    if re.search(r"[^A-Z' .,;:!?\"()\u201c\u201d\n]", t):
        return ""
    return said(w.strip("'") for w in re.sub(r"[^A-Z' ]", " ", t).split() if w.strip("'"))


def below(folder, pattern):
    """Files below the folder, which there must be."""
    found = sorted(glob.glob(os.path.join(glob.escape(folder), "**", pattern), recursive=True))
    if not found:
        raise SystemExit(f"prepare.py: {folder}: no {pattern} in it or below; is it the folder as downloaded and unpacked?")
    return found


def packs(folder):
    table = [line.rstrip("\n").split("\t") for line in open(os.path.join(folder, "packs.tsv"), encoding="utf-8")]
    for name in sorted({p[0] for p in table}):
        yield os.path.join(folder, name), [(float(p[1]), float(p[2]), said(p[4].split()), p[3]) for p in table if p[0] == name]


def librispeech(folder):
    for t in below(folder, "*.trans.txt"):
        for line in open(t, encoding="utf-8"):
            name, text = line.strip().split(" ", 1)
            yield os.path.join(os.path.dirname(t), name + ".flac"), [(0, None, text, name.split("-")[0])]


def libritts(folder):
    for t in below(folder, "*.normalized.txt"):
        name = os.path.basename(t)[:-len(".normalized.txt")]
        yield t[:-len(".normalized.txt")] + ".wav", [(0, None, open(t, encoding="utf-8").read(), name.split("_")[0])]


def commonvoice(folder):
    table = next((p for n in ("train.tsv", "validated.tsv") if os.path.exists(p := os.path.join(folder, n))), None)
    if table is None:
        raise SystemExit(f"prepare.py: {folder}: neither train.tsv nor validated.tsv in it; it must be one language's folder, such as "
                         "cv-corpus-17.0-2024-03-15/en")
    with open(table, encoding="utf-8", newline="") as f:
        for r in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield os.path.join(folder, "clips", r["path"]), [(0, None, r["sentence"], r["client_id"][:12])]


def stm_text(text):
    """The words of a line of TED-LIUM's stm files; "" where some are not known. Noises, pronunciation numbers and the line's own
    name go; "it 's" becomes "it's"."""
    if "<unk>" in text:
        return ""
    text = re.sub(r"\(\S*\)|<sil>|\{(NOISE|BREATH|SMACK|COUGH)\}", " ", text)
    return re.sub(r" '(s|re|ve|ll|d|m|t)\b", r"'\1", text)


def tedlium(folder):
    for t in below(os.path.join(folder, "stm"), "*.stm"):
        cut = []
        for line in open(t, encoding="utf-8"):
            p = line.strip().split(None, 6)                # file, channel, speaker, start, end, label, words
            if len(p) == 7 and not line.startswith(";;") and "ignore_time_segment" not in p[6]:
                cut.append((float(p[3]), float(p[4]) - float(p[3]), stm_text(p[6]), p[2]))
        yield os.path.join(folder, "sph", os.path.basename(t)[:-4] + ".sph"), cut


def one(item):
    """-> [(samples, text, speaker)], what is wrong with the file or None"""
    path, cuts = item
    try:
        x, out = audio(path), []
    except (OSError, RuntimeError) as why:                 # soundfile's errors are RuntimeErrors
        return [], str(why) if path in str(why) else f"{path}: {why}"
    for start, seconds, text, speaker in cuts:
        a = round(start * RATE)
        b = len(x) if seconds is None else min(len(x), a + round(seconds * RATE))
        t = plain(text)
        if t and b - a > RATE // 5:
            out.append((x[a:b], t, speaker))
    return out, None


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
    unread = []
    pcm = tsv = None
    with ProcessPoolExecutor(a.jobs) as pool:
        for found, wrong in pool.map(one, kinds[a.kind](a.folder), chunksize=1 if a.kind in ("packs", "tedlium") else 32):
            unread += [wrong] if wrong else []
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
    print(f"{a.out}: {n} utterances, {total / RATE / 3600:.2f} h")
    for wrong in unread[:10]:
        print(f"not read: {wrong}", file=sys.stderr)
    if unread:
        print(f"{len(unread)} files could not be read", file=sys.stderr)
    if not n:
        raise SystemExit(f"prepare.py: {a.folder}: no utterance with words that can be used")


if __name__ == "__main__":
    main()
