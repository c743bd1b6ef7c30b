"""What is said in three adventure games, with the words that their own indices give to each recording.

Each reader takes the folder of an unpacked package and yields (name, speaker, text, samples, rate): name of the recording;
speaker as far as the index tells, else ""; text as the game writes it; samples float32 in -1..1, mono; rate in Hz. ValueError where a
file is not of the version that Debian 12 has. The formats are known from the ScummVM project, whose engines sky, queen and drascula
play these files.
"""
import io
import os
import re
import struct

import numpy as np

from . import rnc

HALF = 11025  # Hz, of all three


def unsigned(data):
    """8-bit unsigned samples."""
    return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128


# Beneath a Steel Sky: sky.dnr lists the files (number, place, size, flags) that lie in sky.dsk. Files from 50000 on are speech, files
# from 60600 on sections of the English text, of up to 4,096 lines, Huffman-coded; line n of section s is spoken in file
# 50000 + SPOKEN[s] + n. The tree, its nodes in preorder (\n: a node with two children; ~: symbols that English speech has no use
# for):
SPOKEN = np.cumsum([0, 600, 500, 1330, 950, 1150, 550, 150])
TREE = ("\n\n\n \nea\n\n\nos\ntn\n\n.ir\n\n\n\n\n\0Eu\nmA\n\n\nlI\ndR\n\nNST\n\n\n\n\nOhc\nDg\n\n\nLC\npU\n\n!yM\n\n\n\n\nPvH\n?b"
        "\n\n\n'f,\nGB\n\n\n\n\nVkF\nqw\n\n\nK-W\nJ*\n\n\n\nzY\nj+\n\n\nQ~)\n\nZ~<\n\n\n\n\n~~~\n~:\n\n\n~]#\n\nxX~"
        "\n\n\n\n~`2\n\n0~1\n\n\n/(=\n~^~")


def tree(nodes):
    node = next(nodes)
    return (tree(nodes), tree(nodes)) if node == "\n" else node


class SkyFiles:
    def __init__(self, folder):
        with open(os.path.join(folder, "sky.dsk"), "rb") as f:
            self.disk = f.read()
        with open(os.path.join(folder, "sky.dnr"), "rb") as f:
            count, table = struct.unpack("<I", f.read(4))[0], f.read()
        self.entries = {}
        for i in range(0, 8 * count, 8):
            number = int.from_bytes(table[i:i + 2], "little")
            self.entries[number] = (int.from_bytes(table[i + 2:i + 5], "little"), int.from_bytes(table[i + 5:i + 8], "little"))

    def read(self, number):
        """A file, unpacked, without its 22-byte header where it is stored to be read so."""
        place, flags = self.entries[number]
        start = (place & 0x7FFFFF) << (4 if place >> 23 else 0)
        data = self.disk[start:start + (flags & 0x3FFFFF)]
        if flags >> 23 or not data[0] & 0x80 or data[22:26] != b"RNC\1":
            return data
        return (b"" if flags >> 22 & 1 else data[:22]) + rnc.unpack(data[22:])


