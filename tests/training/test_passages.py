"""Sentences out of running text, and passages fit to be spoken out of them."""
import os
import random
import struct
import sys
import zlib

TRAINING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training")
sys.path.insert(0, TRAINING)
from lm.prose import bare, r_lines, sentences, typeset
from synth.passages import clean, fits, passages, transcript


def test_titles_end_no_sentence():
    text = "\"I see, Mr. Holmes,\" said Dr. Watson.\nThen he left St. Paul's.\n\nHe came back."
    assert list(sentences(text, whole=True)) == ['"I see, Mr. Holmes," said Dr. Watson.', "Then he left St. Paul's.", "He came back."]


def test_headings_are_no_sentences():
    text = "CHAPTER IV\n\nChapter 5. The Boat\n\nTHE END\n\nPart of it was lost.\n\nBook I shall not."
    assert list(sentences(text, whole=True)) == ["Part of it was lost.", "Book I shall not."]


def test_what_stands_around_a_book():
    for begin in ("*** START OF THIS BOOK ***", "*END*THE SMALL PRINT! FOR ETEXTS*Ver.1*END*"):
        text = f"Notices.\n{begin}\nIt was _so_ [Illustration: a\nboat] cold.\nEnd of The Project Gutenberg Etext\nNotices."
        assert " ".join(bare(text).split()) == "It was so cold."


def test_lines_as_printed(tmp_path):
    (tmp_path / "book").write_bytes(b"The narra-\r\ntive of a boat-\r\nSwain.\r\n")
    assert typeset(tmp_path, "book").split() == ["The", "narrative", "of", "a", "boat-", "Swain."]


def test_lines_of_an_r_package(tmp_path):
    def vector(*lines):
        coded = [line.encode() for line in lines]
        data = b"X\n" + struct.pack(">iii", 2, 0, 0) + struct.pack(">ii", 16, len(coded))
        data += b"".join(struct.pack(">ii", 9, len(line)) + line for line in coded)
        return struct.pack(">i", len(data)) + zlib.compress(data)
    (tmp_path / "x.rdb").write_bytes(vector("One", "caf\u00e9.") + vector("_Two_."))
    assert r_lines(tmp_path, "x.rdb") == "One\ncaf\u00e9.\n\nTwo."


def test_what_can_be_said():
    assert transcript(clean("Mr. Jones\u2019s well-known whale-boat \u2014 ain\u2019t it?")) == "MISTER JONES'S WELL KNOWN WHALE BOAT AIN'T IT"
    for line in ("Room 17.", "The B.B.C. said so.", "He said NO.", "Y-y-yes, sir.", "E'er he went.", "Ropes etc. were cut.", "Brrr, cold!"):
        assert clean(line) is None, line


def test_passages_are_joined_neighbours():
    words = [f"{a}{b}" for a in ("bo", "ca", "di", "fe", "gu", "lo") for b in ("ban", "cot", "dam", "fig", "gum", "hat", "kit", "lad")]
    lines, at = [], 0
    for n in (3, 9, 1, 12, 2, 21):                         # 48 words, each of them once
        lines.append(" ".join(words[at:at + n]) + ".")
        at += n
    got = list(passages([*lines[:3], "No. 4 cannot be said.", *lines[3:]], 20, random.Random(1)))
    assert " ".join(got).replace(".", "").split() == words             # nothing lost, nothing twice, in order
    assert all(len(p.split()) <= 20 or p == lines[5] for p in got)
    assert not any(lines[2] in p and lines[3] in p for p in got)       # not across what was left out
    assert any(p.count(".") > 1 for p in got)
    assert list(passages(lines, 0, random.Random(1))) == lines


def test_a_long_sentence_falls_into_its_clauses():
    line = "He came and he saw and he went; nobody knew it: they slept."
    got = list(passages([line], 8, random.Random(4)))
    assert " ".join(got) == line and len(got) > 1 and all(len(p.split()) <= 8 for p in got)
    assert [fits(p) for p in ("Oh!", "Oh, no!", "la " * 46)] == [False, True, False]
