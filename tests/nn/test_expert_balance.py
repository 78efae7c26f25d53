"""A bias that evens the load without a loss, and experts that are full: what each is for, in every family, saved and read."""

import json
import math
import signal

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import load_config, make_config
from cutaway.core.errors import ConfigError, Interrupted
from cutaway.data.batch import Batch
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, save_model
from cutaway.models.mixtral import MixtralConfig
from cutaway.nn.experts import Routing, expert_layers, load, move_biases, route, within_capacity
from cutaway.train import loop
from cutaway.train.objectives import PLAIN, LossConfig, causal_lm
from cutaway.train.pretrain import PretrainConfig, pretrain

SMALL = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
FAMILIES = {
    "mixtral": {**SMALL, "intermediate_size": 24, "num_local_experts": 4, "num_experts_per_tok": 1},
    "qwen3_moe": {
        **SMALL,
        "moe_intermediate_size": 24,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "head_dim": 8,
    },
    "composed": {**SMALL, "intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 1},
}


def made(kind, **more):
    torch.manual_seed(0)
    return make_model({"model_type": kind, **FAMILIES[kind], **more}).train()


def batch(seed=0):
    ids = torch.randint(40, (4, 16), generator=torch.Generator().manual_seed(seed))
    return Batch(ids, ids.roll(-1, 1), torch.arange(16).expand(4, 16), torch.ones_like(ids))


@pytest.mark.parametrize("kind", FAMILIES)
@torch.no_grad()
def test_the_bias_evens_the_load_without_a_loss(kind):
    """Routers that stay as they are, with a favourite: the largest load against the mean, of the last 60 steps."""
    worst = {}
    for rate in (None, 0.01):
        model = made(kind, num_hidden_layers=1, expert_bias_rate=rate)
        (layer,) = expert_layers(model).values()
        layer.gate.weight *= 10
        counts = torch.zeros(4)
        for step in range(200):
            x_ND = torch.randn(64, 16, generator=torch.Generator().manual_seed(step)) + 4 * layer.gate.weight[0]
            layer.routed(x_ND, True)
            move_biases(model)
            if step >= 140:
                counts += load(layer.routing)
        worst[rate] = float(counts.amax() / counts.mean())
    assert worst[0.01] < 1.1 < 1.2 < worst[None]


def test_a_step_moves_each_bias_by_the_sign_of_the_error_of_all_its_micro_batches():
    model = made("mixtral", expert_bias_rate=0.5)
    counts = {name: torch.zeros(4) for name in expert_layers(model)}
    for seed in (1, 2):
        causal_lm(model, batch(seed), PLAIN)
        for name, layer in expert_layers(model).items():
            counts[name] += torch.bincount(layer.routing.experts_NK.flatten(), minlength=4)
    model.eval()
    causal_lm(model, batch(3), PLAIN)  # an evaluation does not count
    move_biases(model)
    for name, layer in expert_layers(model).items():
        assert torch.equal(layer.expert_bias, 0.5 * (counts[name].mean() - counts[name]).sign())
    before = [layer.expert_bias.clone() for layer in expert_layers(model).values()]
    move_biases(model)
    assert all(map(torch.equal, before, [layer.expert_bias for layer in expert_layers(model).values()]))


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_bias_is_saved_where_there_is_one_and_read_back(kind, tmp_path):
    plain, biased = made(kind).eval(), made(kind, expert_bias_rate=0.01).eval()
    assert not any("expert_bias" in name for name, _ in plain.named_parameters())
    for layer in expert_layers(biased).values():
        layer.expert_bias.data.uniform_(-1, 1)
    for name, model in (("plain", plain), ("biased", biased)):
        save_model(model, None, tmp_path / name)
        again = load_model(tmp_path / name, torch.float32, torch.device("cpu"))
        assert again.config == model.config
        ids = batch().ids_BT
        assert torch.equal(again(ids), model(ids))
        if kind != "composed":  # transformers reads both; it knows nothing of the bias
            values = json.loads((tmp_path / name / "config.json").read_text())
            assert ("expert_bias_rate" in values) == (name == "biased")
            theirs = AutoModelForCausalLM.from_pretrained(tmp_path / name)
            torch.testing.assert_close(theirs(ids).logits, plain.logits(plain(ids)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("K", "factor"), [(1, 1.0), (2, 0.5), (3, 1.25), (2, 4.0)])
def test_an_expert_takes_what_it_has_room_for_first_choices_first(K, factor):
    torch.manual_seed(K)
    N, E = 50, 5
    routing = route(torch.randn(N, E) + torch.tensor([2.0, 0, 0, 0, 0]), K, True)
    capacity = math.ceil(factor * N * K / E)
    free, expected = [capacity] * E, torch.zeros(N, K, dtype=torch.bool)
    for k in range(K):
        for n in range(N):
            e = int(routing.experts_NK[n, k])
            expected[n, k] = free[e] > 0
            free[e] -= 1
    assert torch.equal(within_capacity(routing, factor), expected)
    assert expected.all() == (factor == 4.0)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_full_expert_drops_tokens_in_training_only(kind):
    model, free = made(kind, capacity_factor=0.5), made(kind)
    _, _, metrics = causal_lm(model, batch(), PLAIN)
    assert metrics["dropped"] > 0.2
    for layer in expert_layers(model).values():
        routing: Routing = layer.routing
        E, most = routing.logits_NE.shape[1], math.ceil(0.5 * routing.experts_NK.numel() / 4)
        assert (torch.bincount(routing.experts_NK[routing.kept_NK], minlength=E) <= most).all()
    layer = next(iter(expert_layers(model).values()))
    x_ND = torch.randn(64, 16)
    y_ND = layer.routed(x_ND, True)
    lost = ~layer.routing.kept_NK.any(1)
    assert lost.any()
    assert (y_ND[lost] == 0).all()
    assert (y_ND[~lost] != 0).any(1).all()
    assert torch.equal(model.eval()(batch().ids_BT), free.eval()(batch().ids_BT))


@pytest.fixture
def words(tmp_path):
    """What `cutaway pretrain` is told, but for `out`."""
    (tmp_path / "text.txt").write_text("the red fox and the old dog went to the sea\n" * 40)
    shape = {"model_type": "mixtral", **FAMILIES["mixtral"], "expert_bias_rate": 0.01, "capacity_factor": 1.0}
    return [
        *(f"model.{name}={value}" for name, value in shape.items() if name != "vocab_size"),
        f"data.path={tmp_path / 'text.txt'}",
        f"data.cache={tmp_path / 'cache'}",
        "data.seq_len=16",
        "data.rows=4",
        "train_tokenizer.vocab_size=280",
        "loss.balance=0",
        "loop.steps=12",
        "loop.log_every=1",
        "loop.tensorboard=false",
        "loop.precision=float32",
        "loop.compile=off",
    ]


def test_the_recipe_takes_both_as_configuration_values(words, tmp_path):
    CliRunner().invoke(app, ["pretrain", *words, f"out={tmp_path / 'run'}"], catch_exceptions=False)
    model = load_model(tmp_path / "run" / "model", torch.float32, torch.device("cpu"))
    for layer in expert_layers(model).values():
        assert layer.expert_bias.abs().max() > 0.015  # it has moved, by whole steps
        steps = layer.expert_bias / 0.01
        torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    assert '"dropped"' in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_a_stopped_run_goes_on_with_its_biases(words, tmp_path, monkeypatch):
    configs = [load_config(PretrainConfig, None, [*words, f"out={tmp_path / name}"]) for name in ("whole", "stopped")]
    pretrain(configs[0])

    def stop(model):
        signal.raise_signal(signal.SIGINT)
        move_biases(model)

    monkeypatch.setattr(loop, "move_biases", stop)
    with pytest.raises(Interrupted):
        pretrain(configs[1])
    monkeypatch.setattr(loop, "move_biases", move_biases)
    pretrain(configs[1])
    whole, stopped = (load_file(config.out / "model" / "model.safetensors") for config in configs)
    assert any("expert_bias" in name for name in whole)
    assert all(torch.equal(tensor, stopped[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("name", ["expert_bias_rate", "capacity_factor"])
def test_a_value_that_cannot_be_is_named(name):
    with pytest.raises(ConfigError, match=f"{name}=0"):
        make_config(MixtralConfig, {**FAMILIES["mixtral"], name: 0})


def test_padding_changes_no_balance():
    """What padding holds, and how much of it there is, leaves the loss as it is."""
    model, ids = made("mixtral"), torch.randint(40, (2, 12))
    losses = []
    for filled in (0, 7):
        padded = torch.full((2, 12), filled)
        padded[:, :8] = ids[:, :8]
        real = torch.arange(12).expand(2, 12) < 8
        targets = padded.roll(-1, 1).where(real.roll(-1, 1) & real, -100)
        made_batch = Batch(padded, targets, torch.arange(12).expand(2, 12), real.long())
        losses.append(causal_lm(model, made_batch, LossConfig(balance=10.0))[0])
    short = Batch(ids[:, :8], ids[:, :8].roll(-1, 1), torch.arange(8).expand(2, 8), torch.ones(2, 8).long())
    short.targets_BT[:, -1] = -100
    for loss in losses:
        torch.testing.assert_close(loss, causal_lm(model, short, LossConfig(balance=10.0))[0])
