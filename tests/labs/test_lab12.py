"""Lab 12: its measures on small distributions."""

import torch

from cutaway.decode.sampling import Sampling
from cutaway.labs import lab12_top_k_top_p as lab


def test_kept_counts_candidates():
    logits = torch.tensor([[5.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert lab.kept(logits, Sampling(top_k=1))[0].tolist() == [True, False, False, False]
    assert lab.kept(logits, Sampling(top_p=0.9)).sum(-1).tolist() == [1, 4]


def test_the_frequency_test_tells_a_wrong_sampler(monkeypatch):
    logits = torch.tensor([0.0, 0.5, 1.0, 2.0])
    assert lab.frequency_test(logits, Sampling(top_k=3), 2_000, seed=0) > 0.001
    monkeypatch.setattr(lab, "draw_token", lambda logits_V, greedy, generator: int(torch.randint(1, 4, ())))
    assert lab.frequency_test(logits, Sampling(top_k=3), 2_000, seed=0) < 0.001
    monkeypatch.setattr(lab, "draw_token", lambda logits_V, greedy, generator: 0)  # a token that the filter removed
    assert lab.frequency_test(logits, Sampling(top_k=3), 2_000, seed=0) == 0
