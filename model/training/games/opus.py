"""What both collections need: a Debian package's files, sound at 16 kHz, Ogg Opus."""
import os
import subprocess

import numpy as np
import soundfile
from scipy.signal import resample_poly

from prepare import RATE

PACK = 600  # seconds a pack, at most


def unpack(package, folder):
    """The package's files below the folder."""
    subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True, capture_output=True)
    deb, = (f for f in os.listdir(folder) if f.endswith(".deb"))
    subprocess.run(["dpkg-deb", "-x", deb, "."], cwd=folder, check=True)
    os.remove(os.path.join(folder, deb))


def at_16k(x, rate):
    """Samples or (samples, channels) at another rate in Hz, as mono samples at 16 kHz."""
    x = x.mean(1) if x.ndim == 2 else x
    if rate == RATE or not len(x):
        return x
    g = np.gcd(rate, RATE)
    return resample_poly(x - x.mean(), RATE // g, rate // g)


def trimmed(x):
    """Without the silence (30 dB below the loudest 10 ms) before and after but for a tenth of a second of it; peak 0.9 at most."""
    power = np.sqrt(np.square(x[:len(x) // 160 * 160]).reshape(-1, 160).mean(1))
    loud = np.flatnonzero(power > 0.03 * power.max()) if power.any() else []
    if not len(loud):
        return np.zeros(0, np.float32)
    x = x[max(0, 160 * (loud[0] - 10)):160 * (loud[-1] + 11)]
    return (x * min(1, 0.9 / np.abs(x).max())).astype(np.float32)


def encode(x, path, kbit, speech=True):
    """Samples (-1..1, 16 kHz) into a file of so many kbit/s, read back to see that it is as long. By ffmpeg: unlike libsndfile it can
    tell Opus that this is speech, and, below 14 kbit/s, to leave out what is above 6 kHz."""
    how = ["-application", "voip", *(["-cutoff", "6000"] if kbit < 14 else [])] if speech else ["-application", "audio"]
    sound = np.round(x * 32767).astype(np.int16).tobytes()
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "-", "-c:a", "libopus",
                    "-b:a", f"{kbit}k", *how, "-frame_duration", "40", "-f", "ogg", path], input=sound, check=True)
    found = soundfile.info(path)
    if (found.frames, found.samplerate) != (len(x), RATE):
        raise RuntimeError(f"{path}: {found.frames} samples of {found.samplerate} Hz, of {len(x)}")
