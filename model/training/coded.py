"""Speech as an MP3 file of a low rate leaves it, for data.py: a codec proper, where augment.py's `coder` only drops what is masked.

    python coded.py SET OUT [--parts 2] [--jobs 14]

SET: w*.pcm and w*.tsv (prepare.py, synth/synth.py); OUT gets the same tables and, sample for sample in the same place, what ten minutes at a
time sound like after 16, 24, 32 or 40 kbit/s; and a file `ready`, once it is whole (train.py --more). --parts: so many of SET's files.
"""
import argparse
import io
import os
import random
import shutil
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from data import RATE, tables

PIECE = 600 * RATE                                         # samples
KBITS = (16, 24, 24, 24, 32, 40)                           # below 32 LAME leaves out what is above 5.5 kHz
LAME_DELAY = 1105                                          # samples that are not taken off where the frames have no room to tell of it


def through_mp3(samples, kbit):
    """int16 samples -> as many int16 samples."""
    import soundfile
    file = io.BytesIO()
    level = 1 - (kbit - 8) / (160 - 8)                     # libsndfile's scale from MPEG-2's least to its highest rate
    soundfile.write(file, samples, RATE, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=level)
    file.seek(0)
    out, rate = soundfile.read(file, dtype="int16")
    out = out if len(out) == len(samples) else out[LAME_DELAY:LAME_DELAY + len(samples)]
    if rate != RATE or len(out) != len(samples):
        raise ValueError(f"MP3 at {kbit} kbit/s: {len(samples)} samples became {len(out)} at {rate} Hz")
    return out


def piece(job):
    source, out, at, n, kbit = job
    coded = through_mp3(np.fromfile(source, np.int16, n, offset=2 * at), kbit)
    with open(out, "r+b") as f:
        f.seek(2 * at)
        coded.tofile(f)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("set")
    ap.add_argument("out")
    ap.add_argument("--parts", type=int)
    ap.add_argument("--jobs", type=int, default=os.cpu_count())
    a = ap.parse_args()
    parts = tables(a.set)[:a.parts]
    if not parts:
        raise SystemExit(f"coded.py: {a.set}: no w*.tsv; prepare.py and synth/synth.py make them")
    os.makedirs(a.out, exist_ok=True)
    draw, jobs = random.Random(1), []
    for table in parts:
        source, out = table[:-4] + ".pcm", os.path.join(a.out, os.path.basename(table)[:-4] + ".pcm")
        n = os.path.getsize(source) // 2
        with open(out, "wb") as f:
            f.truncate(2 * n)
        jobs += [(source, out, at, min(PIECE, n - at), draw.choice(KBITS)) for at in range(0, n, PIECE)]
    with ProcessPoolExecutor(a.jobs) as pool:
        list(pool.map(piece, jobs))
    for table in parts:
        shutil.copy(table, a.out)
    open(os.path.join(a.out, "ready"), "w").close()
    print(f"{a.out}: {sum(j[3] for j in jobs) / RATE / 3600:.2f} h")


if __name__ == "__main__":
    main()
