"""Spectra, principal components, anisotropy and neighbours against NumPy and sums written out."""

import math

import numpy as np
import pytest
import torch

from cutaway.core.errors import ConfigError, RequestError
from cutaway.lens.expert_load import expert_load
from cutaway.lens.neighbours import neighbours
from cutaway.lens.pca import anisotropy, pca
from cutaway.lens.spectrum import spectrum, weight_spectra
from cutaway.models.families import make_model


def test_singular_values_are_numpy_s():
    weight = torch.randn(7, 5)
    found = spectrum("w", weight)
    values = np.linalg.svd(weight.numpy(), compute_uv=False)
    np.testing.assert_allclose(found.values, values, rtol=1e-5)
    shares = values / values.sum()
    assert found.effective_rank == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-5)
    assert found.stable_rank == pytest.approx((weight.numpy() ** 2).sum() / values[0] ** 2, rel=1e-5)
    assert found.shape == (7, 5)


def test_ranks_of_known_matrices():
    flat = spectrum("identity", torch.eye(6))
    assert (flat.effective_rank, flat.stable_rank) == (pytest.approx(6), pytest.approx(6))
    thin = spectrum("outer", torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 4)).to(torch.bfloat16))
    assert thin.stable_rank == pytest.approx(1)
    assert thin.effective_rank == pytest.approx(1, abs=1e-3)
    nothing = spectrum("a LoRA's B before training", torch.zeros(4, 3))
    assert (nothing.effective_rank, nothing.stable_rank) == (0, 0)


def test_every_matrix_counts_once(any_model):
    found = weight_spectra(any_model)
    expected = [name for name, weight in any_model.named_parameters() if weight.dim() == 2 and "bias" not in name]
    assert len(found) == len(expected)
    first = found[0].name.split(".")[0]
    assert {row.name for row in weight_spectra(any_model, under=first)} == {
        row.name for row in found if row.name.startswith(first)
    }


@pytest.mark.parametrize("shape", [(40, 6), (5, 30)])
def test_components_are_the_eigenvectors_of_the_covariance(shape):
    x_ND = torch.randn(shape, dtype=torch.float64) * torch.arange(1, shape[1] + 1) + 3
    found = pca(x_ND)
    values, vectors = np.linalg.eigh(np.cov(x_ND.numpy().T))
    k = min(shape) - (shape[0] <= shape[1])  # centred vectors have one direction fewer
    np.testing.assert_allclose(found.variances_K[:k], values[::-1][:k], rtol=1e-9)
    cosines = np.abs(np.sum(found.components_KD[:k].numpy() * vectors[:, ::-1].T[:k], axis=1))
    np.testing.assert_allclose(cosines, 1, rtol=1e-9)
    assert float(found.explained.sum()) == pytest.approx(1)
    torch.testing.assert_close(found.restore(found.project(x_ND)), x_ND)
    two = pca(x_ND, 2)
    assert two.project(x_ND).shape == (shape[0], 2)
    assert two.total == pytest.approx(found.total)
    lost = float((two.restore(two.project(x_ND)) - x_ND).square().sum()) / (shape[0] - 1)
    assert lost == pytest.approx(found.total - float(two.variances_K.sum()))


def test_anisotropy_is_the_mean_cosine():
    x_ND = torch.randn(9, 4) + 1
    pairs = [(a, b) for a in range(9) for b in range(9) if a != b]
    expected = np.mean([float(torch.cosine_similarity(x_ND[a], x_ND[b], dim=0)) for a, b in pairs])
    assert anisotropy(x_ND) == pytest.approx(expected, rel=1e-5)
    assert anisotropy(torch.ones(5, 3)) == pytest.approx(1)
    assert anisotropy(torch.eye(5)) == 0


def test_too_few_vectors_are_refused():
    with pytest.raises(ConfigError, match="two vectors"):
        pca(torch.randn(1, 3))
    with pytest.raises(ConfigError, match="two vectors"):
        anisotropy(torch.randn(1, 3))
    with pytest.raises(ConfigError, match="1 to 3"):
        pca(torch.randn(9, 3), 4)


def test_neighbours_are_the_nearest_rows():
    embedding_VD = torch.randn(30, 8)
    found = neighbours(embedding_VD, 4, k=29)
    unit = embedding_VD.numpy() / np.linalg.norm(embedding_VD.numpy(), axis=1, keepdims=True)
    order = [int(row) for row in np.argsort(-(unit @ unit[4])) if row != 4]
    assert [one.id for one in found] == order
    assert found[0].cosine == pytest.approx(float(unit[order[0]] @ unit[4]), rel=1e-5)
    for id, k, field in ((30, 3, "id"), (-1, 3, "id"), (2, 30, "k"), (2, 0, "k")):
        with pytest.raises(RequestError) as caught:
            neighbours(embedding_VD, id, k)
        assert caught.value.field == field


def test_expert_load_counts_the_choices():
    torch.manual_seed(0)
    model = make_model({"model_type": "mixtral", "vocab_size": 99, "hidden_size": 16, "num_hidden_layers": 2}).eval()
    ids = torch.randint(99, (1, 11))
    chosen = []
    handles = [
        block.block_sparse_moe.gate.register_forward_hook(lambda m, i, o: chosen.append(o.topk(2, dim=-1).indices))
        for block in model.blocks
    ]
    found = expert_load(model, ids)
    for handle in handles:
        handle.remove()
    for load_E, experts in zip(found.values(), chosen, strict=True):
        counts = [int((experts == expert).sum()) for expert in range(8)]
        assert load_E.tolist() == pytest.approx([count / 22 for count in counts])
    assert list(found) == ["model.layers.0.block_sparse_moe", "model.layers.1.block_sparse_moe"]


def test_a_model_without_experts_is_refused(model):
    with pytest.raises(ConfigError, match="without experts"):
        expert_load(model, torch.tensor([[1, 2]]))
