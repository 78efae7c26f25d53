import json
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

from cutaway.core.errors import Interrupted, NonFiniteLossError, ResourceError
from cutaway.core.seeds import seed_all
from cutaway.models.families import make_model
from cutaway.optim.adamw import OptimConfig
from cutaway.optim.schedule import ScheduleConfig
from cutaway.train.checkpoint import FullWeights
from cutaway.train.logs import read_lines
from cutaway.train.loop import LoopConfig, clear, train
from cutaway.train.objectives import causal_lm
from cutaway.train.throughput import compiled_blocks

OPTIM = OptimConfig(lr=3e-2, schedule=ScheduleConfig(warmup=0.1))


def settings(**fields):
    return LoopConfig(**{"steps": 8, "precision": "float32", "log_every": 1, "tensorboard": False, **fields})


def run(model, stream, out, evaluate=None, objective=causal_lm, optim=OPTIM, **fields):
    return train(model, stream, objective, FullWeights(model), out, settings(**fields), optim, evaluate)


def losses(out):
    return [line["loss"] for line in read_lines(out / "metrics.jsonl") if "loss" in line]


def dropout_model(tiny):
    """With dropout, so that resuming must put the random generators back too."""
    from cutaway.models.gpt2 import GPT2, GPT2Config

    seed_all(5)
    return GPT2(GPT2Config(vocab_size=31, n_positions=32, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.2))


def interrupt_after(step, number=signal.SIGINT):
    """An objective that asks the run to stop, as Ctrl-C does, while its `step`th call is computed."""
    calls = 0

    def objective(model, batch):
        nonlocal calls
        calls += 1
        if calls == step:
            signal.raise_signal(number)
        return causal_lm(model, batch)

    return objective


def test_golden_curve(tiny, stream, tmp_path):
    """The losses of a fixed tiny run; a change of the loop, the model or the optimiser shows here."""
    outcome = run(tiny(), stream(), tmp_path, steps=40, log_every=8, optim=OptimConfig(lr=1e-2))
    assert outcome.steps == 40
    assert outcome.tokens == 40 * 2 * 11
    assert losses(tmp_path) == pytest.approx(GOLDEN, abs=0.02)


GOLDEN = [2.957, 2.368, 1.836, 1.718, 1.586]


def test_writes_a_model_that_loads_and_cleans_up(tiny, stream, tmp_path):
    model = tiny()
    run(model, stream(), tmp_path, checkpoint_every=3)
    assert (tmp_path / "last").exists(), "what is done with the result may still fail"
    clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "model"]
    other = tiny(seed=9)
    FullWeights(other).read(tmp_path / "model")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert not model.training


def test_the_log_says_what_happened(tiny, stream, tmp_path):
    run(tiny(), stream(), tmp_path, evaluate=lambda: 1.0, eval_every=4, trace_gradients=True)
    lines = read_lines(tmp_path / "metrics.jsonl")
    trained = [line for line in lines if "loss" in line]
    assert [line["step"] for line in trained] == list(range(1, 9))
    assert set(trained[0]) == {
        *("step", "tokens", "loss", "supervised", "gradient_norm", "lr", "tokens_per_s", "share_of_peak"),
        "gradient_norms",
    }
    assert set(trained[0]["gradient_norms"]) == {"embedding", "block 00", "block 01", "rest"}
    assert [line["step"] for line in lines if "held_out_loss" in line] == [4, 8]


def test_tensorboard_files_hold_the_numbers(tiny, stream, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tiny(), stream(), tmp_path, steps=3, tensorboard=True, trace_gradients=True)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(losses(tmp_path))
    assert "gradient_norms/block 00" in board.Tags()["scalars"]


