"""Speech as people who read aloud vary it, more than Kokoro does: durations, melody, care of articulation.

strength: how much; at 2 it is hard to understand (LOG.md, run 5). Each utterance draws its own, from nothing up to that, for all but the melody.
"""
import torch
from torch.nn import functional as F


def uneven(b, t, strength, device):
    """Factors of durations (b, t): each sound's own, and a tempo that drifts over some ten sounds."""
    each = torch.randn(b, t, device=device) * 0.3
    slow = F.interpolate(torch.randn(b, 1, -(-t // 12) + 1, device=device) * 0.2, size=t, mode="linear")[:, 0]
    return torch.exp((each + slow) * strength * torch.rand(b, 1, device=device))


def slurred(sounds, ln, strength):
    """Sounds (b, channels, frames of 25 ms) drawn towards their neighbours', as by tongues that do not get there in time; ln: each
    utterance's frames, behind which the result is 0."""
    m = (torch.arange(sounds.shape[-1], device=sounds.device) < ln[:, None])[:, None].to(sounds.dtype)
    k = torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0], device=sounds.device, dtype=sounds.dtype)[None, None]

    def near(x):
        return F.conv1d(x.flatten(0, 1)[:, None], k, padding=2).view_as(x)
    part = (torch.rand(len(ln), 1, 1, device=sounds.device) * 0.7 * strength).clamp(max=1.0).to(sounds.dtype)
    return torch.lerp(sounds, near(sounds * m) / near(m).clamp(min=1.0), part) * m


def intoned(f0, strength):
    """f0 (b, 1, frames), Hz, unvoiced where at most 10: another height, a wider or flatter melody, and a drift of its own."""
    b, t = f0.shape[0], f0.shape[-1]
    voiced = f0 > 10
    log = torch.log(f0.clamp(min=10.0))
    mean = (log * voiced).sum(-1, keepdim=True) / voiced.sum(-1, keepdim=True).clamp(min=1)

    def draw(n):
        return torch.randn(b, 1, n, device=f0.device) * strength
    drift = F.interpolate(draw(-(-t // 80) + 1) * 0.06, size=t, mode="linear")
    new = torch.exp(mean + draw(1) * 0.15 + (log - mean) * torch.exp(draw(1) * 0.35) + drift)
    return torch.where(voiced, new.clamp(50.0, 550.0), f0)
