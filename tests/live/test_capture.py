"""Capture devices, for real: a JACK server with a dummy driver, and a JACK client in the place of a microphone."""

import array
import difflib
import os
import re
import signal
import subprocess
import time

import pytest
from harness import BIN, DAEMON, DATA, PATIENCE, Feeder, Subscriber, eventually, transcribe

RATE = 48_000


class Jack:
    """A server of its own name, so that several test runs don't meet."""

    def __init__(self, folder):
        self.name = f"sidewinder-{os.getpid()}"
        self.environment = {**os.environ, "JACK_DEFAULT_SERVER": self.name, "JACK_NO_START_SERVER": "1",
                            "JACK_NO_AUDIO_RESERVATION": "1"}
        self.log = (folder / "jackd.log").open("a")
        self.players = []
        self.start()

    def start(self):
        self.server = subprocess.Popen(["jackd", "-r", "-m", "-n", self.name, "-d", "dummy", "-r", str(RATE), "-p", "1024"],
                                       stdout=self.log, stderr=self.log)
        subprocess.run(["jack_wait", "-s", self.name, "-w", "-t", str(PATIENCE)], check=True, stdout=subprocess.DEVNULL,
                       env=self.environment)

    def play(self, file, name="microphone"):
        player = subprocess.Popen([BIN / "jack_player", name, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True, env=self.environment)
        self.players.append(player)
        assert player.stdout.readline() == "ready\n"
        return player

    def stop(self):
        self.server.terminate()
        self.server.wait()
        for player in self.players:
            player.kill()
            player.wait()
        self.players.clear()


@pytest.fixture
def jack(tmp_path, monkeypatch):
    server = Jack(tmp_path)
    for name in ("JACK_DEFAULT_SERVER", "JACK_NO_START_SERVER", "JACK_NO_AUDIO_RESERVATION"):
        monkeypatch.setenv(name, server.environment[name])
    yield server
    server.stop()


@pytest.fixture
def speech(tmp_path):
    """A clip as the JACK server has samples, with a pause after it that ends the segment."""
    file = tmp_path / "speech.f32"
    subprocess.run(["sox", DATA / "stereo-44k.flac", "-t", "raw", "-e", "float", "-b", "32", "-c", "1", "-r", str(RATE),
                    file, "pad", "0", "2"], check=True)
    return file


def alike(heard, spoken):
    """Share of letters in common: what the model hears depends a little on where a frame begins."""
    return difflib.SequenceMatcher(None, heard, spoken, autojunk=False).ratio()


def until_heard(subscriber, stream, spoken, first=0):
    """Until the finals from `first` on say it. How many they are depends a little on where a frame begins, too."""
    deadline = time.monotonic() + PATIENCE

    def is_all(message):
        text = " ".join(final["committed"] for final in subscriber.of("final", stream)[first:])
        assert time.monotonic() < deadline, (text, spoken)
        return message["type"] == "final" and alike(text, spoken) > 0.75

    subscriber.until(is_all)


@pytest.fixture(scope="session")
def spoken():
    return " ".join(word["word"] for word in transcribe(DATA / "stereo-44k.flac")["words"])


def check_positions(subscriber, stream):
    """The clock has no hole: levels follow each other from 0 on, through the gaps."""
    at = 0
    for level in subscriber.of("level", stream):
        assert level["start_sample"] == at
        at = level["end_sample"]
    assert subscriber.of("closed", stream)[0]["end_sample"] >= at


def test_device_is_heard_goes_away_and_comes_back(start, jack, speech, spoken, tmp_path):
    player = jack.play(speech)
    daemon = start()
    subscriber = Subscriber(daemon)
    devices = daemon.control(type="devices")["devices"]
    assert [d["channels"] for d in devices if d["name"] == "microphone" and "JACK" in d["host"]] == [1], devices
    opened = daemon.control(type="open", device="microphone", stream="mic")
    assert (opened["type"], opened["rate"], opened["channels"]) == ("opened", RATE, 1)
    assert [s["device"] for s in daemon.control(type="list")["streams"]] == ["microphone"]
    assert player.stdout.readline() == "played\n"
    until_heard(subscriber, "mic", spoken)
    [event] = subscriber.of("opened", "mic")
    assert event["source"] == "device" and event["device"] == "microphone"

    jack.stop()
    for _ in range(2):
        gap = subscriber.until(lambda m: m["type"] == "gap")
        assert gap["reason"] == "source" and gap["end_sample"] > gap["start_sample"]
    assert 'capture device "microphone" is gone' in daemon.log()

    finals = len(subscriber.of("final", "mic"))
    jack.start()
    player = jack.play(speech)
    eventually(lambda: 'capture device "microphone" is back' in daemon.log())
    assert player.stdout.readline() == "played\n"
    until_heard(subscriber, "mic", spoken, finals)
    daemon.control(type="close", stream="mic")
    subscriber.until_closed("mic")
    check_positions(subscriber, "mic")


def test_mic_command(start, jack, speech, spoken):
    player = jack.play(speech)
    daemon = start()
    subscriber = Subscriber(daemon)
    mic = subprocess.Popen([BIN / "sidewinder", "mic", "--device", "micro", "--stream", "m", "--ingest",
                            daemon.endpoints["ingest"]], stderr=subprocess.PIPE, text=True)
    assert '"microphone", 48000 Hz' in mic.stderr.readline()
    assert player.stdout.readline() == "played\n"
    until_heard(subscriber, "m", spoken)
    jack.stop()
    gap = subscriber.until(lambda m: m["type"] == "gap")
    assert gap["reason"] == "client"
    while "is gone; looking for it every second" not in (line := mic.stderr.readline()):
        assert "overrun" in line
    mic.send_signal(signal.SIGINT)
    assert mic.wait(PATIENCE) == 0
    assert re.search(r"s lost, \d+ segments", mic.stderr.read())
    subscriber.until_closed("m")
    check_positions(subscriber, "m")


def test_overruns_are_counted_and_told_in_their_place(jack, tmp_path):
    ramp = tmp_path / "ramp.f32"
    array.array("f", (number / 2**24 for number in range(1, 40 * RATE))).tofile(ramp.open("wb"))
    jack.play(ramp)
    done = subprocess.run([BIN / "capture_probe", "microphone", str(4 * RATE)], capture_output=True, text=True,
                          timeout=PATIENCE, env=jack.environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_such_device(start, jack, speech):
    jack.play(speech)
    daemon = start()
    refused = daemon.control(type="open", device="gramophone", stream="g")
    assert refused["type"] == "refused" and refused["reason"] == "bad_device"
    assert '"gramophone"' in refused["message"] and '"microphone"' in refused["message"]
    both = daemon.control_raw(b'{"v":1,"type":"open","device":"microphone","file":"/a"}')
    assert both["reason"] == "bad_message"
    done = subprocess.run([BIN / "sidewinder", "mic", "--device", "gramophone"], capture_output=True, text=True)
    assert done.returncode == 1 and '"gramophone" is not there' in done.stderr
    listed = subprocess.run([DAEMON, "--devices"], capture_output=True, text=True, check=True)
    assert "microphone" in listed.stdout and not listed.stderr
    told = subprocess.run([BIN / "sidewinder", "ctl", "devices", "--control", daemon.endpoints["control"]],
                          capture_output=True, text=True, check=True)
    assert "microphone" in told.stdout
    feeder = Feeder(daemon)  # and all else goes on
    feeder.open("x")
    feeder.close()
