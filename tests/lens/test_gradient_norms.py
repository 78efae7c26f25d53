"""Gradient norms against backward passes of our own."""

import torch

from cutaway.lens.gradient_norms import gradient_norms
from cutaway.lens.layers import layer_names, text_loss

IDS = torch.tensor([[5, 77, 5, 200, 31]])


def test_norms_are_those_of_backward(any_model):
    found = gradient_norms(any_model, IDS)
    assert all(weight.grad is None for weight in any_model.parameters())
    kept = []
    handles = [
        any_model.get_submodule(name).register_forward_hook(lambda m, i, o: (o.retain_grad(), kept.append(o))[0])
        for name in layer_names(any_model)
    ]
    loss = text_loss(any_model, IDS)
    loss.backward()
    for handle in handles:
        handle.remove()
    assert found.loss == float(loss.detach())
    torch.testing.assert_close(found.stream_LT, torch.stack([o.grad[0].norm(dim=-1) for o in kept]))
    for name, norm in zip(found.layers, found.weights, strict=True):
        block = any_model.get_submodule(name)
        total = sum(float(weight.grad.square().sum()) for weight in block.parameters() if weight.grad is not None)
        torch.testing.assert_close(norm, total**0.5)
    torch.testing.assert_close(found.embedding_T, any_model.embedding.weight.grad[IDS[0]].norm(dim=-1))


def test_frozen_weights_stay_frozen(model):
    model.requires_grad_(False)
    assert all(norm > 0 for norm in gradient_norms(model, IDS).weights)
    assert not any(weight.requires_grad for weight in model.parameters())


def test_the_last_position_of_a_decoder_has_no_gradient(model):
    """Nothing is predicted from it, and no earlier position sees it."""
    stream_LT = gradient_norms(model, IDS).stream_LT
    assert not stream_LT[:, -1].any()
    assert bool((stream_LT[:, :-1] > 0).all())
