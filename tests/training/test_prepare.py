"""prepare.py on small folders in the layouts of the sets as they are downloaded, with real speech in their own formats and
rates."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

HERE = os.path.dirname(os.path.abspath(__file__))
TRAINING = os.path.join(HERE, "..", "..", "model", "training")
sys.path.insert(0, TRAINING)
import data
import prepare

CLIP = os.path.join(HERE, "..", "data", "quilter.flac")
QUILTER = "MISTER QUILTER IS THE APOSTLE OF THE MIDDLE CLASSES AND WE ARE GLAD TO WELCOME HIS GOSPEL"
MANNER = "NOR IS MISTER QUILTER'S MANNER LESS INTERESTING THAN HIS MATTER"


@pytest.fixture(scope="module")
def speech():
    """Two utterances, float32 at 16 kHz."""
    x, rate = soundfile.read(CLIP, dtype="float32")
    assert rate == 16000
    return x[: 6 * 16000], x[6 * 16000 : 11 * 16000]


def run(kind, folder, out):
    return subprocess.run(
        [sys.executable, "prepare.py", kind, str(folder), str(out), "--jobs", "1"],
        cwd=TRAINING,
        capture_output=True,
        text=True,
        timeout=120,
    )


def prepared(kind, folder, out):
    """-> [(samples, TEXT, speaker)], the run"""
    r = run(kind, folder, out)
    assert r.returncode == 0, r.stderr
    parts, rows = data.read_set(str(out))
    flat = np.concatenate(parts)
    return [(flat[a : a + n], text, who) for a, n, text, who, _ in rows], r


def same(got, want, least):
    """The signal-to-error ratio in dB of int16 samples against float ones, at the best of a few shifts (MP3 adds its own)."""
    want = np.round(want * 32768)
    best = -99.0
    for shift in range(0, 1600 if least < 30 else 1):
        n = min(len(got) - shift, len(want))
        a, b = got[shift : shift + n].astype(np.float64), want[:n]
        best = max(best, 10 * np.log10((b @ b) / max(1e-9, (a - b) @ (a - b))))
    assert abs(len(got) - len(want)) < 4000 and best > least, best


def test_librispeech(speech, tmp_path):
    d = tmp_path / "LibriSpeech" / "dev-clean" / "1272" / "128104"
    d.mkdir(parents=True)
    for i, x in enumerate(speech):
        soundfile.write(d / f"1272-128104-000{i}.flac", x, 16000)
    (d / "1272-128104.trans.txt").write_text(f"1272-128104-0000 {QUILTER}\n1272-128104-0001 {MANNER}\n")
    got, _ = prepared("librispeech", tmp_path / "LibriSpeech" / "dev-clean", tmp_path / "out")
    assert [(t, s) for _, t, s in got] == [(QUILTER, "1272"), (MANNER, "1272")]
    for (x, _, _), want in zip(got, speech):
        assert np.array_equal(x, np.round(want * 32768).astype(np.int16))


def test_libritts(speech, tmp_path):
    d = tmp_path / "LibriTTS" / "dev-clean" / "1272" / "128104"
    d.mkdir(parents=True)
    texts = [
        "\u201cMister Quilter is the apostle of the middle classes,\u201d and we are glad to welcome his gospel.",
        "Chapter 2 of 7.",
    ]
    for i, (x, t) in enumerate(zip(speech, texts)):
        name = f"1272_128104_00000{i}_000000"
        soundfile.write(d / f"{name}.wav", resample_poly(x, 3, 2), 24000)
        (d / f"{name}.normalized.txt").write_text(t, encoding="utf-8")
        (d / f"{name}.original.txt").write_text("Mr. Quilter", encoding="utf-8")
    got, _ = prepared("libritts", tmp_path / "LibriTTS" / "dev-clean", tmp_path / "out")
    assert [(t, s) for _, t, s in got] == [(QUILTER, "1272")]  # digits are nobody's words
    same(got[0][0], speech[0], 30)


@pytest.mark.skipif("MP3" not in soundfile.available_formats(), reason="this libsndfile has no MP3")
def test_common_voice(speech, tmp_path):
    folder = tmp_path / "cv-corpus-17.0-2024-03-15" / "en"
    (folder / "clips").mkdir(parents=True)
    for i, x in enumerate(speech):
        wav = tmp_path / f"{i}.wav"
        soundfile.write(wav, resample_poly(x, 2, 1), 32000)
        subprocess.run(["sox", str(wav), str(folder / "clips" / f"common_voice_en_1000{i}.mp3")], check=True)
    (folder / "clips" / "common_voice_en_10003.mp3").write_bytes(b"")
    head = "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment".split()
    client = "0123456789abcdef" * 8
    line = lambda i, text: "\t".join(
        [client, f"common_voice_en_1000{i}.mp3", "ab12", text, "", "2", "0", "", "", "", "", "en", ""]
    )
    (folder / "train.tsv").write_text(
        "\n".join(
            [
                "\t".join(head),
                line(0, "\"Mister Quilter is the apostle of the middle classes\", and we are glad " "to welcome his gospel."),
                line(1, "Nor is Mister Quilter\u2019s manner less interesting \u2013 than his matter."),
                line(2, "This clip is missing."),
                line(3, "This one is empty."),
            ]
        )
        + "\n",
        encoding="utf-8",
    )
    got, r = prepared("commonvoice", folder, tmp_path / "out")
    assert [(t, s) for _, t, s in got] == [(QUILTER, client[:12]), (MANNER, client[:12])]
    for (x, _, _), want in zip(got, speech):
        same(x, want, 12)
    assert "2 files could not be read" in r.stderr and "10002.mp3" in r.stderr and "10003.mp3" in r.stderr


def test_tedlium(speech, tmp_path):
    folder = tmp_path / "TEDLIUM_release-3" / "legacy" / "train"
    for k in ("sph", "stm"):
        (folder / k).mkdir(parents=True)
    soundfile.write(tmp_path / "talk.wav", np.concatenate(speech), 16000)
    subprocess.run(["sox", str(tmp_path / "talk.wav"), "-t", "sph", str(folder / "sph" / "HarryQuilter_2010.sph")], check=True)
    name, label = "HarryQuilter_2010 1 HarryQuilter_2010", "<o,f0,male>"
    (folder / "stm" / "HarryQuilter_2010.stm").write_text(
        "\n".join(
            [
                ';; LABEL "male" "Male" "Male Talkers"',
                f"{name} 0.00 6.00 {label} mister quilter is the(2) apostle of the middle classes <sil> and we are glad to welcome his gospel {{BREATH}} "
                "(HarryQuilter_2010-0.00-6.00)",
                f"{name} 6.00 11.00 {label} nor is mister quilter 's manner less interesting than his matter",
                f"{name} 6.00 8.00 {label} nor is mister <unk>",
                f"{name} 8.00 11.00 {label} ignore_time_segment_in_scoring",
            ]
        )
        + "\n"
    )
    got, _ = prepared("tedlium", folder, tmp_path / "out")
    assert [(t, s) for _, t, s in got] == [(QUILTER, "HarryQuilter_2010"), (MANNER, "HarryQuilter_2010")]
    for (x, _, _), want in zip(got, speech):
        same(x, want, 60)


def test_opus_packs(speech, tmp_path):
    folder = tmp_path / "packs"
    folder.mkdir()
    soundfile.write(folder / "0000.opus", np.concatenate(speech), 16000, format="OGG", subtype="OPUS")
    (folder / "packs.tsv").write_text(f"0000.opus\t0.0\t6.0\t1272\t{QUILTER}\n0000.opus\t6.0\t5.0\t1272\t{MANNER}\n")
    got, _ = prepared("packs", folder, tmp_path / "out")
    assert [(t, s) for _, t, s in got] == [(QUILTER, "1272"), (MANNER, "1272")]
    for (x, _, _), want in zip(got, speech):
        same(x, want, 8)


@pytest.mark.parametrize(
    "kind,says", [("librispeech", "trans.txt"), ("libritts", "normalized.txt"), ("commonvoice", "train.tsv"), ("tedlium", ".stm")]
)
def test_a_folder_of_something_else(kind, says, tmp_path):
    r = run(kind, tmp_path, tmp_path / "out")
    assert r.returncode != 0 and says in r.stderr and str(tmp_path) in r.stderr and "Traceback" not in r.stderr


@pytest.mark.parametrize(
    "text,words",
    [
        ("It\u2019s a well-known \u201cfact\u201d\u2026", "IT'S A WELL KNOWN FACT"),
        ("Room 101", ""),
        ("na\u00efve", ""),
        ("'Tis so,' he said.", "TIS SO HE SAID"),
        ("Mr. and Mrs. Quilter", "MISTER AND MISSUS QUILTER"),
        ("...", ""),
    ],
)
def test_plain(text, words):
    assert prepare.plain(text) == words
