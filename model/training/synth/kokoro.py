"""Batched Kokoro in torch, weights read from the ONNX graph by node name. Exact under padding: every AdaIN is masked (stats over the true
length, zeros written beyond it), LSTMs are packed. Triton kernel (AdaIN + leaky/snake in one launch) on CUDA, torch fallback elsewhere.
"""

import torch
import numpy as np
import math
import onnx
import os
import torch.nn.functional as F
from onnx import numpy_helper as nh

import vary

try:
    import triton
    import triton.language as tl

    @triton.jit
    def _adain(X, Y, GB, AL, LEN, C, T, sxb, sgb, MODE: tl.constexpr, SLOPE: tl.constexpr, BLK: tl.constexpr):
        b = tl.program_id(0) // C
        c = tl.program_id(0) % C
        n = tl.load(LEN + b).to(tl.int32)
        base = X + b.to(tl.int64) * sxb + c.to(tl.int64) * T
        out = Y + b.to(tl.int64) * C * T + c.to(tl.int64) * T
        o = tl.arange(0, BLK)
        k = tl.load(base).to(tl.float32)
        s1 = tl.zeros([BLK], tl.float32)
        s2 = tl.zeros([BLK], tl.float32)
        for i in range(0, n, BLK):
            x = tl.load(base + i + o, mask=i + o < n, other=0.0).to(tl.float32)
            d = tl.where(i + o < n, x - k, 0.0)
            s1 += d
            s2 += d * d
        m = tl.sum(s1, 0) / n
        v = tl.maximum(tl.sum(s2, 0) / n - m * m, 0.0)
        m += k
        g = (1.0 + tl.load(GB + b * sgb + c).to(tl.float32)) / tl.sqrt(v + 1e-5)
        h = tl.load(GB + b * sgb + C + c).to(tl.float32) - m * g
        if MODE == 1:
            a = tl.load(AL + c).to(tl.float32)
        for i in range(0, T, BLK):
            if i < n:
                y = tl.load(base + i + o, mask=i + o < n, other=0.0).to(tl.float32) * g + h
                if MODE == 1:
                    s = tl.sin(a * y)
                    y = y + s * s / a
                else:
                    y = tl.where(y > 0, y, y * SLOPE)
                tl.store(out + i + o, tl.where(i + o < n, y, 0.0).to(Y.dtype.element_ty), mask=i + o < T)
            else:
                tl.store(out + i + o, tl.zeros([BLK], Y.dtype.element_ty), mask=i + o < T)

except ImportError:
    triton = None
INTERP = os.environ.get("TRITON_INTERPRET") == "1"


