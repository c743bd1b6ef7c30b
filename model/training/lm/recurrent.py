"""A recurrent language model over the recogniser's own pieces: one layer of LSTM (Hochreiter and Schmidhuber 1997), trained on running text.

    python -m lm.recurrent TEXT[:WEIGHT] ... --tokenizer tokenizer.model --out lstm.safetensors --avoid packs.tsv ... --minutes 3
                           [--width 512] [--embedding 192] [--check packs.tsv]

TEXT, --avoid and --check as for lm.build, with the same weights: a source of weight 2.4 is read 2.4 times where one of weight 1 is read once.
Text is read in order, by pieces of 64 sentences that are shuffled. The file: embedding (vocabulary, e), weight_ih (4 h, e), weight_hh (4 h, h),
bias (4 h), gates in PyTorch's order (input, forget, cell, output), out.weight (vocabulary, h), out.bias; float16. Piece 0, the blank, is what stands
before a text; it is never said.
"""
import argparse
import math
import time

import numpy as np
import torch
import torch.nn.functional as F

from lm.build import Pieces, avoided, sentences
from synth.passages import opener
from tensors import save_file

BLOCK = 64                                                 # sentences that stay together
LANES, SPAN = 256, 64                                      # texts read side by side; pieces a step
DROP, RATE, DECAY = 0.2, 3e-3, 0.02


class Recurrent(torch.nn.Module):
    def __init__(self, vocabulary, embedding, width):
        super().__init__()
        self.embed = torch.nn.Embedding(vocabulary, embedding)
        self.lstm = torch.nn.LSTM(embedding, width, batch_first=True)
        self.out = torch.nn.Linear(width, vocabulary)

    def forward(self, ids, state=None):
        """ids (lanes, pieces) -> logits of the piece after each (lanes, pieces, vocabulary), the state at the end."""
        drop = lambda x: F.dropout(x, DROP, self.training)
        y, state = self.lstm(drop(self.embed(ids)), state)
        return self.out(drop(y)), state

    def weights(self):
        """The file's tensors, in float16."""
        w = {"embedding": self.embed.weight, "weight_ih": self.lstm.weight_ih_l0, "weight_hh": self.lstm.weight_hh_l0,
             "bias": self.lstm.bias_ih_l0 + self.lstm.bias_hh_l0, "out.weight": self.out.weight, "out.bias": self.out.bias}
        return {k: v.detach().half().cpu() for k, v in w.items()}


def stream(texts, random):
    """One reading of all texts, shuffled by blocks, as lanes (LANES, pieces). texts: [(weight, [sentence as pieces])]."""
    blocks = []
    for weight, said in texts:
        for at in range(0, len(said), BLOCK):
            blocks += [said[at:at + BLOCK]] * (int(weight) + (random.random() < weight % 1))
    random.shuffle(blocks)
    ids = np.fromiter((i for block in blocks for sentence in block for i in sentence), np.int16)
    lanes = min(LANES, max(1, len(ids) // (2 * SPAN)))
    return torch.from_numpy(ids[:len(ids) // lanes * lanes].reshape(lanes, -1))


def spans(lanes, device):
    """What is read and what comes after it, a step at a time."""
    before = F.pad(lanes, (1, 0))[:, :-1]
    for at in range(0, lanes.shape[1], SPAN):
        yield before[:, at:at + SPAN].long().to(device), lanes[:, at:at + SPAN].long().to(device)


def train(net, texts, device, minutes, seed=1, tell=print, most=10 ** 9):
    """Ends by the clock, or after so many steps, and its learning rate with it -> steps."""
    random = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(net.parameters(), RATE, (0.9, 0.98), weight_decay=DECAY)
    start, steps, read, part = time.time(), 0, 0, 0.0
    net.to(device).train()
    while part < 1:
        state, loss_sum, loss_count = None, 0.0, 0
        for ids, after in spans(stream(texts, random), device):
            part = max((time.time() - start) / (60 * minutes), steps / most)
            if part >= 1:
                break
            for group in optimiser.param_groups:
                group["lr"] = RATE * min(1, (steps + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))
            logits, state = net(ids, state)
            state = tuple(s.detach() for s in state)
            loss = F.cross_entropy(logits.flatten(0, 1), after.flatten())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            steps, read = steps + 1, read + after.numel()
            loss_sum, loss_count = loss_sum + loss.detach(), loss_count + 1
            if steps % 500 == 0:
                tell(f"part {part:.2f}, step {steps}, {read / 1e6:.0f} million pieces: {loss_sum.item() / loss_count:.3f} a piece in this reading")
    return steps


@torch.no_grad()
def log_likelihood(net, said, device):
    """Of a text as pieces, from its start on: natural log."""
    net.eval()
    ids = torch.tensor([[0, *said]], device=device)
    logits, _ = net(ids[:, :-1])
    logits[..., 0] = -torch.inf                            # a blank is never said
    return -F.cross_entropy(logits[0], ids[0, 1:], reduction="sum").item()


def perplexities(net, lines, encode, device):
    """-> of the lines one after the other, and each by itself, a word."""
    said, words = [encode(line) for line in lines], sum(len(line.split()) for line in lines)
    each = sum(log_likelihood(net, s, device) for s in said if s)
    return math.exp(-log_likelihood(net, sum(said, []), device) / words), math.exp(-each / words)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("text", nargs="+")
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--avoid", nargs="+", required=True)
    ap.add_argument("--minutes", type=float, required=True)
    ap.add_argument("--width", type=int, default=512)
    ap.add_argument("--embedding", type=int, default=192)
    ap.add_argument("--check", nargs="*", default=[])
    a = ap.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encode = Pieces(a.tokenizer)
    grams, whole = avoided(a.avoid)
    texts = []
    for spec in a.text:
        path, weight = (spec.rsplit(":", 1) + ["1"])[:2]
        texts.append((float(weight), [encode(s) for s in sentences(path, grams, whole)]))
    print(f"{sum(len(s) for _, said in texts for s in said)} pieces", flush=True)
    torch.manual_seed(1)
    net = Recurrent(encode.size, a.embedding, a.width)
    train(net, texts, device, a.minutes, tell=lambda line: print(line, flush=True))
    for path in a.check:
        together, alone = perplexities(net, [line.rstrip("\n").split("\t")[4] for line in opener(path)], encode, device)
        print(f"{path.rsplit('/', 2)[-2:]}: perplexity {together:.0f} a word, {alone:.0f} where each line stands by itself", flush=True)
    save_file(net.weights(), a.out, {"format": "pt"})


if __name__ == "__main__":
    main()
