"""From files to streams: split, cached, shuffled, resumed."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError, DataError, NothingSupervisedError
from cutaway.data import store as store_module
from cutaway.data.corpus import DataConfig, open_corpus
from cutaway.text.tokenizer import Tokenizer


@pytest.fixture
def config(tmp_path):
    lines = [json.dumps({"text": f"document {i} " + "x" * (i % 7)}) for i in range(60)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))

    def make(**settings):
        base = {"path": tmp_path / "data.jsonl", "seq_len": 48, "rows": 3, "cache": tmp_path / "cache"}
        return make_config(DataConfig, {**base, "held_out_share": 0.2, **settings})

    return make


def take(stream, n):
    return [next(stream).ids_BT for _ in range(n)]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("packing", [True, False])
def test_an_epoch_holds_every_training_token_once(config, tokenizer, packing):
    stream = open_corpus(config(packing=packing), tokenizer, 0).train
    batches = [next(stream) for _ in range(stream.batches_per_epoch)]
    assert sum(batch.n_targets for batch in batches) == int(stream.store.lengths[stream.pieces].sum())
    assert stream.state()["epoch"] == 0
    next(stream)
    assert stream.state() == {"epoch": 1, "batch": 1, "seed": 0}


def test_epochs_differ_and_seeds_decide(config, tokenizer):
    def stream(seed):
        return open_corpus(config(), tokenizer, seed).train

    one = stream(0)
    n = one.batches_per_epoch
    first, second = take(one, n), take(one, n)
    assert same(first, take(stream(0), n))
    assert not same(first, take(stream(1), n))
    assert not same(first, second)


@pytest.mark.parametrize("at", [0, 1, 5, 7, 11])
def test_a_restored_stream_goes_on_exactly(config, tokenizer, at):
    whole = open_corpus(config(), tokenizer, 3).train
    take(whole, at)
    state = json.loads(json.dumps(whole.state()))
    again = open_corpus(config(), tokenizer, 3).train
    again.restore(state)
    assert same(take(whole, 9), take(again, 9))


def test_the_parts_share_nothing_and_stay_as_data_grows(config, tokenizer, tmp_path):
    def parts():
        corpus = open_corpus(config(packing=False), tokenizer, 0)
        pieces = [[tuple(s.store.piece(int(i))[0]) for i in s.pieces] for s in (corpus.train, corpus.held_out)]
        return set(pieces[0]), set(pieces[1])

    train, held = parts()
    assert train
    assert held
    assert not train & held
    with (tmp_path / "data.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"text": "one more"}))
    more_train, more_held = parts()
    assert train <= more_train
    assert held <= more_held


def test_evaluation_reads_once_and_leaves_the_stream_in_place(config, tokenizer):
    held = open_corpus(config(), tokenizer, 0).held_out
    before = held.state()
    assert same([b.ids_BT for b in held.once()], [b.ids_BT for b in held.once()])
    assert held.state() == before


def test_what_was_encoded_is_found_again(config, tokenizer, tmp_path, monkeypatch):
    first = open_corpus(config(), tokenizer, 0)

    def fail(*_):
        raise AssertionError("encoded twice")

    monkeypatch.setattr(store_module, "_encoded", fail)
    again = open_corpus(config(), tokenizer, 0)
    assert same(take(first.train, 5), take(again.train, 5))
    with pytest.raises(AssertionError, match="twice"):
        open_corpus(config(seq_len=40), tokenizer, 0)
    other = Tokenizer(tokenizer.backend, **{**tokenizer.tokens, "eos": None})
    with pytest.raises(AssertionError, match="twice"):
        open_corpus(config(), other, 0)
    (tmp_path / "data.jsonl").write_text('{"text": "changed"}')
    with pytest.raises(AssertionError, match="twice"):
        open_corpus(config(), tokenizer, 0)


def test_two_that_want_the_same_encoding_make_it_once(config, tokenizer, monkeypatch):
    encoded, begun, go_on = store_module._encoded, [], threading.Event()

    def slow(*given):
        begun.append(given)
        assert go_on.wait(20)
        yield from encoded(*given)

    monkeypatch.setattr(store_module, "_encoded", slow)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(open_corpus, config(), tokenizer, 0) for _ in range(2)]
        threading.Timer(0.3, go_on.set).start()
        one, other = (found.result(30) for found in both)
    assert same(take(one.train, 5), take(other.train, 5))
    assert len(begun) == 1


def test_an_encoding_that_was_cut_short_leaves_nothing(config, tokenizer, tmp_path, monkeypatch):
    def stop(*_):
        yield from ()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_encoded", stop)
        with pytest.raises(KeyboardInterrupt):
            open_corpus(config(), tokenizer, 0)
    assert list((tmp_path / "cache").iterdir()) == []
    assert open_corpus(config(), tokenizer, 0).train.batches_per_epoch


def test_data_of_its_own_to_evaluate_on(config, tokenizer, tmp_path):
    (tmp_path / "other.txt").write_text("held out")
    corpus = open_corpus(config(held_out=tmp_path / "other.txt"), tokenizer, 0)
    assert len(corpus.train.pieces) == 60
    assert sum(batch.n_targets for batch in corpus.held_out.once()) == len(tokenizer.encode("held out")) + 1


def test_bad_settings_are_named(config, tokenizer, tmp_path):
    for field, value in (
        ("seq_len", 1),
        ("rows", 0),
        ("held_out_share", 1.0),
        ("over_long", "squeeze"),
        ("shuffle", True),
    ):
        with pytest.raises(ConfigError, match=field):
            config(**{field: value})
    (tmp_path / "one.txt").write_text("one")
    with pytest.raises(ConfigError, match=r"data\.path: the data makes one piece only"):
        open_corpus(config(path=tmp_path / "one.txt"), tokenizer, 0)
    (tmp_path / "long.jsonl").write_text('{"text": " "}\n{"text": "short"}\n' + json.dumps({"text": "x y " * 99}))
    with pytest.raises(DataError, match=r"long\.jsonl:3: has \d+ tokens"):
        open_corpus(config(path=tmp_path / "long.jsonl", over_long="error"), tokenizer, 0)


def test_data_that_trains_nothing_is_an_error(config, tokenizer, tmp_path):
    rows = [{"messages": [{"role": "user", "content": "q"}]}] * 3
    (tmp_path / "q.json").write_text(json.dumps(rows))
    with pytest.raises(NothingSupervisedError, match=r"3 without a reply \(first: q.json\[0\]\)"):
        open_corpus(config(path=tmp_path / "q.json"), tokenizer, 0)


def test_tinyshakespeare(data, tokenizer, tmp_path):
    config = DataConfig(path=data / "tinyshakespeare" / "input.txt", seq_len=256, rows=4, cache=tmp_path)
    corpus = open_corpus(config, tokenizer, 0)
    batch = next(corpus.train)
    assert batch.ids_BT.shape == (4, 256)
    assert batch.n_targets > 900
