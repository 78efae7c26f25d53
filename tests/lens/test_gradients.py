"""The vector-Jacobian product of one block."""

import torch

from cutaway.lens.gradients import vjp
from cutaway.lens.hooks import capture
from cutaway.lens.layers import block_names


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