class K:
    noise = 0.0
    vary = 0.0
    inject = None  # tests only: harmonic features from another runtime

    def __init__(self, model, device="cuda", dtype=torch.float32, use_triton=None):
        self.dev = torch.device(device)
        self.dt = dtype
        self.tri = (triton is not None and (self.dev.type == "cuda" or INTERP)) if use_triton is None else use_triton
        g = (onnx.load(model) if isinstance(model, str) else model).graph
        I = {i.name: nh.to_array(i) for i in g.initializer}
        N = {o: n for n in g.node for o in n.output}
        T = lambda a, dt=torch.float32: torch.from_numpy(np.array(a)).to(self.dev, dt)
        self.c = {}
        self.l = {}
        at = lambda n: {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute}
        half = lambda nm: nm.startswith("/decoder") and "noise_convs" not in nm
        for n in g.node:
            if n.op_type in ("Conv", "ConvTranspose"):
                nm = n.output[0]
                a = at(n)
                d = (
                    self.dt
                    if nm.startswith("/decoder")
                    and "istft" not in nm
                    and "conv_post" not in nm
                    and "0_conv" not in nm
                    and "N_conv" not in nm
                    else torch.float32
                )
                p = "/".join(x for x in nm.split("/")[1:-1])
                p = p.replace("decoder/decoder/", "D/").replace("encoder/", "E/", 1).replace("D/generator/", "G/")
                self.c[p] = (
                    T(I[n.input[1]], d),
                    T(I[n.input[2]], d) if len(n.input) > 2 else None,
                    a["strides"][0],
                    a["pads"][0],
                    a.get("output_padding", [0])[0],
                    a.get("group", 1),
                    a["dilations"][0],
                    n.op_type != "Conv",
                )
            elif n.op_type == "LSTM":
                W, R, B = (I[x] for x in n.input[1:4])
                H = 256
                pm = lambda w: np.concatenate([w[:H], w[2 * H : 3 * H], w[3 * H :], w[H : 2 * H]], 0)
                m = torch.nn.LSTM(W.shape[2], H, bidirectional=True, batch_first=True)
                with torch.no_grad():
                    ws = []
                    for d in range(2):
                        ws += [pm(W[d]), pm(R[d]), pm(B[d, : 4 * H]), pm(B[d, 4 * H :])]
                    for q, w in zip(m._flat_weights, ws):
                        q.copy_(torch.from_numpy(np.ascontiguousarray(w)))
                m = m.to(self.dev).eval()
                m.flatten_parameters()
                self.l[
                    n.name.replace("/encoder/", "")
                    .replace("predictor/", "")
                    .replace("/LSTM_quant_f32", "")
                    .replace("/LSTM_f32", "")
                    .rsplit("/LSTM", 1)[0]
                ] = m
        # style projections: one matrix for each style half
        self.off = {}
        self.SW = []
        self.SB = []
        for h, pre in enumerate(("decoder.", "encoder.")):
            ks = [k for k in I if k.startswith(pre) and k.endswith("fc.weight_quantized_f32")]
            o = 0
            for k in ks:
                self.off[
                    k[: -len(".fc.weight_quantized_f32")]
                    .replace("decoder.decoder.generator.", "G.")
                    .replace("decoder.decoder.", "D.")
                    .replace("encoder.predictor.", "E.")
                ] = (h, o, I[k].shape[1])
                o += I[k].shape[1]
            self.SW.append(T(np.concatenate([I[k] for k in ks], 1)))
            self.SB.append(T(np.concatenate([I[k[: -len("weight_quantized_f32")] + "bias"] for k in ks])))
        self.al = {k.replace("decoder.decoder.generator.", "G."): T(v.ravel()) for k, v in I.items() if ".alpha" in k}
        dq = lambda p: T(
            (I[p + "_quantized"].astype(np.float32) - (I[p + "_zero_point"] if p + "_zero_point" in I else 0)) * I[p + "_scale"]
        )
        b = "encoder.bert."
        e = b + "embeddings."
        self.we = dq(e + "word_embeddings.weight")
        self.pe = dq(e + "position_embeddings.weight")
        self.we = self.we + dq(e + "token_type_embeddings.weight")[0]
        self.te = dq("encoder.text_encoder.embedding.weight")
        self.eln = (T(I[e + "LayerNorm.weight"]), T(I[e + "LayerNorm.bias"]))
        mm = lambda frag: next(
            I[n.input[1]] for n in g.node if n.op_type == "MatMul" and frag in n.output[0] and n.input[1] in I
        )
        L = b + "encoder.albert_layer_groups.0.albert_layers.0."
        lin = lambda frag, bias: (T(mm(frag).T.copy()), T(I[bias]))
        self.hm = lin("embedding_hidden_mapping_in/MatMul", b + "encoder.embedding_hidden_mapping_in.bias")
        self.qkv = (
            T(np.concatenate([mm(f"attention/{x}/MatMul").T for x in ("query", "key", "value")], 0)),
            T(np.concatenate([I[L + f"attention.{x}.bias"] for x in ("query", "key", "value")])),
        )
        self.ad = lin("attention/dense/MatMul", L + "attention.dense.bias")
        self.ff = lin("/ffn/MatMul", L + "ffn.bias")
        self.fo = lin("/ffn_output/MatMul", L + "ffn_output.bias")
        self.ln1 = (T(I[L + "attention.LayerNorm.weight"]), T(I[L + "attention.LayerNorm.bias"]))
        self.ln2 = (T(I[L + "full_layer_layer_norm.weight"]), T(I[L + "full_layer_layer_norm.bias"]))
        self.be = lin("bert_encoder/MatMul", "encoder.bert_encoder.bias")
        self.dp = lin("duration_proj/linear_layer/MatMul", "encoder.predictor.duration_proj.linear_layer.bias")
        self.tln = [
            (T(I[f"encoder.text_encoder.cnn.{i}.1.gamma"]), T(I[f"encoder.text_encoder.cnn.{i}.1.beta"])) for i in range(3)
        ]
        self.sl = (T(I["onnx::MatMul_6993"].T.copy()), T(I["decoder.decoder.generator.m_source.l_linear.bias"]))
        self.harm = torch.arange(1, 10, device=self.dev, dtype=torch.float32)[None, :, None]
        w = np.asarray(
            (
                I["/decoder/decoder/generator/Constant_17_output_0"]
                if "/decoder/decoder/generator/Constant_17_output_0" in I
                else np.hanning(21)[:-1]
            ),
            np.float64,
        )
        self.win = T(w)
        self.ib = T(I["decoder.decoder.generator.stft.istft.stft.inverse_basis"])
        self.ws = T(I["decoder.decoder.generator.stft.istft.stft.window_sum"])
        # 24k -> 16k polyphase (Kaiser sinc, 7.6 kHz edge): two phases, stride 3
        J = 48
        j = np.arange(-J, J + 3)
        fc = 2 * 7600 / 24000
        hs = []
        for off in (0.0, 1.5):
            t = j - off
            hs.append(fc * np.sinc(fc * t) * np.i0(9 * np.sqrt(np.maximum(0, 1 - (t / (J + 1)) ** 2))) / np.i0(9))
        self.rs = T(np.stack([h / h.sum() for h in hs])[:, None].astype(np.float32))
        self.J = J

    def conv(self, p, x):
        w, b, st, pd, op, g, d, tr = self.c[p]
        x = x.to(w.dtype)
        return F.conv_transpose1d(x, w, b, st, pd, op, g, d) if tr else F.conv1d(x, w, b, st, pd, d, g)

    def adain(self, nm, x, gb, ln, slope=0.0, al=None, dt=None):
        h, o, w = self.off[nm]
        gb = gb[h][:, o : o + w]
        B, C, T = x.shape
        dt = dt or x.dtype
        if self.tri:
            x = x if x.stride(2) == 1 and x.stride(1) == T else x.contiguous()
            y = torch.empty((B, C, T), device=x.device, dtype=dt)
            blk = 256 if T <= 256 else 1024 if T <= 4096 else 2048
            _adain[(B * C,)](
                x,
                y,
                gb,
                self.al[al] if al else gb,
                ln,
                C,
                T,
                x.stride(0),
                gb.stride(0),
                1 if al else 0,
                slope,
                blk,
                num_warps=4 if blk < 2048 else 8,
            )
            return y
        mk = (torch.arange(T, device=x.device)[None] < ln[:, None])[:, None]
        xf = x.float() * mk
        n = ln[:, None, None].float()
        m = xf.sum(-1, keepdim=True) / n
        v = ((xf - m) * mk).square().sum(-1, keepdim=True) / n
        y = (xf - m) * ((1 + gb[:, :C, None]) / torch.sqrt(v + 1e-5)) + gb[:, C:, None]
        if al:
            a = self.al[al][None, :, None]
            y = y + torch.sin(a * y).square() / a
        else:
            y = F.leaky_relu(y, slope)
        return (y * mk).to(dt)

    def blk(self, p, q, x, gb, ln, up=False):
        r = self.adain(q + ".norm1", x, gb, ln, 0.2)
        l2 = ln
        if up:
            l2 = ln * 2
            r = self.conv(p + "/pool", r)
            r = r * self.mask(l2, r)
        r = self.conv(p + "/conv1", r)
        r = self.adain(q + ".norm2", r, gb, l2, 0.2)
        r = self.conv(p + "/conv2", r)
        if p + "/conv1x1" in self.c:
            x = self.conv(p + "/conv1x1", x)
        if up:
            x = x.repeat_interleave(2, -1)
        return (r + x).mul_(1 / math.sqrt(2))

    def mask(self, ln, x):
        return (torch.arange(x.shape[-1], device=x.device)[None] < ln[:, None])[:, None].to(x.dtype)

    def res(self, p, q, x, gb, ln):
        for i in range(3):
            t = self.adain(f"{q}.adain1.{i}", x, gb, ln, al=f"{q}.alpha1.{i}", dt=self.dt)
            t = self.conv(f"{p}/convs1.{i}", t)
            t = self.adain(f"{q}.adain2.{i}", t, gb, ln, al=f"{q}.alpha2.{i}", dt=self.dt)
            x = self.conv(f"{p}/convs2.{i}", t) + x
        return x

    def lstm(self, k, x, lens, srt):
        if min(lens) == max(lens) == x.shape[1]:
            return self.l[k](x)[0]
        p = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lens), batch_first=True, enforce_sorted=srt)
        return torch.nn.utils.rnn.pad_packed_sequence(self.l[k](p)[0], batch_first=True, total_length=x.shape[1])[0]

    @torch.inference_mode()
    def front(self, tok, sty, speed):
        """tok: list of id lists, longest first; sty (B,256) cpu; -> durations (cpu list), state"""
        L = [len(t) for t in tok]
        B = len(L)
        T = max(L)
        x = torch.zeros((B, T), dtype=torch.int64)
        for i, t in enumerate(tok):
            x[i, : L[i]] = torch.tensor(t)
        x = x.to(self.dev, non_blocking=True)
        ln = torch.tensor(L).to(self.dev)
        sty = sty.to(self.dev)
        gb = [sty[:, 128 * h : 128 * h + 128] @ self.SW[h] + self.SB[h] for h in range(2)]
        pad = torch.arange(T, device=self.dev)[None] < ln[:, None]
        am = None if L[-1] == T else pad[:, None, None, :]
        h = F.linear(F.layer_norm(self.we[x] + self.pe[:T], (128,), *self.eln, 1e-12), *self.hm)
        for _ in range(12):
            q, k, v = F.linear(h, *self.qkv).view(B, T, 3, 12, 64).permute(2, 0, 3, 1, 4)
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=am).transpose(1, 2).reshape(B, T, 768)
            a = F.layer_norm(h + F.linear(a, *self.ad), (768,), *self.ln1, 1e-12)
            h = F.layer_norm(
                F.linear(F.gelu(F.linear(a, *self.ff), approximate="tanh"), *self.fo) + a, (768,), *self.ln2, 1e-12
            )
        d = F.linear(h, *self.be)
        se = sty[:, None, 128:].expand(B, T, 128)
        d = torch.cat([d, se], 2)
        for i in range(3):
            y = F.layer_norm(self.lstm(f"text_encoder/lstms.{2*i}", d, L, True), (512,), eps=1e-5)
            _, o, w = self.off[f"E.text_encoder.lstms.{2*i+1}"]
            y = y * (1 + gb[1][:, None, o : o + 512]) + gb[1][:, None, o + 512 : o + w]
            d = torch.cat([y, se], 2)
        du = F.linear(self.lstm("lstm", d, L, True), *self.dp).sigmoid().sum(-1) / speed.to(self.dev)[:, None]
        if self.vary:
            du = du * vary.uneven(B, T, self.vary, self.dev)
        du = (du.round().clamp(min=1) * pad).long()
        t = self.te[x].transpose(1, 2) * pad[:, None]
        for i in range(3):
            t = self.conv(f"E/text_encoder/cnn.{i}/cnn.{i}.0", t).transpose(1, 2)
            t = F.leaky_relu(F.layer_norm(t, (512,), *self.tln[i], 1e-5), 0.2) * pad[..., None]
            t = t.transpose(1, 2)
        t = self.lstm("text_encoder/lstm", t.transpose(1, 2), L, True)
        return du.cpu(), (d, t, gb)

    @torch.inference_mode()
    def back(self, du, st, sel, fpad=1):
        """du (B,T) cpu durations; sel: utterance indices of this sub-batch -> audio16k (b,n) float on device, true lengths"""
        d, t, gb = st
        Fl = [int(du[i].sum()) for i in sel]
        Fm = -(-max(Fl) // fpad) * fpad
        T = du.shape[1]
        idx = torch.zeros((len(sel), Fm), dtype=torch.int64)
        for j, i in enumerate(sel):
            idx[j, : Fl[j]] = torch.repeat_interleave(torch.arange(T), du[i])
        si = torch.tensor(sel).to(self.dev)
        idx = idx.to(self.dev)[..., None]
        ln = torch.tensor(Fl).to(self.dev)
        gb = [g.index_select(0, si) for g in gb]
        m = (torch.arange(Fm, device=self.dev)[None] < ln[:, None])[..., None]
        d = d.index_select(0, si).gather(1, idx.expand(-1, -1, 640)) * m
        asr = (t.index_select(0, si).gather(1, idx.expand(-1, -1, 512)) * m).transpose(1, 2)
        x = self.lstm("shared", d, Fl, False).transpose(1, 2).contiguous()
        fn = []
        for c in ("F0", "N"):
            y = self.blk(f"E/{c}.0", f"E.{c}.0", x, gb, ln)
            y = self.blk(f"E/{c}.1", f"E.{c}.1", y, gb, ln, True)
            y = self.blk(f"E/{c}.2", f"E.{c}.2", y, gb, ln * 2)
            y = self.conv(f"E/{c}_proj", y)
            fn.append(y * self.mask(ln * 2, y))
        f0, N = fn
        if self.vary:
            f0, asr = vary.intoned(f0, self.vary), vary.slurred(asr, ln, self.vary)
        fc = self.conv("D/F0_conv", f0)
        nc = self.conv("D/N_conv", N)
        asr = asr.to(self.dt)
        fc = fc.to(self.dt)
        nc = nc.to(self.dt)
        x = self.blk("D/encode", "D.encode", torch.cat([asr, fc, nc], 1), gb, ln)
        ar = self.conv("D/asr_res/asr_res.0", asr)
        for i in range(4):
            x = self.blk(f"D/decode.{i}", f"D.decode.{i}", torch.cat([x, ar, fc, nc], 1), gb, ln, i == 3)
        # harmonic source (f32)
        r = f0 * self.harm / 24000.0
        r = r - torch.floor(r)
        ph = torch.cumsum(r, -1) * 2 * math.pi * 300
        ph = F.interpolate(ph, scale_factor=300, mode="linear")
        uv = (f0 > 10).float().repeat_interleave(300, -1)
        ph = torch.sin_(ph).mul_(0.1).mul_(uv)
        if self.noise:
            ph += (
                torch.randn_like(ph) * (0.0333 - 0.0303 * uv) * self.noise
            )  # the ONNX export dropped the source noise of the original
        hs = torch.tanh((ph * self.sl[0][:, :, None]).sum(1, keepdim=True) + self.sl[1])
        n = ln * 600
        hp = F.pad(hs, (10, 10), mode="reflect")[:, 0]
        if min(Fl) != Fm:
            j = torch.arange(10, device=self.dev)[None]
            hp.scatter_(1, 10 + n[:, None] + j, hs[:, 0].gather(1, n[:, None] - 2 - j))
        z = torch.view_as_real(torch.fft.rfft(hp.unfold(-1, 20, 5) * self.win)).permute(3, 0, 2, 1)
        re, im = z[0], z[1]
        har = torch.cat([torch.sqrt(re * re + im * im), torch.atan2(im, re)], 1)
        l2 = ln * 120 + 1
        if self.inject is not None:
            har = F.pad(self.inject, (0, har.shape[-1] - self.inject.shape[-1]))
        har = har * self.mask(l2, har)
        x = F.leaky_relu(x, 0.1)
        x = x * self.mask(ln * 2, x)
        l1 = ln * 20
        for i, l in enumerate((l1, l2)):
            xs = self.res(f"G/noise_res.{i}", f"G.noise_res.{i}", self.conv(f"G/noise_convs.{i}", har), gb, l)
            x = self.conv(f"G/ups.{i}", x)
            if i:
                x = F.pad(x, (1, 0), mode="reflect")
            x = x + xs
            y = None
            for q in range(3 * i, 3 * i + 3):
                z = self.res(f"G/resblocks.{q}", f"G.resblocks.{q}", x, gb, l)
                y = z if y is None else y.add_(z)
            x = F.leaky_relu_(y.mul_(1 / 3), 0.1 if i == 0 else 0.01)
            x = x.mul_(self.mask(l, x))
        x = self.conv("G/conv_post", x)
        e = torch.exp(x[:, :11]) * self.mask(l2, x)
        p = torch.sin(x[:, 11:])
        a = F.conv_transpose1d(torch.cat([e * torch.cos(p), e * torch.sin(p)], 1), self.ib, stride=5)[:, 0]
        a[:, :20] /= self.ws.clamp(min=1e-30)
        a = a[:, 10:-10] * 4.0
        return a, [600 * f for f in Fl]

    @torch.inference_mode()
    def to16k(self, a):
        n = a.shape[1]
        n3 = -(-n // 3) * 3
        y = F.conv1d(F.pad(a[:, None], (self.J, self.J + 2 + n3 - n)), self.rs, stride=3)
        return y.transpose(1, 2).reshape(a.shape[0], -1)[:, : n * 2 // 3]
