"""The readers of games' files, on small ones made here in the same formats, and what decides whether a script is what was said."""

import os
import struct
import sys

import numpy as np
import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "model", "training"))
from games import formats, opus, rnc, talkies


def packed(bits, literals, size):
    """An RNC file of bits [(value, how many)] with bytes between them: {place among the bits: bytes}."""
    stream = [value >> i & 1 for value, n in bits for i in range(n)]
    words = [sum(bit << i for i, bit in enumerate(stream[at : at + 16])) for at in range(0, len(stream) + 32, 16)]
    before = {(at + 31) // 16 - 1: text for at, text in literals.items()}  # of the words that the reader holds, the newest
    body = b"".join(before.get(i, b"") + struct.pack("<H", word) for i, word in enumerate(words))
    return struct.pack(">4sIIHHBB", b"RNC\1", size, len(body), 0, 0, 0, 1) + body


def table(*lengths):
    return [(len(lengths), 5), *((n, 4) for n in lengths)]


def test_rnc_copies_literals_and_what_was_there():
    head = [(0, 2), *table(1, 0, 1), *table(0, 1), *table(0, 0, 0, 1), (2, 16), (1, 1), (0, 1)]
    data = packed([*head, (0, 1), (0, 3), (0, 1)], {sum(n for _, n in head): b"AB"}, 8)
    assert rnc.unpack(data) == b"ABABABAB"
    with pytest.raises(ValueError, match="8 bytes, the header says 7"):
        rnc.unpack(data[:4] + struct.pack(">I", 7) + data[8:])
    with pytest.raises(ValueError, match="RNC and 1"):
        rnc.unpack(b"RIFF" + data[4:])


def test_sky_finds_a_line_in_its_section():
    nodes = formats.tree(iter(formats.TREE))
    codes = {}

    def walk(node, code):
        if isinstance(node, str):
            codes.setdefault(node, code)
        else:
            walk(node[0], code + "0"), walk(node[1], code + "1")

    walk(nodes, "")
    lines = [f"Line {'no' * i} is here." for i in range(40)]
    coded = ["".join(codes[c] for c in line + "\0") for line in lines]
    coded = [code + "0" * (len(code) % 2) for code in coded]  # places are counted in pairs of bits
    skips = []
    for i, code in enumerate(coded):
        while len(code) // 2 > 127 and len(code) // 2 % 8:
            code += "00"
        coded[i] = code
        skips.append(len(code) // 2 if len(code) < 256 else 0x80 | len(code) // 16)
    block = sum(len(code) // 2 for code in coded[:32])
    bits = "".join(coded)
    text = bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))
    section = struct.pack("<HHH", 6, 6 + 40, block) + bytes(skips) + text
    assert [formats.sky_text(section, i, nodes) for i in range(40)] == lines


def test_queen_names_the_recordings_of_a_dialogue():
    def entry(number, text, at):
        data = struct.pack(">hh", 0, number) + bytes([len(text)]) + text.encode()
        return data + b"\0" * (-(at + len(data)) % 4)

    joe = entry(0x1F, "Hello.*FR How are you?", 32)
    their = 32 + len(joe)
    person = entry(2, "Fine.", their)
    again = their + len(person)
    head = struct.pack(">5h", 0, 1, 7, 1, 1) + bytes(12) + struct.pack(">3H", their, 0, again)
    dog = bytes(20) + head.ljust(32, b"\0") + joe + person + b"\5Back?" + b"\1" + b"0"
    jas = bytes(20) + struct.pack(">4H", 1, 1, 0, 2)
    texts = "\r\n".join(["It's a door.", "It's a key.", "door", "room", *["verb"] * 12, "No.", *["Yes."] * 39])
    lines = list(formats.queen_lines({"BOB1.DOG": dog, "QUEEN.JAS": jas, "QUEEN2.JAS": texts.encode()}))
    assert lines[0] == (" 7  1fJ", "JOE", "Hello.*FR How are you?")
    assert lines[1] == (" 7   2P", "BOB", "Fine.")
    assert (" 7XXXXP", "BOB", "Back?") in lines
    assert ("JOE0042", "JOE", "It's a key.") in lines and ("JOE0001", "JOE", "No.") in lines
    assert formats.DIRECTION.split(lines[0][2]) == ["Hello.", " How are you?"]
    assert formats.DIRECTION.split("Off I go.*XY00(237,112)Here.") == ["Off I go.", "Here."]


def test_drascula_reads_its_tables():
    def language(lines):
        data, place = bytearray(struct.pack(">HH", 0, 4)), 8
        for line in lines:
            its = line.encode("cp850") + b"\0"
            data += bytes(place - 2 - len(data)) + struct.pack(">H", len(its) + 2) + its
            place += len(its) + 2
        return struct.pack(">H", len(data)) + bytes(data)

    data = b"DRASCULA\6\0".ljust(formats.TABLES, b"\0")
    for letters in formats.SPEAKERS:
        data += struct.pack(">H", 3) + language([f"HI {letters}", "DOOR"]) + language(["HOLA", "A"]) * 5
    assert list(formats.drascula_tables(data)) == [(x, ["", f"HI {x}", "DOOR"]) for x in formats.SPEAKERS]
    with pytest.raises(ValueError, match="version 6"):
        list(formats.drascula_tables(b"DRASCULA\5\0"))


def test_words_heard_in_a_window_go_to_their_lines():
    said, heard = "OH NO THE KEY IS GONE".split(), "NO NO THE DARK KEY IS".split()
    begins, edits = talkies.align(said, heard)
    assert edits == 3
    assert [heard[begins[i] : begins[i + 1]] for i in range(len(said))] == [["NO"], ["NO"], ["THE", "DARK"], ["KEY"], ["IS"], []]


def test_what_counts_as_agreement():
    text = "THAT ELEVATOR IS DESIGNED FOR LIGHT MACHINERY"
    assert talkies.agreed(text, "THAT ELEVATOR IS DESIGN FOR LIGHT MACHINERY")
    assert not talkies.agreed(text, "THAT LIFT IS DESIGN FOR LIGHT MACHINERY")
    assert not talkies.agreed(text, "")
    assert talkies.agreed(text, None) and not talkies.agreed("WOOF WOOF", None)


def test_packs_come_back_as_long_and_in_their_places(tmp_path):
    t = np.arange(16000) / 16000
    tone = np.float32(0.5 * np.sin(880 * t))
    lines = [("b", "JOE", "SECOND", tone), ("a", "", "FIRST", tone[:8000])]
    talkies.pack("queen", lines, tmp_path, 24)
    rows = [row.split("\t") for row in (tmp_path / "packs.tsv").read_text().splitlines()]
    assert rows == [
        ["0000.opus", "0.0000", "0.5000", "queen-unknown", "FIRST"],
        ["0000.opus", "0.5000", "1.0000", "queen-joe", "SECOND"],
    ]


def test_silence_around_goes():
    x = np.concatenate([np.zeros(16000), np.sin(np.arange(8000)), np.zeros(16000)])
    assert 8000 <= len(opus.trimmed(x)) <= 8000 + 2 * 1760
    assert len(opus.trimmed(np.zeros(16000))) == 0
