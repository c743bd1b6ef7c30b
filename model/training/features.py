"""Log-mel as the daemon computes it: frame t covers samples [160 t, 160 t + 400) of 16 kHz audio; symmetric Hann window,
512-point FFT, 80 triangular HTK mel filters from 20 Hz to 7,600 Hz, log(energy + 1e-6)."""
import math

import torch

WINDOW, HOP, FFT, MELS, FLOOR = 400, 160, 512, 80, 1e-6


def triangles(f, corner):
    """Filters of height 1 over the frequencies f, each from one corner over the next to the one after that: (corners - 2, frequencies)."""
    return torch.stack([torch.minimum((f - a) / (b - a), (c - f) / (c - b)).clamp(min=0) for a, b, c in zip(corner, corner[1:], corner[2:])])


def mel_bank(warp=1.0):
    """(80, 257) in float64. warp > 1 reads the spectrum as that of a longer vocal tract (training only)."""
    mel = lambda f: 2595.0 * math.log10(1.0 + f / 700.0)
    hz = lambda m: 700.0 * (10.0 ** (m / 2595.0) - 1.0)
    lo, hi = mel(20.0), mel(7600.0)
    corner = [hz(lo + (hi - lo) * i / (MELS + 1)) for i in range(MELS + 2)]
    f = torch.arange(FFT // 2 + 1, dtype=torch.float64) * 16000 / FFT
    edge = 5800.0 * min(1.0, 1.0 / warp)                   # linear up to here, then bent so that Nyquist stays
    f = torch.where(f <= edge, f * warp, 8000.0 - (8000.0 - edge * warp) * (8000.0 - f) / (8000.0 - edge))
    return triangles(f, corner)


def power(wav):
    """(..., samples) -> (..., frames, 257) power spectrum."""
    win = torch.hann_window(WINDOW, periodic=False, dtype=wav.dtype, device=wav.device)
    s = torch.fft.rfft(wav.unfold(-1, WINDOW, HOP) * win, n=FFT)
    return s.real.square() + s.imag.square()


def log_mel(wav, bank=None):
    bank = mel_bank().to(wav) if bank is None else bank
    return torch.log(power(wav) @ bank.T + FLOOR)
