"""Every choice of the composed decoder: what defines it, and that cache, rows and packing change nothing."""

import itertools

import pytest
import torch
from torch.nn import functional

from cutaway.core.errors import ConfigError
from cutaway.data.batch import Batch
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, save_model
from cutaway.nn.masks import segment_mask
from cutaway.train.objectives import causal_lm

SMALL = dict(vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4)
SMALL |= dict(max_position_embeddings=48, initializer_range=0.2, latent_size=10, rotary_size=4)
SCHEMES = ("rope", "sinusoidal", "learned", "alibi", "relative", "none")
CASES = {
    **{f"positions {name}": {"positions": name} for name in SCHEMES},
    **{f"latent, {name}": {"attention": "latent", "positions": name} for name in ("rope", "learned", "alibi")},
    "MQA": {"num_key_value_heads": 1},
    "GQA": {"num_key_value_heads": 2},
    "post-norm": {"norm": "layer", "norm_place": "post"},
    "no norm, no residual": {"norm": "none", "residual": False},
    **{f"activation {name}": {"activation": name} for name in ("relu", "gelu", "silu", "relu2", "geglu")},
    "experts": {"num_experts": 4},
    "experts, shared": {"num_experts": 3, "num_experts_per_tok": 1, "shared_expert": True, "activation": "relu"},
    "full head": {"head": "full"},
    "adaptive head": {"head": "adaptive", "adaptive": {"cutoffs": [10, 30], "div_value": 2}},
}


def make(seed=0, **choices):
    torch.manual_seed(seed)
    return make_model({**SMALL, "model_type": "composed", **choices}).eval()


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_cached_equals_uncached_also_for_rows_of_different_lengths(case):
    model = make(**CASES[case])
    prompts = [torch.randint(50, (1, n)) for n in (9, 3, 6)]
    cache = model.new_cache(4, 20)
    for row, prompt in enumerate(prompts):
        for part in prompt.split([2, prompt.shape[1] - 2], dim=1):
            model(part, cache=cache.rows(row, row + 1))
    new = torch.randint(50, (3, 4))
    together = torch.cat([model(step, cache=cache.rows(0, 3)) for step in new.split(1, dim=1)], dim=1)
    for row, prompt in enumerate(prompts):
        alone = model(torch.cat((prompt, new[row : row + 1]), dim=1))[:, -4:]
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_packed_equals_unpacked(case):
    model = make(**CASES[case])
    documents = [torch.randint(50, (1, n)) for n in (7, 4, 9)]
    segments = torch.tensor([[1] * 7 + [2] * 4 + [3] * 9])
    positions = torch.tensor([[*range(7), *range(4), *range(9)]])
    packed = model(torch.cat(documents, dim=1), positions_BT=positions, mask_BTS=segment_mask(segments))
    for document, part in zip(documents, packed.split([7, 4, 9], dim=1), strict=True):
        torch.testing.assert_close(part, model(document), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_it_learns_and_comes_back_from_a_folder(case, tmp_path):
    model = make(**CASES[case])
    ids = torch.arange(16).repeat(2, 1) % 7
    batch = Batch(ids, ids.roll(-1, 1), torch.arange(16).expand(2, 16), torch.ones_like(ids))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    seen = []
    for _ in range(40):
        loss, n, _ = causal_lm(model, batch)
        (loss / n).backward()
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.item() / n)
    assert seen[-1] < (0.9 if "no norm" in case else 0.5) * seen[0]
    save_model(model, None, tmp_path / "saved")
    again = load_model(tmp_path / "saved", torch.float32, torch.device("cpu"))
    assert again.config == model.config
    torch.testing.assert_close(again.logits(again(ids)), model.logits(model(ids)))


