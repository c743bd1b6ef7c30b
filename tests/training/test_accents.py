"""Other pronunciations of phonemised sentences.

    python3 -m pytest tests/training/test_accents.py
"""
import os
import random
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training"))
from synth import accents

SENTENCE = "wʊd jˈuː sˈA ðæt hɜɹ lˈæst nˈIt ɪn pˈæɹɪs wʌz ænd wɪl bi θˈɪk, sˈɪTɪŋ ɪn ðə fˈæməli hˈɔɹs? ðə jˈɪɹz ʌv klˈOðz."
SOUNDS = set("AIOQSTWYabcdefhijklmnoprstuvwxyzæɐɑɒɔðəɛɜɡɪŋɹɾʁʃʊʌʒʔʤʧˈˌːʰθᵊᵻ ;:,.!?")


class Always(random.Random):
    def random(self):
        return 0.0


@pytest.mark.parametrize("said, careless", [
    ("ʃi ænd wi", "ʃi n wi"), ("lˈæst nˈIt", "lˈæs nˈIt"), ("lˈæst ˈAʤ", "lˈæst ˈAʤ"), ("ɪt wʌz hɜɹ", "ɪt wəz ɜɹ"),
    ("wʊd juː", "wʊʤ ə"), ("wˈɔtəɹ", "wˈɔTəɹ"), ("ˈænd", "ˈænd")])
def test_careless_speech(said, careless):
    new = " " + said
    for pattern, to, likely in accents.CASUAL:
        new = accents.part(Always(), new, pattern, to, likely)
    assert new[1:] == careless


def test_words_keep_their_number_and_have_sounds():
    r, seen = random.Random(0), set()
    for _ in range(3000):
        new = accents.pronounced(r, SENTENCE, 0.4)
        assert set(new) <= SOUNDS and len(new.split(" ")) == len(SENTENCE.split(" "))
        assert all(accents.SOUND.search(word) for word in new.split(" "))
        seen.add(new)
    assert len(seen) > 1500 and SENTENCE in seen


def test_the_share_is_that_of_accents():
    r = random.Random(1)
    assert all(accents.pronounced(r, SENTENCE, 0.0) == SENTENCE for _ in range(50))
    plain = sum(accents.pronounced(r, SENTENCE, 0.25) == SENTENCE for _ in range(2000)) / 2000
    assert 0.3 < plain < 0.5, "half are careful, and three quarters of those have no accent"
