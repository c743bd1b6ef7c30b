"""JSON, SRT, VTT and text: valid, consistent with each other, and the same in files as on standard output."""

import hashlib
import json
import re
from pathlib import Path

import jsonschema
import media
import pytest
from program import CLIP, MODEL, STEREO, transcribe

SCHEMA = json.loads((Path(__file__).parent / "transcript.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def parsed(text):
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    VALIDATOR.validate(document)
    return document


def model_hash():
    sha = hashlib.sha256()
    for name in ("config.json", "model.safetensors", "tokens.txt"):
        content = (MODEL / name).read_bytes()
        sha.update(len(content).to_bytes(8, "little") + content)
    return sha.hexdigest()


def check_transcript(transcript):
    rate, samples = transcript["sample_rate"], transcript["samples"]
    assert transcript["duration"] == pytest.approx(samples / rate, abs=0.0006)
    assert transcript["model"] == {"name": "pretrained", "sha256": model_hash()}
    assert transcript["text"] == " ".join(word["word"] for word in transcript["words"])
    before = 0
    for word in transcript["words"]:
        assert before <= word["start_sample"] <= word["end_sample"] <= samples, word
        assert word["start"] == pytest.approx(word["start_sample"] / rate, abs=0.0006)
        assert word["end"] == pytest.approx(word["end_sample"] / rate, abs=0.0006)
        assert 0 < word["confidence"] <= 1
        before = word["end_sample"]


def untimed(document):
    """Without what is another at each run."""
    for transcript in document["channels"] if set(document) == {"channels"} else [document]:
        del transcript["timing"]
    return document


# ---- JSON ----


def test_json_of_one_file(clip_text):
    transcript = parsed(transcribe(CLIP, "--format", "json").succeeds().out)
    check_transcript(transcript)
    assert transcript["file"] == str(CLIP)
    assert (transcript["channel"], transcript["channels"], transcript["sample_rate"]) == ("mix", 1, 16000)
    assert transcript["samples"] == 371085
    assert transcript["text"].split() == clip_text.split()
    assert len(transcript["words"]) > 40
    assert transcript["timing"]["wall_seconds"] >= transcript["timing"]["engine_seconds"] > 0


def test_json_of_several_files_keeps_their_places(good, tmp_path):
    inputs = [tmp_path / "none.wav", CLIP, good, tmp_path, STEREO]
    result = transcribe(*inputs, "--format", "json")
    assert result.code == 1 and len(result.messages) == 2
    documents = parsed(result.out)
    assert [d["file"] for d in documents] == [str(i) for i in inputs]
    for index in (0, 3):
        assert set(documents[index]) == {"file", "error"}
        assert documents[index]["error"] in result.messages[index // 3]
    for index in (1, 2, 4):
        check_transcript(documents[index])


@pytest.mark.parametrize("bad_last", [False, True])
def test_json_when_every_file_fails_or_the_last(good, tmp_path, bad_last):
    inputs = [good if bad_last else tmp_path, tmp_path]
    assert len(parsed(transcribe(*inputs, "--format", "json").out)) == 2


def test_json_of_each_channel():
    document = parsed(transcribe(STEREO, "--format", "json", "--channel", "each").succeeds().out)
    assert [t["channel"] for t in document["channels"]] == ["1", "2"]
    for transcript in document["channels"]:
        check_transcript(transcript)
        assert transcript["channels"] == 2 and transcript["words"]


def test_json_of_each_channel_of_several_files(good):
    documents = parsed(transcribe(STEREO, good, STEREO, "--format", "json", "--channel", "each").succeeds().out)
    assert [len(d["channels"]) for d in documents] == [2, 1, 2]
    assert untimed(documents[0]) == untimed(documents[2])


def test_json_says_why_it_ended_early(store, speech):
    path = store("cut.wav", media.wav(speech[:160000], data_size=320000))
    result = transcribe(path, "--format", "json").fails(1, "promises more")
    transcript = parsed(result.out)
    check_transcript(transcript)
    assert transcript["error"] in result.err and transcript["samples"] == 80000


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 192000])
@pytest.mark.parametrize("cut", range(4))
def test_words_end_with_the_audio(store, speech, rate, cut):
    """Cut inside words: what comes out of the padding behind lies within the file all the same."""
    samples = 4 * rate + cut
    content = (speech * 8)[16000:16000 + 2 * samples]
    result = transcribe(store("cut.wav", media.wav(content, rate=rate)), "--format", "json").succeeds()
    transcript = parsed(result.out)
    assert transcript["samples"] == samples
    check_transcript(transcript)


def test_json_without_words(store):
    transcript = parsed(transcribe(store("one.wav", media.wav(b"\0\1")), "--format", "json").succeeds().out)
    assert (transcript["words"], transcript["text"], transcript["samples"]) == ([], "", 1)


def test_file_name_that_is_no_text(tmp_path, speech):
    path = tmp_path / "a\"b\\\udcff.wav"
    path.write_bytes(media.wav(speech[:32000]))
    assert parsed(transcribe(path, "--format", "json").succeeds().out)["file"].endswith("a\"b\\\ufffd.wav")


# ---- cues ----

TIME = r"(\d\d):([0-5]\d):([0-5]\d)%s(\d\d\d)"


def parse_cues(text, form):
    """The cues as (begin, end, lines); milliseconds. As strict as the formats and the promises of this program."""
    mark = {"srt": ",", "vtt": r"\."}[form]
    if form == "vtt":
        header, _, text = text.partition("\n")
        assert header == "WEBVTT"
        assert text == "" or text.startswith("\n")
        text = text[1:]
    if not text:
        return []
    assert text.endswith("\n") and not text.endswith("\n\n") and "\r" not in text
    cues, before = [], 0
    for number, block in enumerate(text[:-1].split("\n\n"), 1):
        index, times, *lines = block.split("\n")
        assert index == str(number)
        match = re.fullmatch(TIME % mark + " --> " + TIME % mark, times)
        assert match, times
        hour, minute, second, milli, *_ = [int(group) for group in match.groups()]
        begin = ((hour * 60 + minute) * 60 + second) * 1000 + milli
        hour, minute, second, milli = [int(group) for group in match.groups()[4:]]
        end = ((hour * 60 + minute) * 60 + second) * 1000 + milli
        assert before <= begin < end <= begin + 7000
        assert 1 <= len(lines) <= 2
        assert all(0 < len(line) <= 42 and line == line.strip() for line in lines), lines
        assert "-->" not in "".join(lines)
        cues.append((begin, end, lines))
        before = end
    return cues


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_cues(form, clip_text):
    cues = parse_cues(transcribe(CLIP, "--format", form).succeeds().out, form)
    assert " ".join(" ".join(lines) for _, _, lines in cues).split() == clip_text.split()
    words = parsed(transcribe(CLIP, "--format", "json").succeeds().out)["words"]
    starts = {round(word["start"] * 1000) for word in words}
    assert len(cues) > 4 and all(begin in starts for begin, _, _ in cues)
    assert cues[-1][1] <= 23193, "within the clip"


def test_srt_and_vtt_are_the_same_cues():
    assert parse_cues(transcribe(CLIP, "--format", "srt").out, "srt") == \
        parse_cues(transcribe(CLIP, "--format", "vtt").out, "vtt")


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_cues_of_random_words(store, tiny, speech, form):
    """The small model's chatter: many words, at any time."""
    path = store("long.wav", media.wav(speech * 10))
    cues = parse_cues(transcribe(path, "--model", tiny, "--format", form).succeeds().out, form)
    assert len(cues) > 20


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_no_words_no_cues(store, form):
    path = store("one.wav", media.wav(b"\0\1"))
    assert parse_cues(transcribe(path, "--format", form).succeeds().out, form) == []


# ---- text ----


def test_text_of_several_files(good, clip_text, good_text):
    result = transcribe(CLIP, "-", good, input=good.read_bytes()).succeeds()
    assert result.out == f"== {CLIP} ==\n{clip_text}== standard input ==\n{good_text}== {good} ==\n{good_text}"


def test_text_of_each_channel():
    text = transcribe(STEREO, "--channel", "each").succeeds().out
    one, two = (transcribe(STEREO, "--channel", n).succeeds().out for n in (1, 2))
    assert one != two and text == f"channel 1:\n{one}channel 2:\n{two}"


# ---- files ----


@pytest.mark.parametrize("form, extension", [("text", "txt"), ("json", "json"), ("srt", "srt"), ("vtt", "vtt")])
def test_files_hold_what_standard_output_would(good, tmp_path, form, extension):
    out = tmp_path / "new" / "folder"
    result = transcribe(CLIP, good, "-", "--format", form, "--output", out, input=good.read_bytes()).succeeds()
    assert result.out == ""
    assert sorted(path.name for path in out.iterdir()) == [f"{n}.{extension}" for n in ("good", "quilter", "stdin")]
    for name, argument in (("quilter", CLIP), ("good", good), ("stdin", "-")):
        alone = transcribe(argument, "--format", form, input=good.read_bytes()).succeeds().out
        written = (out / f"{name}.{extension}").read_text()
        if form == "json":
            assert untimed(parsed(written)) == untimed(parsed(alone))
        else:
            assert written == alone


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_a_file_for_each_channel(tmp_path, form):
    transcribe(STEREO, "--format", form, "--channel", "each", "--output", tmp_path).succeeds()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"stereo-44k.{n}.{form}" for n in (1, 2)]
    for number in (1, 2):
        alone = transcribe(STEREO, "--format", form, "--channel", number).succeeds().out
        assert (tmp_path / f"stereo-44k.{number}.{form}").read_text() == alone
        assert parse_cues(alone, form)


def test_one_document_for_all_channels(tmp_path):
    transcribe(STEREO, "--format", "json", "--channel", "each", "--output", tmp_path).succeeds()
    assert len(parsed((tmp_path / "stereo-44k.json").read_text())["channels"]) == 2


def test_a_failed_input_leaves_no_file(good, store, tmp_path):
    out = tmp_path / "out"
    assert transcribe(store("bad.wav", b"no sound"), good, "--output", out).code == 1
    assert [path.name for path in out.iterdir()] == ["good.txt"]