@torch.no_grad()
def test_the_default_is_a_llama():
    ours = make()
    llama = make_model(
        {
            **{k: v for k, v in SMALL.items() if k not in ("latent_size", "rotary_size")},
            "model_type": "llama",
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-6,
        }
    )
    names = {"embed_tokens": "model.embed_tokens", "layers": "model.layers", "norm": "model.norm"}
    inner = {"attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}
    inner |= {"attention": "self_attn", "feed_forward": "mlp"}
    state = {}
    for name, value in ours.named_parameters():
        first, *rest = name.split(".")
        state[".".join([names[first], *(inner.get(part, part) for part in rest)])] = value
    llama.load_state_dict(state, strict=False)
    llama.tie()
    ids = torch.randint(50, (2, 13))
    torch.testing.assert_close(ours.logits(ours(ids)), llama.logits(llama(ids)))


@pytest.mark.parametrize("scheme", SCHEMES)
@torch.no_grad()
def test_what_a_position_scheme_knows(scheme):
    model = make(positions=scheme, num_hidden_layers=1)
    ids = torch.randint(50, (1, 10))
    here, there = model(ids), model(ids, positions_BT=torch.arange(10)[None] + 5)
    by_distance = scheme not in ("sinusoidal", "learned")
    assert torch.allclose(here, there, atol=1e-5) == by_distance
    shuffled = torch.cat((ids[:, torch.tensor([3, 1, 0, 2, 5, 4, 8, 7, 6])], ids[:, -1:]), dim=1)
    orderless = torch.allclose(model(shuffled)[:, -1], here[:, -1], atol=1e-5)
    assert orderless == (scheme == "none")


@torch.no_grad()
def test_two_causal_layers_without_positions_know_order():
    model = make(positions="none", num_hidden_layers=2)
    ids = torch.tensor([[1, 2, 3, 4]])
    assert not torch.allclose(model(ids)[:, -1], model(ids[:, [1, 0, 2, 3]])[:, -1], atol=1e-4)


def test_what_is_cached_per_token():
    def per_token(**choices):
        return make(**choices).new_cache(1, 1).nbytes // SMALL["num_hidden_layers"] // 4

    assert per_token() == 2 * 24
    assert per_token(num_key_value_heads=2) == 24
    assert per_token(num_key_value_heads=1) == 2 * 6
    assert per_token(attention="latent") == 10 + 4
    assert per_token(attention="latent", positions="learned") == 10


@torch.no_grad()
def test_latent_attention_is_attention_over_keys_made_from_the_latent():
    layer = make(attention="latent", positions="none").blocks[0].attention
    x = torch.randn(2, 7, 24)
    c = functional.rms_norm(layer.down_proj(x), (10,), layer.latent_norm.weight, 1e-6)
    q, k, v = (
        part.view(2, 7, 4, 6).transpose(1, 2) for part in (layer.q_proj(x), layer.k_up_proj(c), layer.v_up_proj(c))
    )
    expected = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    from cutaway.models.composed_positions import Places

    torch.testing.assert_close(layer(x, Places(), None, None, 0), layer.o_proj(expected))


@torch.no_grad()
def test_norms_and_residuals():
    x = torch.randn(1, 5, 24) * 7
    post = make(norm_place="post", positions="none").blocks[0]
    from cutaway.models.composed_positions import Places

    torch.testing.assert_close(post(x, Places(), None).square().mean(-1), torch.ones(1, 5), atol=1e-3, rtol=1e-3)
    layer = make(norm="layer", norm_place="post", positions="none").blocks[0](x, Places(), None)
    torch.testing.assert_close(layer.mean(-1), torch.zeros(1, 5), atol=1e-5, rtol=0)
    for residual in (True, False):
        block = make(residual=residual, positions="none").blocks[0]
        for parameter in block.parameters():
            torch.nn.init.zeros_(parameter)
        torch.testing.assert_close(block(x, Places(), None), x if residual else torch.zeros_like(x))


@torch.no_grad()
def test_activations():
    x = torch.randn(3, 24)
    for name, f in {
        "relu2": lambda y: y.relu() ** 2,
        "silu": lambda y: y * y.sigmoid(),
        "gelu": functional.gelu,
    }.items():
        layer = make(activation=name).blocks[0].feed_forward
        torch.testing.assert_close(layer(x), layer.down_proj(f(layer.up_proj(x))))
    layer = make(activation="geglu").blocks[0].feed_forward
    torch.testing.assert_close(layer(x), layer.down_proj(functional.gelu(layer.gate_proj(x)) * layer.up_proj(x)))


def test_the_adaptive_head_is_a_distribution_and_its_loss_is_the_cross_entropy():
    model = make(**CASES["adaptive head"])
    ids = torch.randint(50, (2, 9))
    logits = model.logits(model(ids))
    torch.testing.assert_close(logits.logsumexp(-1), torch.zeros(2, 9), atol=1e-5, rtol=0)
    batch = Batch(ids, ids.roll(-1, 1), torch.arange(9).expand(2, 9), torch.ones_like(ids))
    loss, n, _ = causal_lm(model, batch)
    expected = functional.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten(), reduction="sum")
    torch.testing.assert_close(loss, expected)
    assert n == 18


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@torch.no_grad()
def test_backends_agree(backend):
    for positions, attention in itertools.product(SCHEMES, ("grouped", "latent")):
        ids = torch.randint(50, (2, 11))
        one, other = (
            make(positions=positions, attention=attention),
            make(positions=positions, attention=attention, backend=backend),
        )
        torch.testing.assert_close(one(ids), other(ids), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"hidden_size": 25}, "not a multiple of num_attention_heads"),
        ({"num_key_value_heads": 3}, "not a multiple of num_key_value_heads"),
        ({"hidden_size": 20}, "must be even for rotary"),
        ({"num_experts": 1}, "more than num_experts"),
        ({"positions": "rotary"}, "positions='rotary'"),
        ({"head": "adaptive", "adaptive": {"cutoffs": [60]}}, "cutoffs"),
    ],
)
def test_choices_that_do_not_fit_are_named(choices, says):
    with pytest.raises(ConfigError, match=says):
        make(**choices)
