"""From planned rows to normalised, augmented features, on the training device, a batch at a time.

Every row is mixed once and then heard twice: two views with their own room, noise, level, channel, vocal tract and masks,
for the consistency loss. With views=1 there is one. `without` names what is left out, of INGREDIENTS: for runs that tell what each
is worth. Nothing here waits for the device.
"""
import math

import torch
import torch.nn.functional as F

import features
import native

RATE = 16000
INGREDIENTS = ("rooms", "noise", "channel", "tract", "masks")   # channel: microphones, telephones, coders


def mix(pool, src, ints, fl, samples):
    """-> rows (R, samples) float32. src (R, M) int64; ints (4, R, M) int32: taken, place, length, fading; fl (2, R, M): rate, gain."""
    R, M = src.shape
    if pool.is_cuda or mix.host:
        out = torch.empty(R, samples, device=pool.device)
        p = native.ptr
        native.check(native.library("host" if mix.host else "cuda").sw_mix(p(pool), p(src), *map(p, (*ints, *fl)), p(out), R, samples, M,
                                                                           native.stream(pool)), "mix")
        return out
    out = torch.zeros(R, samples)                          # without the kernel: by linear interpolation
    for b in range(R):
        for m in range(M):
            n = int(ints[2, b, m])
            if n:
                at = torch.arange(n) * float(fl[0, b, m])
                i = at.long().clamp(max=int(ints[0, b, m]) - 1)
                j = (i + 1).clamp(max=int(ints[0, b, m]) - 1)
                x = pool[src[b, m]:src[b, m] + int(ints[0, b, m])].float()
                k = int(ints[1, b, m])
                ramp = ((torch.minimum(torch.arange(n), n - 1 - torch.arange(n)) + 0.5) / max(int(ints[3, b, m]), 0.5)).clamp(max=1)   # 1 where nothing fades
                out[b, k:k + n] += (x[i] + (x[j] - x[i]) * (at - i)) * ramp * float(fl[1, b, m]) / 32768
    return out


mix.host = False


def _shape(x, gain):
    """Filter rows by a gain a frequency, given at evenly spaced knots in dB."""
    X = torch.fft.rfft(x)
    g = F.interpolate(gain[:, None], size=X.shape[-1], mode="linear", align_corners=True)[:, 0]
    return torch.fft.irfft(X * 10 ** (g / 20), x.shape[-1])


def smooth(n):
    """The next length whose only factors are 2, 3 and 5: FFTs of others are slow."""
    while True:
        m = n
        for p in (2, 3, 5):
            while m % p == 0:
                m //= p
        if m == 1:
            return n
        n += 1


def _unit(x):
    return x / x.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)


