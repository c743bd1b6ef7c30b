"""Inputs that can't be heard, or not whole: one line each that says what is wrong and what to do."""

import array
import os
import random
import struct

import media
import pytest
from program import CLIP, transcribe

EXIT_INPUT = 1

CLIP_FLAC = CLIP.read_bytes()
NOISE = random.Random(3).randbytes(5000)
NAN, INF = float("nan"), float("inf")


def floats(values):
    return array.array("f", values).tobytes()


def float_wav(values):
    return media.wav(floats(values), bits=32, tag=media.FLOAT)


def quiet(seconds):
    return [0.01 * (-1) ** i for i in range(int(16000 * seconds))]


# name, content, what the message says, what it advises
UNREADABLE = [
    ("empty.wav", b"", "the file is empty", "copy it again"),
    ("text.wav", b"These words are not sound.\n" * 50, "not a sound file", "convert it to WAV, FLAC, Ogg or MP3"),
    ("noise.mp3", NOISE, "not a sound file", "convert it"),
    ("header-cut.wav", media.wav(b"")[:30], "not a sound file", "convert it"),
    ("header-only.wav", media.wav(b""), "holds no samples", "record or copy it again"),
    ("no-channels.wav", media.wav(bytes(200), channels=0), "Channel count is zero", "convert it"),
    ("slow.wav", media.wav(bytes(32000), rate=7999), "sample rate is 7999 Hz", "convert it"),
    ("fast.wav", media.wav(bytes(32000), rate=192001), "sample rate is 192001 Hz", "convert it"),
    ("nan.wav", float_wav([NAN] * 16000), "sample 0 of channel 1 is no finite number", "export the audio again"),
    ("inf.wav", float_wav([INF] * 16000), "sample 0 of channel 1 is no finite number", "export the audio again"),
    ("unscaled.wav", float_wav([20000.0] * 16000), "far outside -1 to 1", "scale the audio"),
]


@pytest.mark.parametrize("name, content, wrong, advice", UNREADABLE, ids=[case[0] for case in UNREADABLE])
def test_unreadable_file(store, name, content, wrong, advice):
    path = store(name, content)
    result = transcribe(path).fails(EXIT_INPUT, f"{path}: ", wrong, advice)
    assert result.out == ""


def test_missing_file(tmp_path):
    path = tmp_path / "none.wav"
    transcribe(path).fails(EXIT_INPUT, f"{path}: no such file", "check the path")
    transcribe("").fails(EXIT_INPUT, '"": no such file')


def test_folder_as_file(tmp_path):
    transcribe(tmp_path).fails(EXIT_INPUT, f"{tmp_path}: a directory", "give the files in it")


def test_name_with_a_newline_is_one_line(tmp_path):
    transcribe(tmp_path / "a\nb.wav").fails(EXIT_INPUT, "a?b.wav: no such file")


# name, content of 5 seconds of speech, what the message says; what is there is heard
CUT = [
    ("promises-more.wav", lambda s: media.wav(s, data_size=2 * len(s)), "promises more than the 80000 frames"),
    ("promises-gigabytes.wav", lambda s: media.wav(s, data_size=0x70000000), "promises more than the 80000 frames"),
    ("nan-behind.wav", lambda s: media.wav(media.as_float(s) + floats([NAN] * 999), bits=32, tag=media.FLOAT),
     "sample 80000 of channel 1 is no finite number"),
]


@pytest.mark.parametrize("name, content, wrong", CUT, ids=[case[0] for case in CUT])
def test_what_is_there_is_heard(store, speech, good_text, name, content, wrong):
    path = store(name, content(speech[:160000]))
    result = transcribe(path).fails(EXIT_INPUT, f"{path}: ", wrong)
    assert result.out == good_text


@pytest.mark.parametrize("size", [0x7FFFF000, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF], ids=hex)
def test_lengths_that_stream_writers_leave(store, speech, good_text, size):
    """sox, arecord and ffmpeg can't go back in a pipe: their headers stand for `to the end`."""
    content = media.wav(speech[:160000], data_size=size)
    assert transcribe(store("piped.wav", content)).succeeds().out == good_text
    assert transcribe("-", input=content).succeeds().out == good_text


