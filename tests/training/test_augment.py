"""What augmentation does, and what it leaves out when told; which sets are found."""
import os
import sys

import numpy as np
import pytest
import torch

TRAINING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "model", "training")
sys.path.insert(0, TRAINING)
from augment import INGREDIENTS, Augment
from data import find_sets

SAMPLES = 16000


def made(**options):
    torch.manual_seed(3)
    pool = (torch.randn(24 * SAMPLES) * 3000).short()
    return Augment(pool, torch.zeros(80), torch.ones(80), SAMPLES, torch.device("cpu"), clips=1, seconds=2, **options)


def two_views(aug):
    src, ints, fl = torch.tensor([[SAMPLES]]), torch.zeros(4, 1, 1, dtype=torch.int32), torch.ones(2, 1, 1)
    ints[0], ints[2] = SAMPLES, SAMPLES
    return aug(aug.mixed(src, ints, fl), torch.tensor([float(SAMPLES)]))


def test_with_all_left_out_views_differ_in_level_alone():
    aug = made(without=INGREDIENTS)
    aug.rand = lambda *s, lo=0.0, hi=1.0: torch.full(s, lo + (hi - lo) * 0.5)
    one, two = two_views(aug)
    assert torch.equal(one, two)
    del aug.rand                                           # a level of its own for each: the same distance in every band
    one, two = two_views(aug)
    away = one - two
    assert away.std() < 0.02 < away.abs().mean()


@pytest.mark.parametrize("ingredient", INGREDIENTS)
def test_each_ingredient_does_something(ingredient):
    """With one of them alone, no longer a difference in level alone. Those that come by chance are asked a few times."""
    aug = made(without=[n for n in INGREDIENTS if n != ingredient])
    assert max(float((one - two).std()) for one, two in (two_views(aug) for _ in range(8))) > 0.05


def test_what_cannot_be_left_out_is_refused():
    with pytest.raises(SystemExit, match="rooms, noise"):
        made(without=["music"])


def test_recorded_noise_is_heard_at_one_level_without_its_silence():
    loud = (np.random.default_rng(1).normal(0, 5000, 4 * SAMPLES)).astype(np.int16)
    aug = made(recorded=[np.concatenate([loud, loud // 40, np.zeros(5 * SAMPLES, np.int16)])])
    plain = made()
    for with_it, without in ((aug.steady, plain.steady), (aug.events, plain.events)):
        added = with_it[without.numel():].float()
        assert torch.equal(with_it[:without.numel()], without) and added.numel() == 8 * SAMPLES
        assert torch.allclose(added.view(2, -1).square().mean(-1), torch.ones(2), atol=0.01)


def test_sets_by_name_and_by_pattern(tmp_path):
    for name, size in (("talkie-a", 3000), ("talkie-b", 1000), ("talkie-own", 500), ("other", 10)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0000.opus").write_bytes(bytes(size))
    got = find_sets(str(tmp_path), {"talkie-*": 0.4, "talkie-own": 0.1, "not-there": 0.2, "other": 0.3})
    assert {n: round(s, 6) for n, _, s in got} == {"talkie-a": 0.3, "talkie-b": 0.1, "talkie-own": 0.1, "other": 0.3}
