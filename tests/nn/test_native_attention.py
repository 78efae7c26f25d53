"""Attention as training computes it in bfloat16, beside the equation in float32; whichever kernel this machine has."""

import warnings

import pytest
import torch

from cutaway.core import native
from cutaway.nn import native_attention
from cutaway.nn.attention import Attend, attend_reference
from cutaway.nn.masks import segment_mask

SHAPES = [  # B, H, G, T, S, K
    (2, 4, 2, 100, 100, 32),
    (1, 6, 6, 64, 64, 64),
    (2, 3, 1, 129, 129, 48),
    (1, 2, 2, 1, 1, 16),
    (1, 2, 1, 5, 70, 16),
    (1, 1, 1, 70, 70, 24),  # no multiple of the kernel's width
]


def tensors(B, H, G, T, S, K, seed=0):
    generator = torch.Generator().manual_seed(seed)
    # As the projections leave them: positions before heads.
    q, k, v = (torch.randn(B, n, heads, K, generator=generator) for n, heads in ((T, H), (S, G), (S, G)))
    return [x.bfloat16().transpose(1, 2).requires_grad_() for x in (q, k, v)]


def compare(given, mask, attend):
    """Outputs and gradients within bfloat16's rounding of the float32 equation's."""
    exact = [x.detach().float().requires_grad_() for x in given]
    want, got = attend_reference(*exact, mask, 0.2), attend(*given, mask)
    upstream = torch.randn(want.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad(want, exact, upstream)
    found = torch.autograd.grad(got, given, upstream.to(got.dtype))
    assert got.dtype == torch.bfloat16
    for a, b in zip((got, *found), (want, *wanted), strict=True):
        assert (a.float() - b).abs().max() <= 0.02 * b.abs().max()


@pytest.mark.parametrize("shape", SHAPES)
def test_causal(shape):
    compare(tensors(*shape), None, Attend(0.2).train())


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[3] == shape[4] > 1])
def test_masks(shape):
    B, H, _, T, S, _ = shape
    segments = torch.arange(T).div(1 + T // 3, rounding_mode="floor").expand(B, T) + 1
    everything = torch.ones(1, 1, 1, S, dtype=torch.bool)
    random = torch.rand(B, H, T, S, generator=torch.Generator().manual_seed(2)) < 0.3
    random[..., 0] = True
    for mask in (segment_mask(segments), everything, random, random.flip(-1)):
        compare(tensors(*shape), mask, Attend(0.2).train())


@pytest.mark.skipif(not native_attention.available(), reason="no processor with bfloat16 products, or no compiler")
def test_a_query_that_sees_nothing_gets_zeros():
    q, k, v = tensors(1, 2, 2, 70, 70, 16)
    mask = torch.ones(70, 70, dtype=torch.bool)
    mask[3] = False
    out = native_attention.attend_native(q, k, v, mask[None, None], 0.2)
    assert (out[:, :, 3] == 0).all()
    assert out.isfinite().all()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(out.sum(), (q, k, v)))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_number_that_is_none_is_not_hidden(which):
    given = tensors(1, 2, 2, 70, 70, 16)
    broken = [x.detach().clone() for x in given]
    broken[which][0, 0, 5] = torch.nan
    out = Attend(0.2).train()(*(x.requires_grad_() for x in broken), None)
    assert torch.equal(out.isnan(), attend_reference(*broken, None, 0.2).isnan())
    assert out.isnan().any()


def test_under_autocast_the_products_are_in_bfloat16():
    q, k, v = (x.detach().float().requires_grad_() for x in tensors(1, 2, 1, 70, 70, 32))
    with torch.autocast("cpu", torch.bfloat16):
        out = Attend(0.2).train()(q, k, v, None)
    assert out.dtype == torch.bfloat16
    assert [grad.dtype for grad in torch.autograd.grad(out.sum(), (q, k, v))] == [torch.float32] * 3


def test_compiled_is_the_same():
    given = tensors(1, 4, 2, 70, 70, 32)
    attend = Attend(0.2).train()
    plain, compiled = attend(*given, None), torch.compile(attend, backend="aot_eager")(*given, None)
    assert torch.equal(plain, compiled)
    for a, b in zip(*(torch.autograd.grad(out.sum(), given) for out in (plain, compiled)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(not native_attention.available(), reason="no processor with bfloat16 products, or no compiler")
def test_the_operator_keeps_torchs_rules():
    given = tensors(1, 4, 2, 20, 20, 16)
    for mask in (None, torch.ones(20, 20, dtype=torch.bool).tril()[None, None]):
        torch.library.opcheck(native_attention._forward, (*given, mask, 0.2))


@pytest.mark.parametrize("eager", [True, False])
def test_only_training_uses_it(eager, monkeypatch):
    calls = []
    monkeypatch.setattr("cutaway.nn.attention.suits", lambda *given: calls.append(given) or False)
    attend = Attend(0.2).train(eager)
    attend(*tensors(1, 2, 2, 8, 8, 16), None)
    assert bool(calls) is eager


def test_without_a_compiler_it_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    with pytest.warns(UserWarning, match=r"native/attention\.cpp is not used: .*no-compiler"):
        assert native.native_library.__wrapped__("attention") is None


def test_a_source_that_does_not_compile_says_why(monkeypatch, tmp_path):
    (tmp_path / "broken.cpp").write_text("int main( {")
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))
    with pytest.warns(UserWarning, match=r"native/broken\.cpp is not used: .*error"):
        assert native.native_library.__wrapped__("broken") is None
    assert not list((tmp_path / "native").iterdir()), "nothing half-built is left"


def test_compiled_once(monkeypatch, tmp_path):
    (tmp_path / "one.cpp").write_text('extern "C" int one() { return 1; }')
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert native.native_library.__wrapped__("one").one() == 1
        (built,) = (tmp_path / "native").iterdir()
        stamp = built.stat().st_mtime_ns
        assert native.native_library.__wrapped__("one").one() == 1
        assert built.stat().st_mtime_ns == stamp
        (tmp_path / "one.cpp").write_text('extern "C" int one() { return 2; }')
        assert native.native_library.__wrapped__("one").one() == 2
