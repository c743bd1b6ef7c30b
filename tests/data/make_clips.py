#!/usr/bin/env python3
"""Cut the recordings in this folder from the speech packs.

    python3 make_clips.py SPEECH_FOLDER [OUTPUT_FOLDER]

Needs numpy, scipy and soundfile (whose libsndfile decodes Ogg Opus). The output is deterministic for one version of
libsndfile; the committed files are what the tests read.
"""

import csv
import pathlib
import sys

import numpy
import scipy.signal
import soundfile

RATE = 16000
TRAIN = "librispeech-train100-3spk"
DEV = "dev-clean-a"

# name -> (folder, first row of packs.tsv counted from 0, rows): consecutive rows of one pack, so whole utterances and
# no seam inside the clip.
CLIPS = {
    "northanger": (TRAIN, 4, 2),
    "quilter": (DEV, 0, 3),
}
STEREO = {"left": (DEV, 0, 1), "right": (TRAIN, 158, 1)}
STEREO_RATE = 44100


def cut(speech, folder, first, rows):
    """The samples (float64, 16 kHz) and the text, a line an utterance, of consecutive rows by one speaker."""
    with open(speech / folder / "packs.tsv", encoding="utf-8", newline="") as f:
        picked = list(csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE))[first : first + rows]
    pack, speaker = picked[0][0], picked[0][3]
    if any((row[0], row[3]) != (pack, speaker) for row in picked):
        raise SystemExit(f"{folder} rows {first}+{rows} span two packs or two speakers")
    start = round(float(picked[0][1]) * RATE)
    stop = round((float(picked[-1][1]) + float(picked[-1][2])) * RATE)
    audio, rate = soundfile.read(speech / folder / pack, start=start, stop=stop, always_2d=False)
    if rate != RATE:
        raise SystemExit(f"{pack}: {rate} Hz, expected {RATE}")
    return audio, [row[4] for row in picked]


def stereo(speech):
    """Two speakers, one a channel; line n of the text is channel n."""
    sides = [cut(speech, *STEREO[side]) for side in ("left", "right")]
    up = [scipy.signal.resample_poly(audio, STEREO_RATE // 100, RATE // 100) for audio, _ in sides]
    # Pad with silence rather than truncate: a cut word would make the transcript wrong.
    length = max(map(len, up))
    channels = numpy.stack([numpy.pad(u, (0, length - len(u))) for u in up], axis=1)  # (samples, 2)
    return channels, [" ".join(words) for _, words in sides]


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    speech = pathlib.Path(sys.argv[1])
    output = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).parent
    made = {name: cut(speech, *where) + (RATE,) for name, where in CLIPS.items()}
    made["stereo-44k"] = stereo(speech) + (STEREO_RATE,)
    for name, (audio, lines, rate) in made.items():
        path = output / f"{name}.flac"
        soundfile.write(path, numpy.clip(audio, -1, 1 - 2**-15), rate, subtype="PCM_16", compression_level=1.0)
        (output / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{path.name}: {len(audio) / rate:.2f} s, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
