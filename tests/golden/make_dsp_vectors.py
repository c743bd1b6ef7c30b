#!/usr/bin/env python3
"""Makes tests/golden/dsp_vectors.safetensors, the reference values of the dsp unit tests.

    pip install numpy==2.4.6 scipy==1.17.1 librosa==0.11.0 safetensors==0.8.0
    python make_dsp_vectors.py

Resampler, for each input rate: `resample.<rate>.input` (int16), `.polyphase` (scipy.signal.resample_poly in float64
with the filter that dsp/resampler.h describes) and `.ideal` (sum of the whole signal times an untruncated sinc).
Log-mel: `mel.<name>.input` (int16), `.log_mel` (frames, mels), `.config` (int32: sample rate, window, hop, FFT, mels,
f_min, f_max), by librosa in float64. Values are float32.
"""

import math
import pathlib

import librosa
import numpy as np
import scipy.signal
from safetensors.numpy import save_file

OUTPUT_RATE = 16_000
RATES = [8_000, 8_001, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 44_101, 48_000, 88_200, 96_000, 192_000]
MELS = {  # sample rate, window, hop, FFT, mels, f_min, f_max
    "seed": (16_000, 400, 160, 512, 80, 20, 7_600),
    "telephone": (8_000, 200, 80, 256, 40, 60, 3_800),
    "wide": (16_000, 1_023, 300, 1_024, 128, 0, 8_000),
}


def speech_like(rate, seconds, band, seed):
    """Syllables of a gliding voice with its harmonics, and of noise, all below `band` Hz; silent at both ends."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(rate * seconds)) / rate
    pitch = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 3 * t)) / rate
    voice = sum(np.cos(k * pitch + rng.uniform(0, 2 * np.pi)) / k for k in range(1, 60) if k * 170 < band)
    spectrum = np.fft.rfft(rng.standard_normal(len(t)))
    f = np.fft.rfftfreq(len(t), 1 / rate)
    spectrum *= (f < band) / np.sqrt(1 + (f / 500) ** 2)
    noise = np.fft.irfft(spectrum, len(t))
    syllables = 0.55 - 0.45 * np.cos(2 * np.pi * 14 * t)
    x = (voice / np.std(voice) + noise / np.std(noise)) * syllables * np.sin(np.pi * t / seconds) ** 2
    return np.round(x / np.abs(x).max() * 0.8 * 32_767).astype(np.int16)


def polyphase(x, rate):
    divisor = math.gcd(rate, OUTPUT_RATE)
    up, down = OUTPUT_RATE // divisor, rate // divisor
    if up == down:
        return x
    cutoff = min(1.0, OUTPUT_RATE / rate)
    wanted, beta = scipy.signal.kaiserord(90.0, 0.2 * cutoff)  # taps a phase
    half = 16 * math.ceil(((90.0 - 7.95) / (2.285 * math.pi * 0.2 * cutoff) + 1) / 32)
    assert 0 <= 2 * half - wanted + 1 <= 32
    t = np.arange(-half * up, half * up + 1) / up
    taps = cutoff * np.sinc(cutoff * t) * scipy.signal.windows.kaiser(len(t), beta)
    taps[[0, -1]] = 0.0
    return scipy.signal.resample_poly(x, up, down, window=taps / up)


def ideal(x, rate):
    outputs = np.arange(-(-len(x) * OUTPUT_RATE // rate))
    n = np.arange(len(x))
    return np.array([x @ np.sinc(i * (rate / OUTPUT_RATE) - n) for i in outputs])


def log_mel(x, sample_rate, window, hop, fft, mels, f_min, f_max):
    pad = fft - window  # librosa centres the window in the FFT's frame
    energy = librosa.feature.melspectrogram(
        y=np.pad(x, (pad // 2, pad - pad // 2)), sr=sample_rate, n_fft=fft, hop_length=hop, win_length=window,
        window=scipy.signal.windows.hann(window, sym=True), center=False, power=2.0, n_mels=mels, fmin=f_min,
        fmax=f_max, htk=True, norm=None, dtype=np.float64)
    return np.log(energy.T + 1e-6)


def main():
    tensors = {}
    for rate in RATES:
        pcm = speech_like(rate, 0.12, 0.42 * min(rate, OUTPUT_RATE), rate)
        x = pcm / 32_768
        tensors[f"resample.{rate}.input"] = pcm
        tensors[f"resample.{rate}.polyphase"] = polyphase(x, rate).astype(np.float32)
        tensors[f"resample.{rate}.ideal"] = ideal(x, rate).astype(np.float32)
    for name, config in MELS.items():
        pcm = speech_like(config[0], 0.6, 0.5 * config[0], len(name))
        pcm[: len(pcm) // 5] //= 256  # near silence, where the floor shows
        tensors[f"mel.{name}.input"] = pcm
        tensors[f"mel.{name}.config"] = np.array(config, np.int32)
        tensors[f"mel.{name}.log_mel"] = np.ascontiguousarray(log_mel(pcm / 32_768, *config).astype(np.float32))
    save_file(tensors, pathlib.Path(__file__).with_name("dsp_vectors.safetensors"))


if __name__ == "__main__":
    main()
