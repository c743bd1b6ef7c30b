"""Noise that was recorded or composed, not computed: machines, weather, animals, crowds, steps, typing, fights, music, out of what
games in Debian play, as Opus packs (NNNN.opus, 16 kHz, mono, no transcripts) for train.py --noise.

    python -m games.noise OUT [--minutes 40] [--kbit 20]

Needs apt-get, dpkg-deb and ffmpeg. Of each file it takes at most as many seconds as the table says, from the file's first quarter on,
all equally loud (RMS -23 dBFS, peaks below -1), in a random order that is always the same. Files in which somebody speaks are left
out, by their names.
"""
import argparse
import io
import os
import random
import re
import tempfile
import zipfile

import numpy as np
import soundfile

from games import opus

LEVEL = 0.07    # RMS, of 1
SHORTEST = 0.1  # seconds
VOICES = re.compile(r"/voice/|/soldiers/|/civilians/|/ambi_choir|/misc_burp|/mehackit_robot|/glitch_robot|/silence\.")

# Debian package: licences (its debian/copyright), what is in it, seconds of a file at most
PACKAGES = {
    "lincity-ng-data": ("GPL-2+", "a town: workshops, markets, farms, harbours", 20),
    "ufoai-sound": ("GPL-2+, CC-BY, CC-BY-SA", "wind, rain, machines, doors, steps, shots", 20),
    "wesnoth-1.16-data": ("GPL-2+, CC-BY-SA-4.0", "animals, weapons, horns, weather", 20),
    "endless-sky-data": ("GPL-3+, CC-BY-SA, CC-BY, public domain", "engines, explosions, alarms", 10),
    "naev-data": ("GPL-3, CC-BY-SA, CC-BY, public domain", "engines, explosions; music", 9),
    "unknown-horizons": ("GPL-2+, CC-BY-SA-3.0", "crafts, animals, ships; music", 12),
    "bucklespring-data": ("GPL-2+", "a keyboard, key by key", 5),
    "sonic-pi-samples": ("CC0", "drums, loops, electric noises", 6),
    "asterisk-moh-opsound-wav": ("CC-BY-SA-3.0", "music for who waits on the telephone", 20),
    "wesnoth-1.16-music": ("GPL-2+, CC-BY-SA-4.0", "orchestral music", 12),
}


def sounds(folder):
    """(name, an open file or a path) of every sound file, in archives too."""
    for path, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            its = os.path.join(path, name)
            if name.endswith(".pk3"):
                with zipfile.ZipFile(its) as archive:
                    for member in sorted(archive.namelist()):
                        if member.endswith((".ogg", ".wav")):
                            yield f"/{member}", io.BytesIO(archive.read(member))
            elif name.endswith((".ogg", ".wav", ".flac")):
                yield its, its


def part(x, rate, seconds):
    """At most so many seconds of (samples, channels) at a rate in Hz, at 16 kHz, equally loud; None for what is too short or silent."""
    start = min(len(x) // 4, max(0, len(x) - seconds * rate))
    x = opus.trimmed(opus.at_16k(x[start:start + seconds * rate], rate))
    if len(x) < SHORTEST * opus.RATE:
        return None
    x = x * (LEVEL / np.sqrt(np.square(x).mean()))
    return x * min(1, 0.89 / np.abs(x).max())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--kbit", type=float, default=20, help="kbit/s")
    ap.add_argument("--minutes", type=float, default=1e6, help="in all")
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    clips = []
    for package, (_, _, seconds) in PACKAGES.items():
        found = []
        with tempfile.TemporaryDirectory() as folder:
            opus.unpack(package, folder)
            for name, file in sounds(folder):
                if not VOICES.search(name):
                    try:
                        x = part(*soundfile.read(file, dtype="float32", always_2d=True), seconds)
                    except soundfile.LibsndfileError as why:
                        print(f"not read: {os.path.basename(name)}: {why}")
                        continue
                    found += [] if x is None else [x]
        print(f"{package}: {len(found)} files, {sum(map(len, found)) / opus.RATE / 60:.1f} min")
        clips += found
    random.Random(1).shuffle(clips)
    sound = np.concatenate(clips)[:round(a.minutes * 60 * opus.RATE)]
    for k, at in enumerate(range(0, len(sound), opus.PACK * opus.RATE)):
        opus.encode(sound[at:at + opus.PACK * opus.RATE], os.path.join(a.out, f"{k:04d}.opus"), a.kbit, speech=False)
    print(f"{a.out}: {len(sound) / opus.RATE / 60:.1f} min")


if __name__ == "__main__":
    main()