def test_resumed_equals_uninterrupted_bit_for_bit(tiny, stream, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    one = dropout_model(tiny)
    run(one, stream(), whole, micro_batches=2)
    for stop in (3, None):
        other = dropout_model(tiny)
        if stop:
            with pytest.raises(Interrupted, match="stopped after step 2 of 8") as caught:
                run(other, stream(), parts, objective=interrupt_after(stop), micro_batches=2)
            assert "the same command goes on" in str(caught.value)
            assert (parts / "last" / "model.safetensors").exists()
            seed_all(99)
        else:
            run(other, stream(), parts, micro_batches=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert losses(whole) == losses(parts)


def test_sigterm_saves_too_and_the_handlers_are_put_back(tiny, stream, tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped after step 4 of 8"):
        run(tiny(), stream(), tmp_path, objective=interrupt_after(4, signal.SIGTERM))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert (tmp_path / "last").exists()


def test_a_checkpoint_holds_the_optimiser_without_pickle(tiny, stream, tmp_path):
    with pytest.raises(Interrupted):
        run(tiny(), stream(), tmp_path, objective=interrupt_after(1))
    training = tmp_path / "last" / "training"
    moments = load_file(training / "optimizer.safetensors")
    assert "model.norm.weight:exp_avg" in moments
    state = json.loads((training / "state.json").read_text())
    assert (state["standing"]["step"], state["data"]) == (1, {"count": 1})
    assert sorted(path.suffix for path in (tmp_path / "last").rglob("*") if path.is_file()) == [
        *(".json", ".json", ".safetensors", ".safetensors")
    ]


def test_a_loss_that_is_not_finite_leaves_weights_and_checkpoint(tiny, stream, tmp_path):
    def poisoned(model, batch):
        loss, n, metrics = causal_lm(model, batch)
        return (loss * float("nan") if calls.append(1) or len(calls) == 6 else loss), n, metrics

    calls, model = [], tiny()
    with pytest.raises(NonFiniteLossError, match="nan at step 6"):
        run(model, stream(), tmp_path, objective=poisoned, checkpoint_every=5)
    saved = load_file(tmp_path / "last" / "model.safetensors")
    assert all(torch.equal(saved[name], weight) for name, weight in model.named_parameters())
    assert run(tiny(), stream(), tmp_path).steps == 8


def test_early_stopping_gives_the_best_weights(tiny, stream, tmp_path):
    model, seen = tiny(), []
    values = iter([3.0, 2.0, 2.5, 2.6, 1.0])

    def evaluate():
        seen.append([p.detach().clone() for p in model.parameters()])
        return next(values)

    outcome = run(model, stream(), tmp_path, evaluate=evaluate, steps=20, eval_every=2, patience=2)
    assert (outcome.steps, outcome.best, outcome.best_step) == (8, 2.0, 4)
    assert all(torch.equal(a, b) for a, b in zip(seen[1], model.parameters(), strict=True))
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(saved[name], weight) for name, weight in model.named_parameters())


def test_a_loss_that_is_no_number_is_never_the_best_for_long(tiny, stream, tmp_path):
    values = iter([float("nan"), 3.0, float("nan"), 2.0, 2.5])
    outcome = run(tiny(), stream(), tmp_path, evaluate=lambda: next(values), steps=10, eval_every=2)
    assert (outcome.best, outcome.best_step) == (2.0, 8)
    never = run(tiny(), stream(), tmp_path / "never", evaluate=lambda: float("nan"), steps=9, eval_every=1, patience=3)
    assert (never.steps, never.best_step) == (4, 1)


def test_a_full_disk_leaves_the_checkpoint_before(tiny, stream, tmp_path, monkeypatch):
    from cutaway.train import checkpoint

    count = 0

    def full_at_second(*args, **kwargs):
        nonlocal count
        count += 1
        if count == 2:
            raise OSError(28, "No space left on device")
        return save_file(*args, **kwargs)

    save_file = checkpoint.save_file
    monkeypatch.setattr(checkpoint, "save_file", full_at_second)
    with pytest.raises(ResourceError, match="disk is full"):
        run(tiny(), stream(), tmp_path, checkpoint_every=3)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert json.loads((tmp_path / "last" / "training" / "state.json").read_text())["standing"]["step"] == 3
    assert run(tiny(), stream(), tmp_path).steps == 8


def test_a_damaged_checkpoint_is_named(tiny, stream, tmp_path):
    from cutaway.core.errors import CheckpointError

    with pytest.raises(Interrupted):
        run(tiny(), stream(), tmp_path, objective=interrupt_after(1))
    (tmp_path / "last" / "training" / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"cannot be resumed.*remove it to start anew"):
        run(tiny(), stream(), tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda moments: moments.pop("model.norm.weight:exp_avg"), "lacks model.norm.weight:exp_avg"),
        (
            lambda moments: moments.update({"x.weight:exp_avg": moments["model.norm.weight:exp_avg"].clone()}),
            "do not train here: x.weight",
        ),
    ],
)
def test_moments_that_do_not_belong_are_named(change, says, tiny, stream, tmp_path):
    from cutaway.core.errors import CheckpointError

    with pytest.raises(Interrupted):
        run(tiny(), stream(), tmp_path, objective=interrupt_after(1))
    file = tmp_path / "last" / "training" / "optimizer.safetensors"
    moments = load_file(file)
    change(moments)
    save_file(moments, file)
    with pytest.raises(CheckpointError, match=says):
        run(tiny(), stream(), tmp_path)


def test_bfloat16_autocast_keeps_float32_weights_and_learns_alike(tiny, stream, tmp_path):
    curves = {}
    for precision in ("float32", "bfloat16"):
        model = tiny()
        run(model, stream(), tmp_path / precision, steps=20, precision=precision, optim=OptimConfig(lr=5e-3))
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        curves[precision] = losses(tmp_path / precision)
    assert curves["bfloat16"] == pytest.approx(curves["float32"], rel=0.03)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_blocks_learn_alike_and_leave_no_trace(tiny, stream, tmp_path):
    curves = {}
    for compile in ("off", "on"):
        model = tiny()
        run(model, stream(), tmp_path / compile, steps=5, compile=compile)
        curves[compile] = losses(tmp_path / compile)
        assert all("forward" not in vars(block) for block in model.blocks)
    assert curves["on"] == pytest.approx(curves["off"], rel=1e-4)


def test_an_encoder_s_blocks_are_compiled_as_well():
    shape = {"d_model": 8, "d_ff": 8, "num_layers": 2, "num_heads": 2, "d_kv": 4, "vocab_size": 9}
    model = make_model({"model_type": "t5", **shape})
    with compiled_blocks(model, True):
        assert all("forward" in vars(block) for block in (*model.encoder_blocks, *model.blocks))
    assert not any("forward" in vars(module) for module in model.modules())


def test_the_step_rate_follows_the_schedule(tiny, stream, tmp_path):
    run(tiny(), stream(), tmp_path, steps=4, optim=OptimConfig(lr=1e-3, schedule={"kind": "linear", "warmup": 0}))
    rates = [line["lr"] for line in read_lines(tmp_path / "metrics.jsonl")]
    assert rates == pytest.approx([1e-3, 0.775e-3, 0.55e-3, 0.325e-3])
