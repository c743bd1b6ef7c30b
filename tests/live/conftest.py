import pytest

from harness import Daemon, Manager, decode, transcribe, DATA


def pytest_configure(config):
    config.addinivalue_line("markers", "memory: measures memory, which a sanitizer's own would drown")
    config.addinivalue_line("markers", "long: hears hours of audio, for which sanitizers take hours")


@pytest.fixture
def start(tmp_path):
    """Starts daemons; each must end cleanly with the test, unless the test has seen to it."""
    running = []

    def go(**sections):
        folder = tmp_path / str(len(running))
        folder.mkdir()
        running.append(Daemon(folder, **sections))
        return running[-1]

    yield go
    for daemon in running:
        if daemon.process.returncode is None:
            daemon.stop()
            daemon.join()


@pytest.fixture
def daemon(start):
    return start()


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """What the daemons that are started from now on take for systemd; its watchdog wants to hear every 2 seconds."""
    with Manager(tmp_path / "notify") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        yield manager


@pytest.fixture(scope="session")
def quilter():
    """16 kHz mono, 23 s."""
    return decode("quilter.flac")


@pytest.fixture(scope="session")
def quilter_offline():
    return transcribe(DATA / "quilter.flac")


@pytest.fixture(scope="session")
def stereo():
    """44.1 kHz stereo, 6 s."""
    return decode("stereo-44k.flac")


@pytest.fixture(scope="session")
def stereo_offline():
    return transcribe(DATA / "stereo-44k.flac")
