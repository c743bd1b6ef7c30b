"""What is no speech gives no words; tests/bench/nonspeech listens for an hour."""

import json

import nonspeech
import pytest
from program import transcribe

pytestmark = pytest.mark.long


@pytest.mark.parametrize("decoder", ["best-path", "beam"])
def test_a_minute_each_gives_fewer_than_three_words_in_all(tmp_path, decoder):
    files = []
    for kind in nonspeech.KINDS:
        files.append(tmp_path / f"{kind}.wav")
        nonspeech.make(kind, 60, files[-1], tmp_path)
    result = transcribe(*files, "--format", "json", "--decoder", decoder)
    assert result.code == 0, result.err  # and a warning that silence is silent
    documents = json.loads(result.out)
    assert len(documents) == len(files)
    words = {kind: [word["word"] for word in document["words"]] for kind, document in zip(nonspeech.KINDS, documents)}
    assert sum(map(len, words.values())) < 3, words
