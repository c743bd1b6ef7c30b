#!/usr/bin/env python3
"""material.py SPEECH_FOLDER EVERY WAV_FOLDER REF.tsv: write every EVERY-th utterance as a 16 kHz WAV and its text."""

import csv
import pathlib
import sys

import soundfile

RATE = 16000


def main():
    speech, every = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2])
    wavs, references = pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
    with open(speech / "packs.tsv", encoding="utf-8", newline="") as f:
        rows = list(csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
    with open(references, "w", encoding="utf-8") as out:
        for index in range(0, len(rows), every):
            pack, start, seconds, _, text = rows[index]
            first = round(float(start) * RATE)
            audio, rate = soundfile.read(
                speech / pack, start=first, frames=round(float(seconds) * RATE), dtype="int16", always_2d=False
            )
            if rate != RATE or audio.ndim != 1:
                raise SystemExit(f"{pack}: expected mono at {RATE} Hz")
            name = f"{speech.name}-{index:04d}"
            soundfile.write(wavs / f"{name}.wav", audio, RATE, subtype="PCM_16")
            out.write(f"{name}\t{text}\n")


if __name__ == "__main__":
    main()