def sky_text(section, line, root):
    """Line `line` of a section of text, as far as its symbols are known: else None."""
    skips, text = struct.unpack("<HH", section[:4])
    place = sum(struct.unpack(f"<{line >> 5}H", section[4:4 + 2 * (line >> 5)]))
    for skip in section[skips + (line & ~31):skips + line]:
        place += (skip & 127) << 3 if skip & 128 else skip
    bit, said, node = 2 * place, "", root              # places count pairs of bits, the highest first
    while 8 * text + bit < 8 * len(section):
        node = node[section[text + bit // 8] >> (7 - bit % 8) & 1]
        bit += 1
        if isinstance(node, str):
            if node == "\0":
                return said
            if node == "~":
                return None
            said, node = said + node, root
    return None


def sky(folder):
    files, root = SkyFiles(os.path.join(folder, "usr/share/scummvm/beneath-a-steel-sky")), tree(iter(TREE))
    sections = [files.read(60600 + s) for s in range(len(SPOKEN) - 1)]
    for number in sorted(n for n in files.entries if 50000 <= n < 50000 + SPOKEN[-1]):
        s = int(np.searchsorted(SPOKEN, number - 50000, "right")) - 1
        text = sky_text(sections[s], number - 50000 - int(SPOKEN[s]), root)
        if text:
            yield str(number), "", text, unsigned(files.read(number)[22:]), HALF


# Flight of the Amazon Queen: queen.1c begins with the table of its files. *.SB are recordings (here MP3). What is said lies in *.DOG
# (dialogues), *.CUT (scenes) and QUEEN2.JAS (what Joe says about things). "*" and two signs or more are a stage direction, at which
# a line falls into recordings numbered 1, 2, ... in hexadecimal.
DIRECTION = re.compile(r"\*(?:XY\d\d\(\d+,\d+\)|..)")
JOE_RESPONSES = 40


def queen_files(folder):
    with open(os.path.join(folder, "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c"), "rb") as f:
        data = f.read()
    if data[:4] != b"QTBL":
        raise ValueError("queen.1c: does not begin with QTBL")
    files, (count,) = {}, struct.unpack(">H", data[13:15])
    for i in range(15, 15 + 21 * count, 21):
        start, size = struct.unpack(">II", data[i + 13:i + 21])
        files[data[i:i + 12].rstrip(b"\0").decode("latin-1")] = data[start:start + size]
    return files


def queen_string(data, at, align):
    """A string that begins with its length, and where the next thing begins."""
    n = data[at]
    text = data[at + 1:at + 1 + n].decode("latin-1")
    return text, (at + 1 + n + align - 1) & -align if n else at + 1


def queen_lines(files):
    """(start of the recordings' names, speaker, line with directions)"""
    for name, data in files.items():
        data = data[20:]
        if name.endswith(".DOG"):
            levels, _, key, joe, person = struct.unpack(">5h", data[:10])
            their, _, again = struct.unpack(">3H", data[22:28])
            who = re.sub(r"\d*\.DOG$", "", name)
            for at, count, letter, speaker in ((32 + 96 * abs(levels), joe, "J", "JOE"), (their, person, "P", who)):
                for _ in range(count):
                    number, = struct.unpack(">h", data[at + 2:at + 4])
                    text, at = queen_string(data, at + 4, 4)
                    yield f"{key:2d}{number & 0xFFFF:4x}{letter}", speaker, text
            at = 32 + 96 * abs(levels) + 4
            yield f"{key:2d}SSSSJ", "JOE", queen_string(data, at, 2)[0]
            text, at = queen_string(data, again, 2)
            yield f"{key:2d}XXXXP", who, text
            yield f"{key:2d}XXXXJ", "JOE", queen_string(data, at, 2)[0]
        elif name.endswith(".CUT"):
            count, at = abs(struct.unpack(">h", data[2:4])[0]), struct.unpack(">H", data[8:10])[0]
            at = queen_string(data, at, 2)[1]
            for i in range(count):
                text, at = queen_string(data, at, 2)
                yield f"{name[:-4]:_<5}{i + 1:02d}", "", text
    rooms, names, _, things = struct.unpack(">4H", files["QUEEN.JAS"][20:28])
    texts = files["QUEEN2.JAS"].decode("latin-1").splitlines()
    for i in range(things):
        yield f"JOE{i + 1 + JOE_RESPONSES:04d}", "JOE", texts[i]
    for i in range(JOE_RESPONSES):
        yield f"JOE{i + 1:04d}", "JOE", texts[things + names + rooms + 12 + i]


def queen(folder):
    import soundfile
    files, done = queen_files(folder), set()
    for prefix, speaker, line in queen_lines(files):
        for i, text in enumerate(DIRECTION.split(line)):
            name = f"{prefix}{i + 1:x}".replace(" ", "0").upper()
            if name not in done and text.strip() and len(files.get(name + ".SB", b"")) > 400:
                done.add(name)                             # the game, too, takes the first of lines with one number
                x, rate = soundfile.read(io.BytesIO(files[name + ".SB"]), dtype="float32")
                yield name, speaker, text, x, rate


# Drascula: recordings are *.ALS (samples behind 32 bytes, without 32 at the end), their numbers the lines of tables in drascula.dat,
# which follow each other, in six languages each, English first. What the letters before the number stand for:
SPEAKERS = {"": "hacker", "D": "drascula", "B": "drunk", "BJ": "billie-jean", "E": "mummy", "I": "igor", "L": "wolf",
            "P": "pianist", "T": "bartender", "VB": "von-braun"}
TABLES = 7253  # where the first one begins, in version 6
LANGUAGES = 6


def drascula_tables(data):
    if data[:10] != b"DRASCULA\6\0":
        raise ValueError("drascula.dat: not of version 6")
    at = TABLES
    for letters in SPEAKERS:
        count, = struct.unpack(">H", data[at:at + 2])
        size, = struct.unpack(">H", data[at + 2:at + 4])
        text, place, lines = data[at + 4:at + 4 + size], 4, [""]
        for _ in range(1, count):
            place += struct.unpack(">H", text[place - 2:place])[0]
            lines.append(text[place:text.index(0, place)].decode("cp850"))
        yield letters, lines
        at += 2
        for _ in range(LANGUAGES):
            at += 2 + struct.unpack(">H", data[at:at + 2])[0]


def drascula(folder):
    folder = os.path.join(folder, "usr/share/scummvm/drascula/en")
    with open(os.path.join(folder, "drascula.dat"), "rb") as f:
        tables = list(drascula_tables(f.read()))
    for letters, lines in tables:
        for i, text in enumerate(lines):
            path = os.path.join(folder, f"{letters}{i}.ALS")
            if text and os.path.exists(path):
                with open(path, "rb") as f:
                    yield f"{letters}{i}", SPEAKERS[letters], text, unsigned(f.read()[32:-32]), HALF
