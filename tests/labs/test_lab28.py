"""Lab 28: its measures where the answer is known."""

import torch
from torch.nn.functional import normalize

from cutaway.labs import lab28_principal_components as lab


def test_sentences_to_search_with_are_not_among_those_found():
    passages, queries = lab.split(seed=0, pages=4, passages=6, queries=2)
    assert len(queries) == 8
    assert not {text for text, _ in passages} & {text for text, _ in queries}
    assert {page for _, page in passages} == set(range(4))
    assert lab.split(seed=0, pages=4, passages=6, queries=2) == (passages, queries)


def test_eigenvectors_of_stretched_noise():
    torch.manual_seed(0)
    found = lab.eigenvectors(torch.randn(200, 40) * torch.linspace(1, 9, 40))
    assert found["eigenvalue_error"] < 1e-10
    assert found["variance_along_error"] < 1e-10
    assert found["direction_cosine"] > 1 - 1e-10


def test_vectors_in_few_directions_keep_everything():
    torch.manual_seed(0)
    x_ND = normalize(torch.randn(120, 4) @ torch.randn(4, 80), dim=-1)
    whole = lab.rankings(x_ND[20:], x_ND[:20])
    relevant = [ranking[:3] for ranking in whole]
    assert lab.mean_ndcg(whole, relevant) == 1
    found = lab.kept(x_ND[20:], x_ND[:20], whole, relevant, seed=0)
    assert min(found["neighbours_kept"]) > 0.97
    assert found["random_neighbours_kept"][0] < 0.97
