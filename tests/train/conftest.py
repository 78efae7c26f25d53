"""A tiny model and a stream of batches of our own, so that the loop is tested apart from the readers."""

import pytest
import torch
from safetensors.torch import load_file

from cutaway.core.errors import Interrupted
from cutaway.data.batch import Batch
from cutaway.models.llama import Llama, LlamaConfig
from cutaway.train import loop


def random_rows(n, length, vocab, seed=0, supervised=1.0):
    """Rows of two packed documents and some padding; a repeating pattern, so that there is something to learn."""
    make = torch.Generator().manual_seed(seed)
    ids = (torch.randint(0, vocab, (n, 1), generator=make) + torch.arange(length + 1) * 3) % vocab
    targets = ids[:, 1:].clone()
    targets[torch.rand(targets.shape, generator=make) >= supervised] = -100
    positions, segments = torch.arange(length).repeat(n, 1), torch.ones(n, length, dtype=torch.int64)
    cut = length // 2
    positions[:, cut:] -= cut
    segments[:, cut:] = 2
    segments[:, -1], targets[:, -1], targets[:, cut - 1] = 0, -100, -100
    return Batch(ids[:, :-1].contiguous(), targets, positions, segments)


class Stream:
    """An endless iterator with the contract of `data.stream.BatchStream`."""

    def __init__(self, rows=2, length=12, vocab=31, poison=None):
        self.shape, self.poison, self.count = (rows, length, vocab), poison, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.count += 1
        batch = random_rows(*self.shape, seed=self.count)
        if self.count == self.poison:
            batch.targets_BT.fill_(-100)
        return batch

    def state(self):
        return {"count": self.count}

    def restore(self, state):
        self.count = state["count"]


def make_tiny(seed=0, **shape):
    torch.manual_seed(seed)
    fields = {
        "vocab_size": 31,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32,
    }
    return Llama(LlamaConfig(**{**fields, **shape}))


@pytest.fixture
def tiny():
    return make_tiny


@pytest.fixture
def rows():
    return random_rows


@pytest.fixture
def stream():
    return Stream


@pytest.fixture
def check_resumed(tmp_path, monkeypatch):
    """`check_resumed(run)`: `run(out)` stopped at its first checkpoint and started again gives, bit for bit, the weights of a run
    that nobody stopped."""

    def check(run):
        run(tmp_path / "whole")
        save = loop.save_checkpoint

        def stop(*args):
            save(*args)
            raise Interrupted("stopped")

        monkeypatch.setattr(loop, "save_checkpoint", stop)
        with pytest.raises(Interrupted):
            run(tmp_path / "cut")
        monkeypatch.setattr(loop, "save_checkpoint", save)
        run(tmp_path / "cut")
        whole, cut = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
        assert whole.keys() == cut.keys()
        assert all(torch.equal(whole[name], cut[name]) for name in whole)

    return check


@pytest.fixture
def encoder_settings():
    """What every small run from an encoder is told, on one machine or another the same."""

    def settings(path, start, out, *more):
        where = [f"data.path={path}", f"start={start}", f"out={out}", "data.rows=16", "optim.lr=3e-3"]
        return [*where, "loop.tensorboard=false", "loop.compile=off", "loop.precision=float32", *more]

    return settings
