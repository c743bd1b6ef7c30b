"""The recurrent language model: its file against the formulas in float64, what it learns, and what it is given to read."""
import math
import os
import sys

import numpy as np
import torch

TRAINING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training")
sys.path.insert(0, TRAINING)
from lm import recurrent

VOCABULARY = 6


def by_hand(w, said):
    """log p of the pieces `said`, in float64, from the file's tensors."""
    w = {k: v.double().numpy() for k, v in w.items()}
    width = w["weight_hh"].shape[1]
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    h, c, total = np.zeros(width), np.zeros(width), 0.0
    for before, piece in zip([0, *said], said):
        i, f, g, o = (w["weight_ih"] @ w["embedding"][before] + w["weight_hh"] @ h + w["bias"]).reshape(4, width)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        logits = (w["out.weight"] @ h + w["out.bias"])[1:]                   # a blank is never said
        total += logits[piece - 1] - np.log(np.exp(logits).sum())
    return total


def test_the_file_says_what_the_network_says():
    torch.manual_seed(1)
    net = recurrent.Recurrent(VOCABULARY, 8, 16)
    for p in net.parameters():
        p.data = p.data.half().float()                     # as the file has them; the two biases become one
    said = np.random.default_rng(2).integers(1, VOCABULARY, 40).tolist()
    assert abs(recurrent.log_likelihood(net, said, "cpu") - by_hand(net.weights(), said)) < 1e-2


def test_it_learns_what_was_said_before():
    """Each sentence ends with the piece that it began with; the one between them is always the same."""
    r = np.random.default_rng(3)
    said = [[first, 5, first] for first in r.integers(1, 5, 4000)]
    torch.manual_seed(4)
    net = recurrent.Recurrent(VOCABULARY, 16, 32)
    steps = recurrent.train(net, [(1.0, said)], "cpu", 60, most=500)
    a_sentence = -recurrent.log_likelihood(net, sum(said[:50], []), "cpu") / 50
    assert steps == 500 and a_sentence < 1.3 * math.log(4), a_sentence         # who forgets needs 2 log 4, who remembers log 4


def test_weights_say_how_often_a_text_is_read():
    texts = [(2.5, [[1]] * (200 * recurrent.BLOCK)), (0.5, [[2]] * (200 * recurrent.BLOCK))]
    lanes = recurrent.stream(texts, np.random.default_rng(5)).numpy()
    once, twice = (np.sum(lanes == k) / (200 * recurrent.BLOCK) for k in (1, 2))
    assert abs(once - 2.5) < 0.15 and abs(twice - 0.5) < 0.15


def test_a_text_is_read_in_order():
    said = [[1 + k % 5] for k in range(400 * recurrent.BLOCK)]
    lanes = recurrent.stream([(1.0, said)], np.random.default_rng(6))
    following = (lanes[:, 1:] - lanes[:, :-1] - 1) % 5 == 0
    assert following.double().mean() > 1 - 2 / recurrent.BLOCK
    read = [list(recurrent.spans(lanes, "cpu"))[k] for k in (0, 1)]
    assert (read[0][0][:, 0] == 0).all() and torch.equal(read[0][0][:, 1:], read[0][1][:, :-1])
    assert torch.equal(read[1][0][:, 0], read[0][1][:, -1])