@pytest.mark.parametrize("kept", [len(CLIP_FLAC) // 2, len(CLIP_FLAC) - 1], ids=["half", "all but a byte"])
def test_flac_cut_short(store, clip_text, kept):
    path = store("cut.flac", CLIP_FLAC[:kept])
    result = transcribe(path).fails(EXIT_INPUT, f"{path}: the file is cut short or damaged", "copy it again")
    assert result.out[:40] == clip_text[:40]


def test_flac_with_a_hole(store, clip_text):
    middle = len(CLIP_FLAC) // 2
    path = store("hole.flac", CLIP_FLAC[:middle] + bytes(300) + CLIP_FLAC[middle + 300:])
    result = transcribe(path).fails(EXIT_INPUT, "cut short or damaged", "of 371085 frames")
    assert result.out[:40] == clip_text[:40]


def test_silence_and_clipping_are_warnings(store):
    zero = store("zero.wav", media.wav(bytes(64000)))
    assert transcribe(zero).fails(0, f"{zero}: warning: every sample is zero", "check the microphone").out == ""
    square = b"".join(struct.pack("<h", 32767 if i // 40 % 2 else -32768) for i in range(32000))
    clipped = store("clipped.wav", media.wav(square))
    transcribe(clipped).fails(0, f"{clipped}: warning: 100 % of the samples are at full scale", "record quieter")
    rarely = b"".join(struct.pack("<h", 32767 if i % 500 == 0 else 100) for i in range(32000))
    transcribe(store("rarely.wav", media.wav(rarely))).fails(0, "warning: up to 1 % of the samples")


@pytest.mark.parametrize("samples", [1, 399, 400, 1600])
@pytest.mark.parametrize("rate", [8000, 16000, 192000])
def test_very_short(store, speech, samples, rate):
    path = store("short.wav", media.wav(speech[40000:40000 + 2 * samples], rate=rate))
    transcribe(path).succeeds()


def test_the_others_still_finish(store, good, good_text, tmp_path):
    bad = [store(name, content) for name, content, _, _ in UNREADABLE] + [tmp_path / "none.wav"]
    half = len(bad) // 2
    result = transcribe(*bad[:half], good, *bad[half:])
    assert result.code == EXIT_INPUT
    assert good_text in result.out
    assert len(result.messages) == len(bad), result.err
    for path in bad:
        assert sum(message.startswith(f"sidewinder: {path}: ") for message in result.messages) == 1, path


def test_text_up_to_a_bad_sample_does_not_depend_on_chunks(store, speech):
    content = media.wav(media.as_float(speech[:160000]) + floats([NAN] * 9), bits=32, tag=media.FLOAT)
    path = store("nan.wav", content)
    texts = {transcribe(path, "--chunk-ms", ms).fails(EXIT_INPUT, "sample 80000").out for ms in (50, 320, 60000)}
    assert len(texts) == 1


# ---- standard input ----

BAD_STREAMS = [
    ("empty", b"", "the stream is empty"),
    ("text", b"These words are not sound.\n", "not a WAV stream"),
    ("header cut", media.wav(bytes(100))[:30], "the WAV header is cut short"),
    ("no samples", media.wav(b""), "holds no samples"),
    ("no channels", media.wav(bytes(100), channels=0), "says 0 channels"),
    ("odd bits", media.wav(bytes(120), bits=12), "12 bits can't be streamed"),
    ("slow", media.wav(bytes(100), rate=7999), "sample rate is 7999 Hz"),
    ("fast", media.wav(bytes(100), rate=192001), "sample rate is 192001 Hz"),
    ("nan", float_wav(quiet(0.01) + [NAN]), "sample 160 of channel 1 is no finite number"),
    ("cut short", media.wav(bytes(range(100)), data_size=1000), "50 of the 500 frames that its header promises"),
    ("chunks without end", media.wav(bytes(100))[:12] + bytes(10000), "no samples in its first 1024 chunks"),
]


@pytest.mark.parametrize("content, wrong", [case[1:] for case in BAD_STREAMS], ids=[case[0] for case in BAD_STREAMS])
def test_bad_stream(content, wrong):
    transcribe("-", input=content).fails(EXIT_INPUT, "standard input: ", wrong)


def test_raw_stream_that_ends_inside_a_frame():
    arguments = ("-", "--rate", 16000, "--sample-format", "s16le", "--channels", 2)
    transcribe(*arguments, input=bytes(range(101))).fails(EXIT_INPUT, "1 byte past the last whole one",
                                                          "check --sample-format and --channels")


def test_folder_as_standard_input(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        transcribe("-", stdin=folder).fails(EXIT_INPUT, "standard input: can't be read: Is a directory")
    finally:
        os.close(folder)
