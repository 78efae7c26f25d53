import math

import torch

from cutaway.labs.lagged_tokens import LaggedTokens
from cutaway.loss.language_modelling import IGNORED


def rows(source, T=40):
    return source.batch(300, T, torch.Generator().manual_seed(3))


def test_the_next_token_follows_from_the_two_at_their_distances():
    source = LaggedTokens(1, near=2, far=5, noise=0.0)
    batch = rows(source)
    ids, targets = batch.ids_BT, batch.targets_BT
    for t in range(4, 40):  # what is predicted stands at t + 1
        assert torch.equal(targets[:, t], source.table_VV[ids[:, t + 1 - 5], ids[:, t + 1 - 2]])
    assert (targets[:, :4] == IGNORED).all()
    assert (targets[:, 4:] != IGNORED).all()


def test_one_of_the_two_alone_says_nothing():
    table = LaggedTokens(2).table_VV
    for line in (*table, *table.T):
        assert sorted(line.tolist()) == list(range(len(table)))


def test_floor_is_the_entropy_of_the_noise():
    assert LaggedTokens(0, V=4, noise=1.0).floor == math.log(4)
    source = LaggedTokens(0)
    batch = rows(source)
    right = source.table_VV[batch.ids_BT[:, :-1], batch.ids_BT[:, 1:]] == batch.targets_BT[:, 1:]
    p = 1 - source.noise * (1 - 1 / source.V)
    assert abs(right.float().mean().item() - p) < 0.01
    assert math.isclose(source.floor, -p * math.log(p) - (1 - p) * math.log((1 - p) / (source.V - 1)))


def test_rows_come_from_the_seed():
    one, same, other = (next(LaggedTokens(0).batches(2, 8, seed)) for seed in (5, 5, 6))
    assert torch.equal(one.ids_BT, same.ids_BT)
    assert not torch.equal(one.ids_BT, other.ids_BT)
