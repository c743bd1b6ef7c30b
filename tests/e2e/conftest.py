"""Fixtures: speech to feed the program, and what it hears in it."""

import media
import pytest
import tiny_model
from program import CLIP, transcribe


def pytest_configure(config):
    config.addinivalue_line("markers", "memory: measures memory, which a sanitizer's own would drown")
    config.addinivalue_line("markers", "long: hears the clip dozens of times, half an hour under sanitizers")


@pytest.fixture(scope="session")
def speech():
    """The clip's samples, s16le at 16 kHz."""
    return media.pcm(CLIP)


@pytest.fixture(scope="session")
def clip_text():
    """What the program hears in the clip."""
    return transcribe(CLIP).succeeds().out


@pytest.fixture
def store(tmp_path):
    """store(name, bytes) writes an input file and returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def good(store, speech):
    """Five seconds of speech as WAV: what must still be transcribed beside bad files."""
    return store("good.wav", media.wav(speech[:160000]))


@pytest.fixture(scope="session")
def good_text(speech):
    return transcribe("-", input=media.wav(speech[:160000])).succeeds().out


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The small model, undamaged."""
    return tiny_model.write(tmp_path_factory.mktemp("tiny") / "model")
