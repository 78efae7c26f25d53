"""Every invariant holds on a sound model, and each can fail: something is broken on purpose and the check sees it."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cutaway.adapt import lora
from cutaway.cli.main import app
from cutaway.data import pack
from cutaway.data.examples import Example
from cutaway.data.stream import BatchStream
from cutaway.evaluate import data_invariants, serving_invariants, subject, training_invariants
from cutaway.evaluate.invariants import INVARIANTS, examine
from cutaway.evaluate.subject import open_subject
from cutaway.models.huggingface import save_model
from cutaway.nn.cache import KVCache
from cutaway.text.chat import ChatRenderer
from cutaway.text.detokenize import Detokenizer
from cutaway.text.tokenizer import Tokenizer


def failed(invariant, loaded):
    with open_subject(loaded) as one:
        return not invariant(one).holds


def test_all_hold_and_the_model_is_as_before(loaded):
    before = {name: (p.clone(), p.requires_grad) for name, p in loaded.model.named_parameters()}
    checks = list(examine(loaded))
    assert [check.name for check in checks if not check.holds] == []
    assert len({check.name for check in checks}) == len(INVARIANTS) == 12
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert (parameter.requires_grad, parameter.grad) == (before[name][1], None)


def test_the_mask_is_shown(loaded):
    with open_subject(loaded) as one:
        mask = data_invariants.supervision(one).numbers["mask"]
    assert [span["text"] for span in mask if span["learned"]] == ["Hello. What can I do?<|im_end|>"]


def test_micro_batches_fail_on_a_mean_of_means(loaded, monkeypatch):
    def mean_loss(model, batch):
        loss, n, metrics = training_objective(model, batch)
        return loss / n, 1, metrics

    training_objective = training_invariants.causal_lm
    monkeypatch.setattr(training_invariants, "causal_lm", mean_loss)
    assert failed(training_invariants.micro_batches, loaded)


def test_packing_fails_when_attention_crosses_documents(loaded, monkeypatch):
    monkeypatch.setattr("cutaway.train.objectives.document_mask", lambda segments: None)
    assert failed(training_invariants.packing, loaded)


def test_packing_fails_when_positions_run_on(loaded, monkeypatch):
    def run_on(rows, width, pad_id):
        batch = pack.collate(rows, width, pad_id)
        batch.positions_BT.copy_(torch.arange(width).expand_as(batch.positions_BT) * 3)
        return batch

    monkeypatch.setattr(training_invariants, "collate", run_on)
    assert failed(training_invariants.packing, loaded)


def test_resuming_fails_when_the_data_starts_over(loaded, monkeypatch):
    monkeypatch.setattr(BatchStream, "restore", lambda self, state: None)
    assert failed(training_invariants.resuming, loaded)


def test_resuming_fails_when_random_generators_are_not_put_back(loaded, monkeypatch):
    monkeypatch.setattr("cutaway.train.checkpoint.restore_random_state", lambda state: None)
    assert failed(training_invariants.resuming, loaded)


def test_merging_fails_when_the_scale_is_forgotten(loaded, monkeypatch):
    whole = lora.LoraLinear.merge

    def unscaled(self):
        scale, self.scale = self.scale, 1.0
        whole(self)
        self.scale = scale

    monkeypatch.setattr(lora.LoraLinear, "merge", unscaled)
    assert failed(training_invariants.merging, loaded)


def test_merging_fails_when_the_weights_are_not_restored(loaded, monkeypatch):
    def subtract(self):
        if self.merged:
            self.base.weight.data -= (self.lora_B @ self.lora_A).detach() * self.scale * 0.5
            self.merged = False

    monkeypatch.setattr(lora.LoraLinear, "unmerge", subtract)
    assert failed(training_invariants.merging, loaded)


def test_prompts_fail_when_serving_renders_otherwise(loaded, monkeypatch):
    class Other(ChatRenderer):
        def __init__(self, tokenizer):
            super().__init__(tokenizer, "{% for m in messages %}{{ m['content'] }}\n{% endfor %}")

    monkeypatch.setattr(data_invariants, "ChatRenderer", Other)
    assert failed(data_invariants.prompts, loaded)


def test_supervision_fails_on_a_batch_without_targets(loaded, monkeypatch):
    make = BatchStream._make

    def second_is_empty(self, rows):
        batch = make(self, rows)
        batch.targets_BT.fill_(-100) if self.batch == 2 else None
        return batch

    monkeypatch.setattr(BatchStream, "_make", second_is_empty)
    assert failed(data_invariants.supervision, loaded)


@pytest.mark.parametrize("change", ["double BOS", "no EOS"])
def test_ends_fail(loaded, monkeypatch, change):
    def broken(records, tokenizer, skipped):
        for one in tokenize(records, tokenizer, skipped):
            if change == "double BOS":
                yield Example(np.insert(one.ids, 0, tokenizer.bos_id), np.insert(one.learned, 0, False))
            else:
                yield Example(one.ids[:-1], one.learned[:-1])

    tokenize = subject.tokenize
    monkeypatch.setattr(subject, "tokenize", broken)
    assert failed(data_invariants.ends, loaded)


def test_added_tokens_fail_when_saving_forgets_roles(loaded, monkeypatch):
    save = Tokenizer.save

    def forgetful(self, folder):
        save(self, folder)
        values = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**values, "eos_token": "<s>"}))

    monkeypatch.setattr(Tokenizer, "save", forgetful)
    assert failed(data_invariants.added_tokens, loaded)


def test_padding_and_batch_size_fail_when_rows_touch_each_other(loaded, monkeypatch):
    forward = type(loaded.model).forward

    def leaking(self, ids_BT, **settings):
        h = forward(self, ids_BT, **settings)
        return h + 0.1 * h.mean(dim=(0, 1))

    monkeypatch.setattr(type(loaded.model), "forward", leaking)
    assert failed(serving_invariants.padding, loaded)
    assert failed(serving_invariants.batch_size, loaded)


def test_caching_fails_when_positions_are_wrong(loaded, monkeypatch):
    monkeypatch.setattr(KVCache, "positions", lambda self, T: torch.arange(T)[None].expand(len(self.lengths), T))
    assert failed(serving_invariants.caching, loaded)


def test_streaming_fails_when_characters_are_cut(loaded, monkeypatch):
    monkeypatch.setattr(Detokenizer, "push", lambda self, id: self._tokenizer.decode([id]))
    monkeypatch.setattr(Detokenizer, "flush", lambda self: "")
    assert failed(serving_invariants.streaming, loaded)


@pytest.mark.parametrize("broken", [False, True])
def test_the_command(loaded, tmp_path, monkeypatch, broken):
    save_model(loaded.model, loaded.tokenizer, tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text(
        '{"instruction": "Count.", "output": "1 2 3"}\n{"text": "the lazy dog jumps over the fox"}\n' * 12
    )
    if broken:
        monkeypatch.setattr(BatchStream, "restore", lambda self, state: None)
    args = ["doctor", str(tmp_path / "model"), "--data", str(tmp_path / "rows.jsonl")]
    result = CliRunner().invoke(app, [*args, "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    assert result.exit_code == int(broken)
    assert report["holds"] is not broken
    assert [check["name"] for check in report["checks"] if not check["holds"]] == (
        ["resumed equals uninterrupted"] if broken else []
    )
    if not broken:
        table = CliRunner().invoke(app, args, catch_exceptions=False)
        assert "packed equals" in table.stdout
