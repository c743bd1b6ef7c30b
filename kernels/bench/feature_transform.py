#!/usr/bin/env python3
"""The Fourier transforms of 65,536 streams' frames of 320 ms, by cuFFT and as matrix products, on one GPU.

usage: feature_transform.py [STREAMS]

Times power spectra of 512-point transforms of 400 windowed samples, 32 frames a stream, as PyTorch makes them: with
cuFFT (torch.fft.rfft), and as a product with the cosines and sines (400 x 514) in float32, tf32 and float16. The
frames lie in device memory already, windowed, one after the other; reading samples, mel filters and logarithms are
left out. Errors are those of power spectra against float64, for noise: |got - wanted| / |wanted|.
`cuda_bench MODEL profile` gives the time of our kernel, with all that (its group "features").
Needs PyTorch with CUDA.
"""
import math
import statistics
import sys

import torch

WINDOW, POINTS, FRAMES, ROUNDS = 400, 512, 32, 10
BINS = POINTS // 2 + 1


def milliseconds(work):
    """Median of the device times of `work`, a function of nothing."""
    times = []
    for _ in range(ROUNDS + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[2:])


def by_cufft(frames):
    spectrum = torch.fft.rfft(frames, n=POINTS)
    return spectrum.real.square() + spectrum.imag.square()


def by_product(frames, waves):
    products = frames @ waves
    if products.dtype == torch.float16:
        products = products.float()  # squares may not fit
    return products[:, :BINS].square() + products[:, BINS:].square()


def main():
    streams = int(sys.argv[1]) if len(sys.argv) > 1 else 65_536
    torch.manual_seed(1)
    angles = -2 * math.pi / POINTS * torch.outer(torch.arange(WINDOW), torch.arange(BINS)).double()
    waves = torch.cat([angles.cos(), angles.sin()], dim=1).cuda()  # (window, 2 bins)
    window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64, device="cuda")
    frames = 0.1 * torch.randn(streams * FRAMES, WINDOW, device="cuda") * window.float()
    single, half = waves.float(), waves.half()
    wanted = by_product(frames[:1024].double(), waves)

    def report(name, transform, data):
        error = ((transform(data[:1024]).double() - wanted).norm() / wanted.norm()).item()
        # Pieces of 4,096 streams, as the engine's waves keep what they work on in the second-level cache.
        pieces = data.split(4_096 * FRAMES)
        time = milliseconds(lambda: [transform(piece) for piece in pieces])
        print(f"| {name} | {time:.2f} | {error:.1e} |", flush=True)

    print(f"{torch.cuda.get_device_name()}: {len(frames):,} frames of {streams:,} streams")
    print("| power spectra | ms | error |")
    report("cuFFT, float32", by_cufft, frames)
    for name, allow in (("product, float32", False), ("product, tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = allow
        report(name, lambda data: by_product(data, single), frames)
    report("product, float16", lambda data: by_product(data, half), frames.half())


if __name__ == "__main__":
    main()
