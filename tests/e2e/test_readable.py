"""Casing, marks, and numbers in digits: what `--text` adds, and subtitles as the world's own parsers read them."""

import json
import re

import media
import pytest
import srt
import webvtt
from program import CLIP, MODEL, transcribe
from test_formats import check_transcript, parsed

READABLE = ["--text", "readable"]


def readable(*arguments):
    return parsed(transcribe(*arguments, "--format", "json", *READABLE).succeeds().out)


def test_the_words_stay_beside_the_text(clip_text):
    transcript = readable(CLIP)
    check_transcript(transcript)
    assert transcript["text"].split() == clip_text.split(), "the words as they were heard"
    shown = [word["display"] for word in transcript["words"]]
    assert shown[0], "the first word is no part of one before"
    assert transcript["readable"] == " ".join(text for text in shown if text)
    assert transcript["readable"] == transcribe(CLIP, *READABLE).succeeds().out.replace("\n", " ").strip()


def test_sentences_begin_with_a_capital_and_have_an_end():
    text = readable(CLIP)["readable"]
    assert text[0].isupper()
    assert re.search(r"[.?!]", text), "23 s of prose without a sentence's end"
    assert all(after.isupper() or not after.isalpha() for after in re.findall(r"[.?!] (\S)", text))


def test_only_casing_marks_and_numbers_are_changed():
    punctuated = transcribe(CLIP, "--text", "punctuated").succeeds().out
    assert re.sub(r"[,.?!:;]", "", punctuated).lower().split() == transcribe(CLIP).succeeds().out.split()


@pytest.mark.parametrize("chunk", [10, 80, 333, 5000])
def test_the_same_text_whatever_the_chunks(chunk):
    assert transcribe(CLIP, *READABLE, "--chunk-ms", chunk).succeeds().out == \
        transcribe(CLIP, *READABLE).succeeds().out


def test_a_text_of_its_own_for_each_stream(good):
    """Many streams share one model: each gets what it gets alone."""
    together = transcribe(CLIP, good, CLIP, good, "--format", "json", *READABLE).succeeds().out
    texts = [document["readable"] for document in json.loads(together)]
    assert texts == [readable(CLIP)["readable"], readable(good)["readable"]] * 2


def test_a_model_without_punctuation_is_named(tmp_path):
    for name in ("config.json", "model.safetensors", "tokens.txt"):
        (tmp_path / name).symlink_to(MODEL / name)
    transcribe(CLIP, "--model", tmp_path, *READABLE).fails(3, tmp_path / "punctuation", "--text words")


@pytest.mark.parametrize("text", ["words", "readable"])
@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_by_other_parsers(tmp_path, form, text):
    """Of each clip: what python3-srt and python3-webvtt read keeps the rules, and is the text."""
    for clip in (CLIP, media.DATA / "northanger.flac"):
        written = transcribe(clip, "--format", form, "--text", text).succeeds().out
        if form == "srt":
            cues = [(c.start.total_seconds(), c.end.total_seconds(), c.content.split("\n"))
                    for c in srt.parse(written, ignore_errors=False)]
        else:
            path = tmp_path / "clip.vtt"
            path.write_text(written)
            cues = [(c.start_in_seconds, c.end_in_seconds, c.text.split("\n")) for c in webvtt.read(str(path))]
        plain = transcribe(clip, "--text", text).succeeds().out
        assert " ".join(" ".join(lines) for _, _, lines in cues).split() == plain.split()
        before = 0
        for begin, end, lines in cues:
            assert begin >= before
            assert 1 <= round(end - begin, 3) <= 7
            assert len(lines) <= 2 and all(len(line) <= 42 for line in lines)
            before = end
        alone = [lines for _, _, lines in cues if any(" " not in line for line in lines)]
        assert len(alone) <= len(cues) // 10, alone
