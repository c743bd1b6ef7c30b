"""The package against a daemon with keys."""

import asyncio
import os
import subprocess

import pytest
from client_support import LONG, PROGRAM

import sidewinder.aio
from sidewinder import Control, Keys, Listener, NotAuthorised, Refused, RequestError, Sender, transcript


@pytest.fixture
def keyed(own_daemon, tmp_path):
    """A daemon with two keys, and what each of them connects with."""
    public = {}
    for name in ("daemon", "writer", "reader", "stranger"):
        made = subprocess.run([PROGRAM, "keygen", tmp_path / name], check=True, capture_output=True, text=True)
        public[name] = made.stdout.strip()
    daemon = own_daemon(more=f"""
[security]
server_key = "{tmp_path / "daemon.key_secret"}"
[keys.writer]
public_key = "{public["writer"]}"
publish = ["w*"]
bytes_per_second = 500000
[keys.reader]
public_key = "{public["reader"]}"
subscribe = ["w"]
control = ["list", "history"]
""")
    keys = {name: Keys(tmp_path / "daemon.key", tmp_path / f"{name}.key_secret") for name in public}
    assert Keys(public["daemon"], tmp_path / "reader.key_secret").server == keys["reader"].server == public["daemon"]
    return daemon, keys


def test_audio_in_and_text_out(keyed, quilter, transcribed):
    daemon, keys = keyed
    options = {"address": daemon.results, "control": daemon.control, "keys": keys["reader"]}
    with Listener("w", ["opened", "final", "closed"], **options) as listener:
        with Sender("w", rate=16000, address=daemon.ingest, keys=keys["writer"]) as sender:
            assert listener.receive(LONG).epoch == sender.epoch
            sender.send(quilter)  # more than a second's worth of the quota
        finals = []
        while not isinstance(event := listener.receive(LONG), sidewinder.Closed):
            finals.append(event)
    assert transcript(finals) == transcribed("quilter.flac")
    access = Control(daemon.control, keys=keys["reader"]).access(["w/", "x/"])
    assert (access.key, access.subscribe, access.control) == ("reader", ("w",), ("history", "list"))
    assert [refused.topic for refused in access.refused] == ["x/"]


def test_refusals(keyed):
    daemon, keys = keyed
    with pytest.raises(Refused) as refused:
        Sender("x", rate=16000, address=daemon.ingest, keys=keys["writer"]).open()
    assert refused.value.reason == "not_allowed"
    with Listener(address=daemon.results, control=daemon.control, keys=keys["reader"]) as listener:
        with pytest.raises(Refused) as refused:
            listener.receive(LONG)
        assert refused.value.reason == "not_allowed" and "may subscribe to w" in refused.value.message
    with pytest.raises(RequestError) as error:
        Control(daemon.control, keys=keys["reader"]).drain()
    assert error.value.reason == "not_allowed"

    async def ask():
        with pytest.raises(NotAuthorised):
            await sidewinder.aio.Control(daemon.control, LONG, keys=keys["stranger"]).list()
        return await sidewinder.aio.Control(daemon.control, LONG, keys=keys["reader"]).access()

    assert asyncio.run(ask()).key == "reader"
    with pytest.raises(NotAuthorised):
        Sender("w", rate=16000, address=daemon.ingest).open(LONG)


def test_files_that_are_no_keys(tmp_path, keyed):
    good = tmp_path / "reader.key_secret"
    with pytest.raises(OSError):
        Keys(tmp_path / "none", good)
    with pytest.raises(ValueError, match="no secret key"):
        Keys(tmp_path / "daemon.key", tmp_path / "reader.key")
    with pytest.raises(ValueError, match="no certificate"):
        Keys(__file__, good)
    os.chmod(good, 0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        Keys(tmp_path / "daemon.key", good)
