"""Keys, permissions, quotas and the audit log, against a daemon that encrypts."""

import json
import os
import stat
import subprocess
import time

import pytest
import zmq
import zmq.auth
from harness import BIN, DATA, PATIENCE, SANE, Feeder, Subscriber, eventually, run_daemon, toml, validate
from zmq.utils.monitor import recv_monitor_message

EVERYTHING = {"publish": ["*"], "subscribe": ["*"], "control": ["*"]}


def sidewinder(*arguments, **environment):
    return subprocess.run([BIN / "sidewinder", *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE,
                          env={**os.environ, **environment})


class Ring:
    """Certificates by name in a folder, made by `sidewinder keygen`; `daemon` is the daemon's."""

    def __init__(self, folder):
        self.folder = folder
        self.public = {}
        self.add("daemon")

    def add(self, name):
        made = sidewinder("keygen", self.folder / name)
        assert made.returncode == 0, made.stderr
        self.public[name] = made.stdout.strip()

    def keys(self, name, server="daemon"):
        """For harness.Daemon.keys, read by pyzmq."""
        public, secret = zmq.auth.load_certificate(self.folder / f"{name}.key_secret")
        return self.public[server].encode(), public, secret

    def config(self, rules, **security):
        for name in rules:
            self.add(name)
        return {"security": {"server_key": str(self.folder / "daemon.key_secret"), **security},
                **{f"keys.{name}": {"public_key": self.public[name], **rule} for name, rule in rules.items()}}

    def environment(self, daemon, name):
        sockets = {f"SIDEWINDER_{socket.upper()}": daemon.endpoints[socket] for socket in ("results", "ingest", "control")}
        return {**sockets, "SIDEWINDER_SERVER_KEY": str(self.folder / "daemon.key"),
                "SIDEWINDER_KEYS": str(self.folder / f"{name}.key_secret")}


@pytest.fixture
def ring(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    return Ring(folder)


@pytest.fixture
def guarded(start, ring):
    """Starts a daemon with keys: the rules by name, and `admin`, who may do everything."""

    def go(security=(), sections=(), **rules):
        daemon = start(**ring.config({"admin": EVERYTHING, **rules}, **dict(security)), **dict(sections))
        daemon.keys = ring.keys("admin")
        return daemon

    return go


def entries(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def handshake(socket, endpoint):
    """Connects, and says how it went: the name of the first event that ends a handshake."""
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
                                        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    socket.connect(endpoint)
    assert monitor.poll(PATIENCE * 1000)
    event = zmq.Event(recv_monitor_message(monitor)["event"]).name
    socket.disable_monitor()
    return event


def test_keygen(tmp_path):
    prefix = tmp_path / "k"
    made = sidewinder("keygen", prefix)
    assert made.returncode == 0
    public, secret = zmq.auth.load_certificate(f"{prefix}.key_secret")
    assert made.stdout.strip().encode() == public == zmq.curve_public(secret)
    assert zmq.auth.load_certificate(f"{prefix}.key") == (public, None)
    assert stat.S_IMODE(os.stat(f"{prefix}.key_secret").st_mode) == 0o600
    assert secret.decode() not in (tmp_path / "k.key").read_text() + made.stdout + made.stderr

    before = (tmp_path / "k.key_secret").read_bytes()
    again = sidewinder("keygen", prefix)
    assert again.returncode == 4 and "is there already" in again.stderr
    (tmp_path / "k.key").unlink()  # the secret one alone is kept too
    assert sidewinder("keygen", prefix).returncode == 4
    assert (tmp_path / "k.key_secret").read_bytes() == before and not (tmp_path / "k.key").exists()
    assert sidewinder("keygen", "--force", prefix).returncode == 0
    assert (tmp_path / "k.key_secret").read_bytes() != before
    assert stat.S_IMODE(os.stat(f"{prefix}.key_secret").st_mode) == 0o600
    assert sidewinder("keygen", tmp_path / "none" / "k").returncode == 4


def test_settings(tmp_path, ring):
    def check(text, **sections):
        config = tmp_path / "c.toml"
        config.write_text(toml({**ring.config({}), **sections}) + text)
        done = run_daemon("--config", config, "--check")
        assert done.returncode in (0, 2)
        return done.stderr if done.returncode else ""

    key = f'[keys.a]\npublic_key = "{ring.public["daemon"]}"\n'
    assert check(key) == ""
    assert check(key + 'publish = ["a", "b*", "*"]\nsubscribe = ["a/final", "b*"]\ncontrol = ["list", "*"]\n') == ""
    assert "nobody could connect" in check("")
    assert "keys.a.publish has" in check(key + 'publish = ["a/final"]\n')
    assert "keys.a.subscribe has" in check(key + 'subscribe = ["a*b"]\n')
    assert "kind that results do not have" in check(key + 'subscribe = ["a/finals"]\n')
    assert "keys.a.control has" in check(key + 'control = ["lists"]\n')
    assert "did you mean publish?" in check(key + 'publishes = ["a"]\n')
    assert "public_key must be" in check('[keys.a]\npublic_key = "short"\n')
    assert "is that of keys.a too" in check(key + key.replace("keys.a", "keys.b"))
    assert "set security.server_key" in check(key, security={"server_key": ""})
    assert "None.key_secret" in check(key, security={"server_key": "/nonexistent/None.key_secret"})
    assert "has no secret key" in check(key, security={"server_key": str(ring.folder / "daemon.key")})
    os.chmod(ring.folder / "daemon.key_secret", 0o640)
    assert "chmod 600" in check(key)
    os.chmod(ring.folder / "daemon.key_secret", 0o600)
    # What is encrypted may leave the loopback; HTTP never is.
    assert check(key, sockets={"results": "tcp://0.0.0.0:7600"}) == ""
    assert "sockets.http is not on loopback" in check(key, sockets={"http": "0.0.0.0:7603"})


def test_unencrypted_beyond_loopback_is_asked_for_and_warned_of(start, tmp_path):
    sockets = {**SANE["sockets"], "results": "tcp://0.0.0.0:*"}
    config = tmp_path / "c.toml"
    config.write_text(toml({"sockets": sockets}))
    refused = run_daemon("--config", config)
    assert refused.returncode == 2 and "not on loopback" in refused.stderr
    daemon = start(sockets={**sockets, "allow_remote": True})
    assert "sockets.results = tcp://0.0.0.0:* is not on loopback and not encrypted" in daemon.log()
    assert "sockets.ingest" not in daemon.log()


@pytest.mark.parametrize("endpoint,kind", [("results", zmq.SUB), ("ingest", zmq.DEALER), ("control", zmq.REQ)])
def test_bad_keys_are_turned_away(guarded, ring, tmp_path, endpoint, kind):
    audit = tmp_path / "audit.jsonl"
    daemon = guarded(security={"audit": str(audit)})
    ring.add("stranger")
    for keys, events in ((None, {"HANDSHAKE_FAILED_PROTOCOL", "HANDSHAKE_FAILED_NO_DETAIL"}),
                         (ring.keys("stranger"), {"HANDSHAKE_FAILED_AUTH"}),
                         (ring.keys("admin", server="stranger"), {"HANDSHAKE_FAILED_NO_DETAIL"}),
                         (ring.keys("admin"), {"HANDSHAKE_SUCCEEDED"})):
        daemon.keys = None
        with daemon.context.socket(kind) as socket:
            socket.linger = 0
            if keys is not None:
                socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = keys
            assert handshake(socket, daemon.endpoints[endpoint]) in events
    refused = eventually(lambda: [e for e in entries(audit) if e["event"] == "refused"])
    assert {"action": "connect", "socket": endpoint, "public_key": ring.public["stranger"], "reason": "unknown_key",
            "address": "127.0.0.1"}.items() <= refused[0].items()
    assert eventually(lambda: [e for e in entries(audit) if e["event"] == "connected" and e["key"] == "admin"
                               and e["socket"] == endpoint])
    assert 'sidewinder_drops_total{reason="unknown_key"}' in daemon.get("/metrics")[1]


def test_publishing(guarded, ring, quilter):
    daemon = guarded(alice={"publish": ["a*", "x"]}, bob={"publish": ["b*", "x"]})
    form = {"type": "open", "rate": 16000, "format": "s16le"}
    daemon.keys = ring.keys("alice")
    alice = Feeder(daemon)
    for more in ({"stream": "b1"}, {"stream": "xx"}, {}):
        refused = alice.ask("refused", **form, **more)
        assert refused["reason"] == "not_allowed" and "a*, x" in refused["message"]
    alice.socket.close()

    alice.socket = daemon.context.socket(zmq.DEALER)
    alice.socket.linger, alice.socket.rcvtimeo = 0, PATIENCE * 1000
    alice.socket.routing_id = b"alice"
    alice.socket.curve_serverkey, alice.socket.curve_publickey, alice.socket.curve_secretkey = daemon.keys
    alice.socket.connect(daemon.endpoints["ingest"])
    alice.open("x")
    alice.feed(quilter[:32_000])
    daemon.keys = ring.keys("bob")
    bob = Feeder(daemon)
    # He may publish x, but this life of it is hers.
    assert bob.ask("refused", stream="x", epoch=alice.epoch, **form)["reason"] == "not_allowed"
    bob.send(b"1234", type="audio", stream="x", seq=alice.seq)
    assert bob.until("error")["reason"] == "unknown_stream"
    # Nor does her routing id make him her.
    with daemon.context.socket(zmq.DEALER) as thief:
        thief.linger = 0
        thief.routing_id = b"alice"
        thief.curve_serverkey, thief.curve_publickey, thief.curve_secretkey = daemon.keys
        assert handshake(thief, daemon.endpoints["ingest"]) == "HANDSHAKE_SUCCEEDED"
        header = json.dumps({"v": 1, "type": "audio", "stream": "x", "seq": alice.seq}).encode()
        thief.send_multipart([header, b"1234"])
        bob.ask("pong", type="ping")
        assert alice.ask("pong", type="ping", stream="x")["seq"] == alice.seq
    bob.open("b1")
    assert alice.close()["samples"] == 16_000
    bob.close()


def test_subscriptions(guarded, ring, quilter):
    daemon = guarded(sections={"endpoint": {"silence_ms": 200}}, carol={"subscribe": ["a*", "b/final"]})
    feeders = {name: Feeder(daemon) for name in ("c", "b", "a1")}
    for name, feeder in feeders.items():
        feeder.open(name)
    daemon.keys = ring.keys("carol")
    topics = ["", "c/", "c/final/", "b/", "b", "b/final", "b/fin", "b/final/", "a1/closed/", "a"]
    answer = daemon.control(type="access", topics=topics)
    assert [each["topic"] for each in answer["refused"]] == ["", "c/", "c/final/", "b/", "b", "b/final", "b/fin"]
    assert answer["key"] == "carol" and answer["subscribe"] == ["a*", "b/final"] and answer["publish"] == []
    socket = daemon.socket(zmq.SUB, "results")
    for topic in topics:
        socket.subscribe(topic)
    seen = []

    def receive(topic):
        while not seen or seen[-1] != topic:
            seen.append(socket.recv_multipart()[0].decode())

    receive("a1/opened/")  # a replay: by now all subscriptions have been looked at
    for feeder in feeders.values():
        feeder.feed(quilter)
        feeder.close()
    receive("a1/closed/")
    assert {topic for topic in seen if not topic.startswith("a1/")} == {"b/final/"}
    assert {"a1/final/", "a1/partial/", "a1/level/"} <= set(seen)
    # Taking one back works as ever, and nothing refused comes by it.
    socket.unsubscribe("")
    socket.unsubscribe("a")
    socket.unsubscribe("a1/closed/")
    ended = Feeder(daemon)
    assert ended.ask("refused", type="open", stream="a2", rate=16000, format="s16le")["reason"] == "not_allowed"
    drops = daemon.get("/metrics")[1]
    assert 'sidewinder_drops_total{reason="not_allowed"}' in drops


def test_control(guarded, ring, tmp_path, quilter):
    daemon = guarded(dora={"control": ["list", "history", "close"], "subscribe": ["a", "b/closed"], "publish": ["b"]},
                     hasty={"control": ["list"], "requests_per_second": 2})
    feeders = {name: Feeder(daemon) for name in "abc"}
    for name, feeder in feeders.items():
        feeder.open(name)
    daemon.keys = ring.keys("dora")
    assert [s["stream"] for s in daemon.control(type="list")["streams"]] == ["a", "b"]
    for request in ({"type": "stats"}, {"type": "drain"}, {"type": "open", "file": "/etc/passwd"},
                    {"type": "close", "stream": "a"}, {"type": "history", "stream": "b", "from": 0, "to": 1},
                    {"type": "history", "stream": "c", "from": 0, "to": 1}):
        answer = daemon.control(id="1", **request)
        assert (answer["type"], answer["reason"], answer["id"]) == ("error", "not_allowed", "1"), answer
    assert daemon.control(type="history", stream="a", **{"from": 0, "to": 1})["next"] == 0
    assert daemon.control(type="close", stream="b")["type"] == "closing"
    assert feeders["b"].until("closed")["reason"] == "control"

    daemon.keys = ring.keys("hasty")
    answers = [daemon.control(type="list") for _ in range(4)]
    over = next(a for a in answers if a["type"] == "error")
    assert over["reason"] == "over_quota" and 0 < over["retry_ms"] <= 1001
    eventually(lambda: daemon.control(type="list")["type"] == "list")


def test_quotas(guarded, ring, stereo, stereo_offline):
    daemon = guarded(eve={"publish": ["*"], "control": ["open"], "streams": 1, "bytes_per_second": 150_000})
    subscriber = Subscriber(daemon)
    daemon.keys = ring.keys("eve")
    feeder, other = Feeder(daemon), Feeder(daemon)
    feeder.open("e", rate=44100, channels=2)
    form = {"type": "open", "stream": "e2", "rate": 16000, "format": "s16le"}
    refused = other.ask("refused", **form)
    assert refused["reason"] == "over_quota" and "1 streams" in refused["message"]
    refused = daemon.control(type="open", file=str(DATA / "stereo-44k.flac"), stream="e3")
    assert refused["type"] == "refused" and refused["reason"] == "over_quota"
    # As fast as the quota lets it: what is refused is sent again when it says, and nothing is lost. The first message
    # has seconds to be paid off, for which not even a slow machine takes the second one.
    sent = waited = 0
    while sent < len(stereo):
        block = stereo[sent:sent + (80_000 if sent else 640_000)]
        while feeder.sent + len(block) // 4 > feeder.credit:
            feeder.until("credit")
        feeder.send(block, type="audio", stream="e", seq=feeder.seq)
        feeder.send(type="ping", stream="e", id="p")
        answer = feeder.until("pong", "error")
        if answer["type"] == "error":
            assert answer["reason"] == "over_quota" and answer["seq"] == feeder.seq
            feeder.until("pong")
            waited += 1
            time.sleep(answer["retry_ms"] / 1000)
            continue
        feeder.seq += 1
        feeder.sent += len(block) // 4
        sent += len(block)
    assert waited >= 1
    # Neither flush nor close overtakes audio that was refused, if they say how much there was.
    for request in ("flush", "close"):
        error = feeder.ask("error", type=request, stream="e", seq=feeder.seq + 1, id="m")
        assert (error["reason"], error["expected"], error["id"]) == ("wrong_sequence", feeder.seq, "m")
    assert feeder.ask("closed", type="close", stream="e", seq=feeder.seq)["seq"] == feeder.seq
    subscriber.until_closed("e")
    assert subscriber.words("e") == stereo_offline["words"]
    assert other.ask("opened", **form)
    assert 'sidewinder_drops_total{reason="over_quota"}' in daemon.get("/metrics")[1]


def test_audit(guarded, ring, tmp_path):
    audit = tmp_path / "audit.jsonl"
    daemon = guarded(security={"audit": str(audit)}, frank={"publish": ["f"], "subscribe": ["f"]})
    daemon.keys = ring.keys("frank")
    feeder = Feeder(daemon)
    feeder.open("f")
    feeder.feed(bytes(3200))
    feeder.close()
    assert feeder.ask("refused", type="open", stream="g", rate=16000, format="s16le")["reason"] == "not_allowed"
    daemon.control(type="drain")
    listener = daemon.socket(zmq.SUB, "results")
    listener.subscribe("g/")
    listener.subscribe("f/")
    wanted = [{"event": "connected", "socket": "ingest"},
              {"event": "opened", "stream": "f", "epoch": feeder.epoch},
              {"event": "ended", "stream": "f", "epoch": feeder.epoch, "reason": "client", "frames": 1600},
              {"event": "refused", "action": "open", "stream": "g", "reason": "not_allowed"},
              {"event": "refused", "action": "drain", "reason": "not_allowed"},
              {"event": "refused", "action": "subscribe", "topic": "g/", "reason": "not_allowed"},
              {"event": "subscribed", "topic": "f/"}]
    for each in wanted:
        found = eventually(lambda: [e for e in entries(audit) if each.items() <= e.items()])
        assert found[0]["key"] == "frank" and found[0]["address"] == "127.0.0.1"
        assert found[0]["time"].endswith("Z")
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600


def test_audit_log_is_bounded(start, tmp_path):
    """No keys needed for it; the oldest go."""
    audit = tmp_path / "audit.jsonl"
    daemon = start(security={"audit": str(audit), "audit_max_bytes": 65_536})
    with daemon.socket(zmq.REQ, "control") as socket:
        for number in range(2_000):
            socket.send_json({"v": 1, "type": "drain", "on": number % 2 == 0})
            socket.recv()
    daemon.stop()
    daemon.join()
    older = tmp_path / "audit.jsonl.1"
    assert 60_000 < older.stat().st_size <= 65_536 and audit.stat().st_size <= 65_536
    kept = [e["on"] for e in entries(older) + entries(audit) if e["event"] == "drained"]
    assert 500 < len(kept) < 2_000 and kept[-1] is False
    assert all(a != b for a, b in zip(kept, kept[1:]))  # none missing in between


def test_audit_log_on_a_full_disk(start, tmp_path):
    daemon = start(security={"audit": "/dev/full"})
    feeder = Feeder(daemon)
    for _ in range(3):
        feeder.open("f")
        feeder.feed(bytes(3200))
        assert feeder.close()["samples"] == 1600
        feeder = Feeder(daemon)
    eventually(lambda: "No space left on device" in daemon.log())
    assert daemon.log().count("No space left on device") == 1  # once, not for every entry
    metric = next(line for line in daemon.get("/metrics")[1].splitlines() if 'reason="audit_lost"' in line)
    assert float(metric.rsplit(" ", 1)[1]) >= 6
    config = tmp_path / "c.toml"
    config.write_text(toml({**SANE, "security": {"audit": str(tmp_path / "none" / "audit")}}))
    refused = run_daemon("--config", config)
    assert refused.returncode == 2 and "security.audit" in refused.stderr and "can't be opened" in refused.stderr


def test_command_line(guarded, ring, tmp_path, quilter, quilter_offline):
    daemon = guarded(grace={"publish": ["g*"], "subscribe": ["g"], "bytes_per_second": 500_000})
    ring.add("stranger")
    grace = ring.environment(daemon, "grace")
    shown = sidewinder("ctl", "access", **grace)
    assert shown.returncode == 0 and "grace" in shown.stdout and "g*" in shown.stdout
    assert sidewinder("ctl", "list", **grace).returncode == 9
    listed = sidewinder("ctl", "list", **ring.environment(daemon, "admin"))
    assert listed.returncode == 0 and "no streams" in listed.stdout

    stranger = sidewinder("ctl", "access", **ring.environment(daemon, "stranger"))
    assert stranger.returncode == 9 and "does not know this key" in stranger.stderr
    bare = {**grace, "SIDEWINDER_KEYS": "", "SIDEWINDER_SERVER_KEY": ""}
    without = sidewinder("ctl", "access", **bare)
    # Which of the two depends on whether the daemon's greeting comes before it hangs up.
    assert (without.returncode == 9 and "wants keys" in without.stderr) or (
        without.returncode == 8 and "does it want keys" in without.stderr)
    wrong = sidewinder("ctl", "access", **{**grace, "SIDEWINDER_SERVER_KEY": ring.public["stranger"]})
    assert wrong.returncode == 9 and "is --server-key its key" in wrong.stderr
    half = sidewinder("ctl", "access", "--keys", ring.folder / "grace.key_secret", **bare)
    assert half.returncode == 2 and "--server-key" in half.stderr
    for refused in (["listen", "other"], ["listen"]):
        done = sidewinder(*refused, "--json", **grace)
        assert done.returncode == 9 and "may subscribe to g" in done.stderr, done
    refused = sidewinder("send", "--fast", "--stream", "other", "--rate", "16000", "/dev/null", **grace)
    assert refused.returncode == 9 and "may publish g*" in refused.stderr

    with subprocess.Popen([BIN / "sidewinder", "listen", "g", "--json", "--until-closed"], stdout=subprocess.PIPE,
                          text=True, env={**os.environ, **grace}) as listener:
        with subprocess.Popen([BIN / "sidewinder", "send", "-", "--rate", "16000", "--fast", "--stream", "g"],
                              stdin=subprocess.PIPE, env={**os.environ, **grace}) as sender:
            assert json.loads(listener.stdout.readline())["type"] == "opened"
            sender.stdin.write(quilter)  # more than a second's worth of the quota
            sender.stdin.close()
            assert sender.wait(PATIENCE) == 0
        finals = [validate("results", m) for m in map(json.loads, listener.communicate()[0].splitlines())
                  if m["type"] == "final"]
    assert listener.returncode == 0
    assert [w for f in finals for w in f["words"]] == quilter_offline["words"]
