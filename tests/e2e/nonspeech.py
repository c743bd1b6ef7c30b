"""Sound without a word in it: silence, white noise, hum and music, made by sox."""

import random
import subprocess

RATE = 16000
KINDS = ("silence", "white noise", "hum", "music")


def _sox(*arguments):
    # -R: the same noise every time.
    subprocess.run(["sox", "-R", "-D", *map(str, arguments)], check=True, capture_output=True)


def _music(file, seconds, folder):
    """Plucked chords over a bass and a drum of noise, two seconds a bar, in keys and registers of all kinds."""
    chance = random.Random(7)
    bars = []
    for number in range(max(1, min(30, int(seconds / 2)))):
        root = chance.randint(-21, 3)  # semitones from A4
        third, fifth = root + chance.choice((3, 4)), root + 7
        notes = [chance.choice((root, third, fifth)) + 12 * chance.randint(0, 1) for _ in range(4)]
        chords = [argument for note in (root, third, fifth, *notes) for argument in ("pluck", f"%{note}")]
        delays = [0, 0.05, 0.1, 0.2, 0.65, 1.1, 1.55]
        bar, drum = folder / f"bar{number}.wav", folder / f"drum{number}.wav"
        _sox("-n", "-r", RATE, "-b", 16, bar, "synth", 2, *chords, "delay", *delays, "remix", "-", "trim", 0, 2,
             "gain", "-n", -6)
        _sox("-n", "-r", RATE, "-b", 16, "-c", 1, drum, "synth", 0.12, "pinknoise", "fade", "q", 0.005, 0.12, 0.1,
             "pad", 0, 0.38, "repeat", 3, "gain", "-n", -14)
        mixed = folder / f"mixed{number}.wav"
        _sox("-m", bar, drum, mixed)
        bars.append(mixed)
    once = folder / "once.wav"
    _sox(*bars, once)
    repeats = int(seconds / (2 * len(bars))) + 1
    _sox(once, file, "repeat", repeats, "trim", 0, seconds)


def make(kind, seconds, file, folder):
    """Writes `seconds` of `kind` to `file`, a 16 kHz mono FLAC or WAV; `folder` is for parts of it."""
    one = ["-n", "-r", RATE, "-b", 16, "-c", 1, file, "synth", seconds]
    if kind == "silence":
        _sox("-n", "-r", RATE, "-b", 16, "-c", 1, file, "trim", 0, seconds)
    elif kind == "white noise":
        # Rising and falling between -60 and -20 dBFS.
        _sox(*one, "whitenoise", "vol", 0.05, "tremolo", 0.05, 95)
    elif kind == "hum":
        _sox("-n", "-r", RATE, "-b", 16, file, "synth", seconds, "sine", 50, "sine", 100, "sine", 150, "sine", 250,
             "remix", "1v0.1,2v0.05,3v0.05,4v0.02")
    elif kind == "music":
        _music(file, seconds, folder)
    else:
        raise ValueError(kind)
