"""Which sentences are chosen for their seldom words, and the tokens' counts in what is said.

    python3 -m pytest tests/training/test_rare.py
"""
import collections
import json
import os
import subprocess
import sys

import pytest

TRAINING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training")
sys.path.insert(0, TRAINING)
from synth import rare
from text import Tokens


def test_the_least_heard_words_come_first():
    sentences = [s.split() for s in ("we saw the ship today", "we saw a narwhal today", "we saw the schooner today",
                                     "we saw an xqzt narwhal today", "a narwhal", "the schooner had the ship")]
    known = set("we saw the ship today a narwhal schooner an had".split())
    heard = collections.Counter(we=99, saw=99, the=99, ship=3, today=99, a=99, narwhal=1, schooner=2, an=99, had=99)
    assert rare.choose(sentences, heard.copy(), known, 5) == [1], "narwhal; not with an unknown word, nor in two words"
    assert rare.choose(sentences, heard.copy(), known, 6) == [1, 5], "then schooner"
    assert rare.choose(sentences, heard.copy(), known, 11) == [1, 2, 5], "ship was heard again with schooner, which is rarer still"
    assert rare.choose(sentences, heard.copy(), known, 10 ** 6) == [0, 1, 2, 5]
    count = heard.copy()
    rare.choose(sentences, count, known, 6)
    assert count["schooner"] == 3 and count["narwhal"] == 2


@pytest.mark.parametrize("copies", [1.0, 2.5])
def test_priors_count_what_is_said(tmp_path, copies):
    (tmp_path / "jobs.tsv").write_text("a\tf\tv\t1\tTHE SHIP THE SEA\nb\tf\tv\t1\tTHE WHALE\n")
    tokenizer = os.path.join(TRAINING, "tokenizer.model")
    subprocess.run([sys.executable, "-m", "lm.prior", f"{tmp_path}/jobs.tsv:{copies}", "--tokenizer", tokenizer, "--out",
                    str(tmp_path / "prior.json")], cwd=TRAINING, check=True, capture_output=True)
    tokens = Tokens(tokenizer)
    said = collections.Counter(tokens.encode("THE SHIP THE SEA") + tokens.encode("THE WHALE"))
    counts = json.loads((tmp_path / "prior.json").read_text())["counts"]
    assert len(counts) == tokens.size and counts == [round(copies * said[i]) for i in range(tokens.size)]
