"""Where embeddings begin: which tokens are found, what becomes of the rows, and files that are damaged."""

import struct

import numpy as np
import pytest
import torch

from cutaway.core.config import load_config, make_config
from cutaway.core.errors import CheckpointError, ConfigError, DataError
from cutaway.models.families import make_model
from cutaway.models.huggingface import save_model
from cutaway.models.initial_embeddings import EmbeddingsConfig, initialise_embeddings, match_words, read_vectors
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

TEXTS = ["the quick brown fox jumps over the lazy dog", "a dog and a fox"] * 9
WORDS = ("the", "fox", "dog", "quick", "zebra")


@pytest.fixture(scope="module", params=["bpe", "wordpiece"])
def tokenizer(request):
    return train_tokenizer(TEXTS, TrainTokenizerConfig(kind=request.param, vocab_size=320, min_frequency=1))


def model(tokenizer, D=12):
    torch.manual_seed(0)
    return make_model(
        {"vocab_size": tokenizer.vocab_size, "hidden_size": D, "num_attention_heads": 2, "num_key_value_heads": 2}
    )


def vectors(W=12):
    torch.manual_seed(1)
    return {word: torch.randn(W) * 5 + 3 for word in WORDS}


def write_text(path, found, header=True):
    lines = [f"{len(found)} {len(next(iter(found.values())))}"] if header else []
    lines += [f"{word} {' '.join(f'{x:.6f}' for x in vector.tolist())}" for word, vector in found.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_binary(path, found):
    data = f"{len(found)} {len(next(iter(found.values())))}\n".encode()
    for word, vector in found.items():
        data += word.encode() + b" " + struct.pack(f"{len(vector)}f", *vector.tolist()) + b"\n"
    path.write_bytes(data)
    return path


def test_files_give_what_was_written(tmp_path):
    found = vectors()
    for path in (write_text(tmp_path / "w.vec", found), write_text(tmp_path / "glove.txt", found, header=False)):
        again = dict(read_vectors(path))
        assert again.keys() == found.keys()
        torch.testing.assert_close(again["fox"], found["fox"], atol=1e-5, rtol=0)
    assert torch.equal(dict(read_vectors(write_binary(tmp_path / "w.bin", found)))["fox"], found["fox"])


@pytest.mark.parametrize("W", [12, 5, 20])
def test_words_that_are_tokens_are_found_and_scaled(tokenizer, tmp_path, W):
    made = model(tokenizer)
    before = made.embedding.weight.detach().clone()
    path = write_text(tmp_path / "w.vec", vectors(W))
    counts = initialise_embeddings(made, tokenizer, EmbeddingsConfig(init="vectors", path=str(path)))
    ids = list(match_words(tokenizer, vectors(W)))
    assert counts == {"tokens": tokenizer.vocab_size, "found": len(ids)}
    assert {tokenizer.token_text(id).strip() for id in ids} <= set(WORDS)
    assert len(ids) >= 3
    after = made.embedding.weight
    others = [id for id in range(tokenizer.vocab_size) if id not in ids]
    assert torch.equal(after[others], before[others])
    torch.testing.assert_close(after[ids].square().mean().sqrt(), before.std(), rtol=1e-3, atol=0)
    torch.testing.assert_close(after[ids].mean(0), torch.zeros(12), atol=1e-6, rtol=0)
    if W == 12:  # neighbours stay neighbours: distances are those of the vectors, up to one factor
        theirs = torch.stack(list(match_words(tokenizer, vectors(W)).values()))
        ratio = torch.pdist(after[ids]) / torch.pdist(theirs)
        ratio = ratio[torch.isfinite(ratio)]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=0)


@pytest.mark.parametrize("vector", [[1.0, 2.0, 6.0] * 4, [2.0] * 12, [1.0, -2.0, 3.0], [1.0, 2.0] * 10])
def test_a_single_row_that_is_found_is_no_zero(tokenizer, tmp_path, vector):
    made = model(tokenizer)
    path = write_text(tmp_path / "w.vec", {"fox": torch.tensor(vector)})
    assert initialise_embeddings(made, tokenizer, EmbeddingsConfig(init="vectors", path=str(path)))["found"] >= 1
    id = next(iter(match_words(tokenizer, {"fox": torch.tensor(vector)})))
    row = made.embedding.weight[id]
    torch.testing.assert_close(row.square().mean().sqrt(), made.embedding.weight.std(), rtol=0.05, atol=0)
    if len(vector) == 12:
        torch.testing.assert_close(row / row.norm(), torch.tensor(vector) / torch.tensor(vector).norm())


def test_rows_of_another_checkpoint(tokenizer, tmp_path):
    other = train_tokenizer([*TEXTS, "zebras zigzag"] * 2, TrainTokenizerConfig(vocab_size=310, min_frequency=1))
    save_model(model(other), other, tmp_path / "other")
    made = model(tokenizer)
    counts = initialise_embeddings(made, tokenizer, EmbeddingsConfig(init="checkpoint", path=str(tmp_path / "other")))
    assert 3 < counts["found"] <= counts["tokens"]


def test_scaled(tokenizer):
    made = model(tokenizer, 64)
    initialise_embeddings(made, tokenizer, EmbeddingsConfig(init="scaled"))
    assert float(made.embedding.weight.detach().std()) == pytest.approx(1 / 8, rel=0.05)


def test_pretraining_says_how_many_were_found_and_resumes(tmp_path):
    from cutaway.train.pretrain import PretrainConfig, pretrain

    (tmp_path / "t.txt").write_text("\n".join(TEXTS))
    path = write_text(tmp_path / "w.vec", vectors(16))
    settings = f"""out={tmp_path / "run"} data.path={tmp_path / "t.txt"} data.seq_len=16 data.rows=2 loop.steps=4
        loop.tensorboard=false
        model.hidden_size=16 model.num_attention_heads=2 model.num_key_value_heads=1 model.num_hidden_layers=1 loop.compile=off
        train_tokenizer.vocab_size=300 embeddings.init=vectors embeddings.path={path}"""
    report = pretrain(load_config(PretrainConfig, None, settings.split()))
    assert report["embeddings"]["found"] >= 3


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.vec", b"2 3\nfox 1 2 3\ndog 1 2\n", "line 3"),
        ("a.vec", b"1 2\nfox a b\n", "line 2"),
        ("a.vec", b"1 2\nfox nan 1\n", "finite"),
        ("a.bin", b"nonsense\n", "count and a width"),
        ("a.bin", b"2 4\nfox " + np.zeros(4, np.float32).tobytes() + b"\ndog \0\0", "ends within vector 2 of 2"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=says):
        list(read_vectors(tmp_path / name))


def test_what_is_refused(tokenizer, tmp_path):
    with pytest.raises(DataError, match="No such file"):
        list(read_vectors(tmp_path / "absent.vec"))
    with pytest.raises(ConfigError, match="path goes with"):
        make_config(EmbeddingsConfig, {"init": "vectors"})
    path = write_text(tmp_path / "w.vec", {"xyzzy": torch.ones(3), "plugh": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="none of the tokeniser's tokens"):
        initialise_embeddings(model(tokenizer), tokenizer, EmbeddingsConfig(init="vectors", path=str(path)))
