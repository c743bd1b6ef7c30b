"""Sentences out of running text, and passages fit to be spoken out of them."""
import os
import random
import sys

TRAINING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training")
sys.path.insert(0, TRAINING)
from lm.prose import sentences
from synth.passages import clean, fits, passages, transcript


def test_titles_end_no_sentence():
    text = "\"I see, Mr. Holmes,\" said Dr. Watson.\nThen he left St. Paul's.\n\nHe came back."
    assert list(sentences(text, whole=True)) == ['"I see, Mr. Holmes," said Dr. Watson.', "Then he left St. Paul's.", "He came back."]


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
