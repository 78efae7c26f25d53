import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.loss.language_modelling import IGNORED, cross_entropy, linear_cross_entropy

shapes = st.fixed_dictionaries(
    {
        "n": st.integers(1, 37),
        "d": st.integers(1, 19),
        "v": st.integers(2, 53),
        "chunk": st.integers(1, 40),
        "ignored": st.floats(0, 1),
        "bias": st.booleans(),
        "z_loss": st.sampled_from([0.0, 1e-2]),
        "smoothing": st.sampled_from([0.0, 0.1]),
        "seed": st.integers(0, 9),
    }
)


def problem(n, d, v, ignored=0.3, bias=True, seed=0, dtype=torch.float64):
    make = torch.Generator().manual_seed(seed)
    h = torch.randn(n, d, generator=make, dtype=dtype).requires_grad_()
    weight = torch.randn(v, d, generator=make, dtype=dtype).requires_grad_()
    b = torch.randn(v, generator=make, dtype=dtype).requires_grad_() if bias else None
    targets = torch.randint(0, v, (n,), generator=make)
    targets[torch.rand(n, generator=make) < ignored] = IGNORED
    return h, weight, b, targets


def torch_loss(logits, targets, z_loss, smoothing):
    loss = F.cross_entropy(logits, targets, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum")
    return loss + z_loss * (logits.logsumexp(-1)[targets != IGNORED] ** 2).sum()


def grads(loss, *tensors):
    return torch.autograd.grad(loss, [tensor for tensor in tensors if tensor is not None])


@given(shapes)
@settings(max_examples=60, deadline=None)
def test_both_equal_torch_with_gradients(shape):
    h, weight, bias, targets = problem(*(shape[name] for name in ("n", "d", "v", "ignored", "bias", "seed")))
    options = {"z_loss": shape["z_loss"], "label_smoothing": shape["smoothing"]}
    expected = torch_loss(F.linear(h, weight, bias), targets, shape["z_loss"], shape["smoothing"])
    wanted = grads(expected, h, weight, bias)
    ours = [
        cross_entropy(F.linear(h, weight, bias), targets, **options),
        linear_cross_entropy(h, weight, bias, targets, chunk=shape["chunk"], **options),
    ]
    for loss in ours:
        torch.testing.assert_close(loss, expected)
        for got, want in zip(grads(loss, h, weight, bias), wanted, strict=True):
            torch.testing.assert_close(got, want)


def test_the_gradient_is_scaled_by_what_comes_after():
    h, weight, _, targets = problem(9, 4, 7, bias=False)
    whole = grads(linear_cross_entropy(h, weight, None, targets), h, weight)
    third = grads(linear_cross_entropy(h, weight, None, targets) / 3, h, weight)
    for a, b in zip(whole, third, strict=True):
        torch.testing.assert_close(a / 3, b)


def test_a_frozen_head_gets_no_gradient():
    h, weight, _, targets = problem(9, 4, 7, bias=False)
    linear_cross_entropy(h, weight.detach(), None, targets).backward()
    expected = grads(torch_loss(F.linear(h, weight), targets, 0, 0), h)
    torch.testing.assert_close(h.grad, expected[0])
    assert weight.grad is None


def test_no_gradients_are_computed_without_grad():
    h, weight, _, targets = problem(9, 4, 7, bias=False)
    with torch.no_grad():
        loss = linear_cross_entropy(h, weight, None, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, torch_loss(F.linear(h, weight), targets, 0, 0).detach())


def test_nothing_supervised_is_zero():
    h, weight, bias, targets = problem(5, 4, 7, ignored=1.1)
    loss = linear_cross_entropy(h, weight, bias, targets)
    assert loss.item() == 0
    assert all(not grad.any() for grad in grads(loss, h, weight, bias))
    assert cross_entropy(F.linear(h, weight, bias), targets).item() == 0


def test_large_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert torch.isfinite(logits.grad).all()


def test_autocast_keeps_the_weights_gradient_in_float32():
    h, weight, _, targets = problem(64, 16, 50, bias=False, dtype=torch.float32)
    exact = grads(linear_cross_entropy(h, weight, None, targets), h, weight)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(h, weight, None, targets, chunk=16)
    rough = grads(loss, h, weight)
    assert loss.dtype == torch.float32
    for got, want in zip(rough, exact, strict=True):
        assert got.dtype == torch.float32
        assert (got - want).norm() < 0.02 * want.norm()


def test_all_logits_are_never_stored():
    """Autograd keeps the gradients of h and the weight, and nothing of the size of the logits."""
    h, weight, _, targets = problem(400, 8, 300, ignored=0, bias=False)
    largest = 0

    def note(tensor):
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        linear_cross_entropy(h, weight, None, targets, chunk=50)
    assert largest == max(h.numel(), weight.numel())


MEASURE = """
import re, sys, torch
import torch.nn.functional as F
from cutaway.loss.language_modelling import cross_entropy, linear_cross_entropy
h = torch.randn(4096, 32, requires_grad=True)
weight = torch.randn(16384, 32, requires_grad=True)
targets = torch.randint(0, 16384, (4096,))
(F.linear(h[:8], weight) ** 2).sum().backward()  # what a first product allocates is not the loss's
def peak():  # of this program alone: ru_maxrss begins with what the parent had
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
if sys.argv[1] == "fused":
    linear_cross_entropy(h, weight, None, targets, chunk=128).backward()
else:
    cross_entropy(F.linear(h, weight), targets).backward()
print(peak() - before)
"""


def peak_mb(which):
    run = subprocess.run([sys.executable, "-c", MEASURE, which], capture_output=True, text=True, check=True)
    return int(run.stdout) / 1000


def test_peak_memory_is_that_of_a_chunk():
    """4,096 positions × 16,384 tokens are 268 MB of float32 logits, of which a plain loss holds several; a chunk is 8 MB."""
    assert peak_mb("fused") < 120
    assert peak_mb("whole") > 500