class Augment:
    def __init__(self, pool, mean, inv_std, samples, device, views=2, clips=192, seconds=20, masks=24, without=(), recorded=()):
        """recorded: noise and music as int16 samples, to be heard beside the noise that is made here."""
        if set(without) - set(INGREDIENTS):
            raise SystemExit(f"train.without {list(without)}: these can be left out: {', '.join(INGREDIENTS)}")
        self.does = set(INGREDIENTS) - set(without)
        self.pool, self.mean, self.inv_std, self.samples, self.dev, self.views = pool, mean, inv_std, samples, device, views
        self.masks = masks
        self.bank = features.mel_bank().float().to(device)
        self.warped = torch.stack([features.mel_bank(0.84 + 0.02 * i).float() for i in range(18)]).to(device)
        recorded = self.levelled(recorded)
        self.steady, self.events = (torch.cat([made, recorded]) for made in self.make_noise(clips, seconds))
        self.rooms = self.make_rooms(clips)

    def rand(self, *s, lo=0.0, hi=1.0):
        return torch.rand(*s, device=self.dev) * (hi - lo) + lo

    def chance(self, p, *s):
        return torch.rand(*s, device=self.dev) < p

    def levelled(self, recorded, seconds=4):
        """Recordings one after the other, each piece of so many seconds at unit power; silent pieces left out."""
        n = seconds * RATE
        pieces = [torch.from_numpy(x[:len(x) // n * n]).to(self.dev).view(-1, n).float() / 32768 for x in recorded]
        x = torch.cat([torch.empty(0, n, device=self.dev), *pieces])
        return _unit(x[x.square().mean(-1).sqrt() > 1e-3]).flatten().half()

    def make_noise(self, clips, seconds):
        """Two reservoirs of unit power: steady noise; and babble, clicks, bursts and tones."""
        n, dev = seconds * RATE, self.dev
        steady = []
        for _ in range(max(1, clips // 24)):
            k = 24
            x = torch.randn(k, n, device=dev)
            f = torch.arange(n // 2 + 1, device=dev).float().clamp(min=n * 30 / RATE) / n
            x = torch.fft.irfft(torch.fft.rfft(x) * f ** -self.rand(k, 1, hi=1.2), n)
            x = _unit(_shape(x, torch.randn(k, 24, device=dev) * self.rand(k, 1, hi=9)))
            slow = F.interpolate(torch.randn(k, 1, seconds * 3, device=dev), size=n, mode="linear")[:, 0]
            x = x * torch.exp(slow * self.rand(k, 1, hi=0.6))
            t = torch.arange(n, device=dev) / RATE         # mains hum in some
            base = torch.where(self.chance(0.5, k, 1), 50.0, 60.0)
            hum = sum(self.rand(k, 1) ** 2 * torch.sin(2 * math.pi * base * h * t + 6.28 * self.rand(k, 1)) for h in (1, 2, 3, 5, 7))
            x = x + hum * (self.chance(0.15, k, 1) * self.rand(k, 1, hi=2))
            steady.append(_unit(x))
        events = []
        last = self.pool.numel() - n - 1
        for i in range(max(1, clips // 24)):
            k = 24
            if i % 2 == 0 and last > n:                    # a crowd
                x = torch.zeros(k, n, device=dev)
                for _ in range(5):
                    at = (self.rand(k, 1) * last).long()
                    v = self.pool[at + torch.arange(n, device=dev)].float() / 32768
                    x = x + _unit(v) * self.rand(k, 1, lo=0.3)
                x = _shape(x, torch.randn(k, 12, device=dev) * 4)
            else:                                          # taps, clatter, and notes
                m = 4096
                hit = (torch.rand(k, n, device=dev) < 10 ** self.rand(k, 1, lo=-4.6, hi=-3.4)) * torch.randn(k, n, device=dev)
                t = torch.arange(m, device=dev) / RATE
                body = torch.randn(k, m, device=dev) * torch.exp(-t * 10 ** self.rand(k, 1, lo=1.2, hi=2.6))
                ring = torch.sin(2 * math.pi * t * 10 ** self.rand(k, 1, lo=2.2, hi=3.5)) * torch.exp(-t * self.rand(k, 1, lo=8, hi=40))
                body = body + ring * self.rand(k, 1, hi=3) * self.chance(0.6, k, 1)
                x = torch.fft.irfft(torch.fft.rfft(hit, n + m) * torch.fft.rfft(body, n + m), n + m)[:, :n]
                notes = torch.zeros(k, n, device=dev)
                tt = torch.arange(n, device=dev) / RATE
                for _ in range(6):
                    f0 = 110 * 2 ** (torch.randint(0, 36, (k, 1), device=dev) / 12)
                    gate = F.interpolate(torch.rand(k, 1, seconds * 2, device=dev), size=n, mode="nearest")[:, 0] > 0.6
                    notes = notes + sum(torch.sin(2 * math.pi * f0 * h * tt) / h ** 1.5 for h in (1, 2, 3, 4)) * gate
                x = _unit(x) + _unit(notes) * (self.chance(0.35, k, 1) * self.rand(k, 1, hi=2))
            events.append(_unit(x))
        return torch.cat(steady).flatten().half(), torch.cat(events).flatten().half()

    def make_rooms(self, count):
        """Impulse responses: the direct sound, a few early reflections, a tail that dies away faster at high frequencies."""
        n, dev = int(0.6 * RATE), self.dev
        t = torch.arange(n, device=dev) / RATE
        rt = self.rand(count, 1, lo=0.12, hi=0.8)
        tail = torch.randn(count, n, device=dev) * torch.exp(-6.9 * t / rt)
        low = F.avg_pool1d(F.pad(tail[:, None], (2, 2)), 5, 1)[:, 0]
        tail = tail * torch.exp(-t * 12) + low * (1 - torch.exp(-t * 12)) * 2
        tail[:, :int(0.004 * RATE)] = 0
        early = torch.zeros(count, n, device=dev)
        at = (self.rand(count, 8, lo=0.002, hi=0.05) * RATE).long()
        early.scatter_(1, at, self.rand(count, 8, lo=-0.6, hi=0.6) * torch.exp(-30 * at / RATE))
        rest = _unit(early) * 0.5 + _unit(tail)
        rest = rest / rest.square().sum(-1, keepdim=True).sqrt()
        h = rest * 10 ** (-self.rand(count, 1, lo=-2, hi=16) / 20)
        h[:, 0] = 1.0
        return h / h.square().sum(-1, keepdim=True).sqrt()

    def noise(self, reservoir, rows, n):
        at = (self.rand(rows, 1) * (reservoir.numel() - n - 1)).long()
        return reservoir[at + torch.arange(n, device=self.dev)].float()

    def room(self, x):
        """A third of the rows is in a room."""
        B, S = x.shape
        k = max(1, B // 3)
        sel = torch.randperm(B, device=self.dev)[:k]
        h = self.rooms[torch.randint(len(self.rooms), (k,), device=self.dev)]
        L = smooth(S + h.shape[1])
        y = torch.fft.irfft(torch.fft.rfft(x.index_select(0, sel), L) * torch.fft.rfft(h, L), L)[:, :S]
        return x.index_copy(0, sel, y)

    def wave(self, x, active):
        """x (rows, samples), active (rows,) samples of speech: room, noise, level, clipping."""
        B, S = x.shape
        if "rooms" in self.does:
            x = self.room(x)
        silent = active < 1
        rms = (x.square().sum(-1) / active.clamp(min=1.0)).sqrt()
        rms = torch.where(silent, torch.full_like(rms, 0.05), rms.clamp(min=1e-4))
        if "noise" in self.does:
            snr = torch.where(self.chance(0.5, B), self.rand(B, lo=4, hi=25), self.rand(B, lo=20, hi=50))
            x = x + self.noise(self.steady, B, S) * (rms * 10 ** (-snr / 20) * self.chance(0.7, B))[:, None]
            snr = self.rand(B, lo=5, hi=32)
            x = x + self.noise(self.events, B, S) * (rms * 10 ** (-snr / 20) * self.chance(0.25, B))[:, None]
        level = 10 ** (self.rand(B, lo=-44, hi=-12) / 20)
        level = torch.where(self.chance(0.06, B), self.rand(B, lo=0.3, hi=0.9), level)   # and some of it clips
        return (x * (level / rms)[:, None]).clamp(-1, 1)

    def channel(self, B):
        """Power gains (B, 257) of microphones, telephones and bandwidths."""
        dev = self.dev
        f = torch.arange(257, device=dev)[None] * (8000.0 / 256)
        knots = torch.randn(B, 1, 10, device=dev).clamp(-2.2, 2.2) * (4.5 * self.chance(0.65, B, 1, 1))
        g = F.interpolate(knots, size=257, mode="linear", align_corners=True)[:, 0]
        g = g + (f / 4000 - 1) * (self.chance(0.4, B, 1) * self.rand(B, 1, lo=-8, hi=6))          # tilt
        cut = torch.where(self.chance(0.2, B, 1), self.rand(B, 1, lo=2800, hi=7500), 1e9)
        g = g - ((f - cut).clamp(min=0) * 0.12).clamp(max=60)
        low = torch.where(self.chance(0.2, B, 1), self.rand(B, 1, lo=60, hi=350), 0.0)
        g = g - ((low - f).clamp(min=0) * 0.15).clamp(max=40)
        tel = self.chance(0.06, B, 1)
        g = g - 50.0 * (tel & ((f < 280) | (f > 3450)))
        return 10 ** (g / 10)

    def coder(self, p):
        """A coder drops what its neighbours mask."""
        B = p.shape[0]
        around = F.avg_pool1d(p.view(B, -1, 257), 17, 1, 8)
        depth = torch.where(self.chance(0.25, B), self.rand(B, lo=7, hi=18), 200.0)
        return torch.where(p < around * (10 ** (-depth / 10))[:, None, None], p * 1e-3, p)

    def features(self, x):
        B = x.shape[0]
        p = features.power(x)
        if "channel" in self.does:
            p = self.coder(p * self.channel(B)[:, None])
        w = self.bank.expand(B, -1, -1)
        if "tract" in self.does:
            w = torch.where(self.chance(0.7, B, 1, 1), self.warped[torch.randint(len(self.warped), (B,), device=self.dev)], w)
        f = torch.log(torch.bmm(p, w.transpose(1, 2)) + features.FLOOR)
        return (f - self.mean) * self.inv_std

    def mask(self, f):
        B, T, M = f.shape
        m, t = torch.arange(M, device=self.dev), torch.arange(T, device=self.dev)
        w = self.rand(B, 2, 1, hi=22)
        s = self.rand(B, 2, 1) * (M - w)
        hide = ((m >= s) & (m < s + w)).any(1)[:, None]
        w = self.rand(B, self.masks, 1, hi=40)
        s = self.rand(B, self.masks, 1) * (T - w)
        hide = hide | ((t >= s) & (t < s + w)).any(1)[:, :, None]
        return f.masked_fill(hide, 0.0)

    def mixed(self, src, ints, fl):
        """The planned rows (rows, samples) as they are."""
        return mix(self.pool, src, ints, fl, self.samples)

    @torch.no_grad()
    def __call__(self, x, active):
        """x (rows, samples): what mixed() gave -> features (views x rows, frames, mels), normalised."""
        if self.views == 2:
            x, active = torch.cat([x, x]), torch.cat([active, active])
        f = self.features(self.wave(x, active))
        return self.mask(f) if "masks" in self.does else f
