"""Gradient norms by part, and the vector-Jacobian product of one block."""

import math

import torch

from cutaway.lens.gradients import gradient_norms, vjp
from cutaway.lens.hooks import capture, name_of
from cutaway.lens.logit_lens import block_names


def test_norms_by_part_add_up(model):
    model(torch.randint(260, (2, 7))).square().mean().backward()
    norms = gradient_norms(model)
    blocks = {f"block {i}" for i in range(3)}
    assert blocks | {name_of(model, model.embedding), name_of(model, model.final_norm)} <= set(norms)
    total = math.sqrt(sum(float(p.grad.double().square().sum()) for p in model.parameters() if p.grad is not None))
    assert math.isclose(math.sqrt(sum(norm**2 for norm in norms.values())), total, rel_tol=1e-6)


def test_no_gradients_no_norms(model):
    assert gradient_norms(model) == {}


def test_vjp_of_a_block_equals_autograd(model):
    model = model.double()
    name = block_names(model)[1]
    block = model.get_submodule(name)
    with capture(model, [name]) as calls:
        model(torch.randint(260, (1, 7)))
    x, *rest = (value.detach() if isinstance(value, torch.Tensor) else value for value in calls[name].inputs)
    output, pull = vjp(block, lambda x: block(x, *rest), x)
    cotangent = torch.randn_like(output)
    found = pull(cotangent)
    x.requires_grad_()
    block.zero_grad()
    block(x, *rest).backward(cotangent)
    torch.testing.assert_close(found.inputs[0], x.grad)
    for own, parameter in block.named_parameters():
        torch.testing.assert_close(found.parameters[own], parameter.grad)
    twice = pull(2 * cotangent)  # it may be asked again
    torch.testing.assert_close(twice.inputs[0], 2 * found.inputs[0])
