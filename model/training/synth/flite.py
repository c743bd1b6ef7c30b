"""Speech by Flite, for variety beside Kokoro: its four voices, pitched, stretched, on all cores.

    python synth/flite.py JOBS.tsv[.xz] OUT --seconds 240 [--processes 96] [--flite PROGRAM] [--seed 1]

Reads the words of jobs (see passages.py), in random order, until the time is over; writes what synth.py writes: w{i}.pcm (16 kHz,
int16) and w{i}.tsv (id, first sample, samples, TEXT, voice), one pair a process. Flite is Debian's package of that name.
"""
import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
import wave

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from synth.passages import opener  # noqa: E402

PITCH = {"rms": 95, "slt": 180, "awb": 130, "kal16": 105}  # Hz, about what the voice is at home with
RATE = 16000


def work(w, a, texts, end, seconds):
    r = random.Random(a.seed * 1000 + w)
    at = 0
    with open(f"{a.out}/w{w}.pcm", "wb") as pcm, open(f"{a.out}/w{w}.tsv", "w") as tsv, tempfile.TemporaryDirectory() as tmp:
        wav = os.path.join(tmp, "a.wav")
        for i, text in enumerate(texts[w::a.processes]):
            if time.time() > end:
                break
            voice = r.choice(["rms", "rms", "slt", "slt", "awb", "awb", "kal16"])
            pitch = PITCH[voice] * r.uniform(0.8, 1.3)
            stretch = min(1.5, max(0.65, r.lognormvariate(-0.05, 0.15)))
            made = subprocess.run([a.flite, "-voice", voice, "--setf", f"int_f0_target_mean={pitch:.1f}", "--setf",
                                   f"duration_stretch={stretch:.3f}", "-t", text.lower() + ".", "-o", wav], capture_output=True)
            if made.returncode:
                raise SystemExit(f"{a.flite}: {made.stderr.decode()}")
            with wave.open(wav) as f:
                if f.getframerate() != RATE:
                    raise SystemExit(f"voice {voice}: {f.getframerate()} Hz, not {RATE}")
                x = np.frombuffer(f.readframes(f.getnframes()), np.int16)
            x.tofile(pcm)
            tsv.write(f"f{w}-{i}\t{at}\t{len(x)}\t{text}\t{voice}\n")
            at += len(x)
            seconds[w] = at / RATE


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("jobs")
    ap.add_argument("out")
    ap.add_argument("--seconds", type=float, required=True)
    ap.add_argument("--processes", type=int, default=os.cpu_count())
    ap.add_argument("--flite", default="flite")
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    end = time.time() + a.seconds
    os.makedirs(a.out, exist_ok=True)
    texts = [line.rstrip("\n").split("\t")[4] for line in opener(a.jobs)]
    random.Random(a.seed).shuffle(texts)
    seconds = multiprocessing.Array("d", a.processes)
    workers = [multiprocessing.Process(target=work, args=(w, a, texts, end, seconds)) for w in range(a.processes)]
    for p in workers:
        p.start()
    for p in workers:
        p.join()
    print(f"{sum(seconds) / 3600:.2f} hours")
    sys.exit(any(p.exitcode for p in workers))


if __name__ == "__main__":
    main()
