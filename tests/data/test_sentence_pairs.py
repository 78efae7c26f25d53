"""What pairs are made of, and that masks leave the frame alone."""

import json

import pytest
import torch

from cutaway.core.errors import DataError
from cutaway.data.corpus import DataConfig
from cutaway.data.masking import MaskingConfig
from cutaway.data.sentence_pairs import ELSEWHERE, FOLLOWS, SentencePairsConfig, open_sentence_pairs
from cutaway.loss.language_modelling import IGNORED
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

# Document d says its own word, and its sentence s the number word of s: every pair can be read back.
ORDER = ["one", "two", "three", "four", "five", "six"]
DOCUMENTS = [" ".join(f"{word} {number} here." for number in ORDER) for word in ("apple", "bread", "cheese", "dough")]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(DOCUMENTS, TrainTokenizerConfig(kind="wordpiece", vocab_size=300, min_frequency=1))


def batches(tmp_path, tokenizer, kind, negatives="other", n=40):
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in DOCUMENTS))
    data = DataConfig(path=tmp_path / "d.jsonl", rows=8, seq_len=32, held_out=tmp_path / "d.jsonl")
    masking = MaskingConfig(share=0.2)
    corpus = open_sentence_pairs(data, kind, SentencePairsConfig(negatives=negatives), masking, tokenizer, seed=3)
    return [next(corpus.train) for _ in range(n)]


def pairs(found, tokenizer):
    """(document, number) of both sentences, and the relation."""
    for batch in found:
        whole = torch.where(batch.targets_BT == IGNORED, batch.ids_BT, batch.targets_BT)
        for ids, types, real, relation in zip(whole, batch.types_BT, batch.real_BT, batch.relation_B, strict=True):
            sides = [tokenizer.decode(ids[real & (types == side)].tolist()).split() for side in (0, 1)]
            yield *((words[0], ORDER.index(words[1])) for words in sides), int(relation)


@pytest.mark.parametrize(("kind", "negatives"), [("nsp", "other"), ("nsp", "same"), ("sop", "other")])
def test_every_pair_is_what_it_says(tmp_path, tokenizer, kind, negatives):
    seen = list(pairs(batches(tmp_path, tokenizer, kind, negatives), tokenizer))
    for (document, a), (other, b), relation in seen:
        if relation == FOLLOWS:
            assert (other, b) == (document, a + 1)
        elif kind == "sop":
            assert (other, b) == (document, a - 1)
        elif negatives == "same":
            assert other == document
            assert b not in (a, a + 1)
        else:
            assert other != document
    assert sum(relation == ELSEWHERE for *_, relation in seen) / len(seen) == pytest.approx(0.5, abs=0.1)


def test_masks_leave_the_frame_alone_and_the_same_place_gives_the_same(tmp_path, tokenizer):
    first, second = (batches(tmp_path, tokenizer, "nsp", n=30) for _ in range(2))
    frame = {tokenizer.special[token] for token in ("[CLS]", "[SEP]", "[PAD]")}
    for one, other in zip(first, second, strict=True):
        hidden = one.targets_BT != IGNORED
        assert not frame & set(one.targets_BT[hidden].tolist())
        assert hidden.any(1).all()
        assert all(
            torch.equal(getattr(one, name), getattr(other, name)) for name in ("ids_BT", "targets_BT", "relation_B")
        )
    per_epoch = 4 * 5 // 8 + 1
    assert not torch.equal(first[0].relation_B, first[per_epoch].relation_B) or not torch.equal(
        first[0].ids_BT, first[per_epoch].ids_BT
    )


def test_too_few_documents(tmp_path, tokenizer):
    (tmp_path / "one.txt").write_text(DOCUMENTS[0])
    data = DataConfig(path=tmp_path / "one.txt")
    with pytest.raises(DataError, match="fewer than two documents"):
        open_sentence_pairs(data, "nsp", SentencePairsConfig(), MaskingConfig(), tokenizer, 0)


def test_nothing_to_evaluate_on(tmp_path, tokenizer):
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in DOCUMENTS))
    (tmp_path / "held.txt").write_text("one sentence")
    data = DataConfig(path=tmp_path / "all.jsonl", held_out=tmp_path / "held.txt")
    with pytest.raises(DataError, match=r"data\.held_out=.*held\.txt': holds no document with two sentences"):
        open_sentence_pairs(data, "nsp", SentencePairsConfig(), MaskingConfig(), tokenizer, 0)
