"""A run that starts from exported weights of another shape takes what fits."""
import os
import sys

import pytest
import torch

TRAINING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training")
sys.path.insert(0, TRAINING)
import export
import train
from network import Encoder
from text import Tokens

SIZE = {"d": 64, "layers": 2}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(5)
    tokens = Tokens(os.path.join(TRAINING, "tokenizer.model"))
    net = Encoder(tokens.size, look=4, **SIZE)
    with torch.no_grad():
        net.p("stem.lookahead.bias").uniform_(-1, 1)
        net.mean.uniform_(-9, -5)
    folder = tmp_path_factory.mktemp("start") / "export"
    export.write(folder, net.export_state(), tokens.pieces(), {"look": 4, **SIZE})
    return folder, tokens


def test_all_of_the_same_shape(exported):
    folder, tokens = exported
    net = Encoder(tokens.size, look=4, inter=[0], **SIZE)
    assert train.start_from(net, folder, tokens) == []
    f = torch.randn(1, 83, 80)
    assert torch.equal(net(f)[0], export.read(folder)[0](f)[0])


@pytest.mark.parametrize("look", [0, 2])
def test_a_shorter_lookahead(exported, look):
    """Where nothing changes in time, a frame can stand for those after it: the rows after the lookahead are the same, but for the bias
    that goes with the lookahead."""
    folder, tokens = exported
    net, old = Encoder(tokens.size, look=look, **SIZE), export.read(folder)[0]
    assert train.start_from(net, folder, tokens) == []
    f = torch.randn(80).expand(1, 123, 80)
    rows, want = [], []
    net(f, every=rows)
    old(f, every=want)
    bias = 0 if look else old.p("stem.lookahead.bias")
    assert torch.allclose(rows[0][:, :20], want[0][:, :20] - bias, atol=1e-5)


@pytest.mark.parametrize("larger", [{"look": 6}, {"look": 4, "layers": 5}])
def test_larger_begins_as_it_was(exported, larger):
    """With more lookahead and with more blocks the same comes out before anything is learnt, and everything can learn."""
    folder, tokens = exported
    net = Encoder(tokens.size, **{**SIZE, **larger})
    train.start_from(net, folder, tokens)
    f = torch.randn(1, 83, 80)
    out, old = net(f)[0], export.read(folder)[0](f)[0]
    assert torch.allclose(out[:, :14], old[:, :14], atol=1e-5)  # the frames before the end, where the lookahead's padding differs
    net.zero_grad()
    net(torch.randn(1, 83, 80))[0].logsumexp(-1).sum().backward()
    for i in range(net.layers):
        assert net.p(f"backbone.layers.{i}.mlp.fc2.weight").grad.abs().max() > 0


def test_another_block_and_chosen_parts(exported):
    folder, tokens = exported
    net = Encoder(tokens.size, look=4, block="lstm", hidden=32, **SIZE)
    before = net.export_state()
    new = train.start_from(net, folder, tokens, ["stem.", "ctc_head."])
    after, theirs = net.export_state(), export.read(folder)[0].export_state()
    assert new and all(n.startswith("backbone.") for n in new)
    for k in before:
        taken = k.startswith(("stem.", "ctc_head.", "features."))
        assert torch.equal(after[k], theirs[k] if taken else before[k]), k
