"""What is hidden, how often, and that a place in the stream always hides the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError
from cutaway.data.masking import MaskedStream, MaskingConfig, choose, hide, mask_id, word_starts
from cutaway.loss.language_modelling import IGNORED
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

TEXT = ["the unbelievable fox, and twenty-two foxes", "believe the unbelievable tales of foxes 🦊 你好世界"] * 20


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("unit", ["token", "word", "span"])
@pytest.mark.parametrize("share", [0.15, 0.4])
def test_the_share_is_met_and_only_candidates_are_chosen(unit, share):
    candidates = torch.rand(40, 400, generator=generator()) < 0.9
    starts = torch.rand(40, 400, generator=generator(1)) < 0.6
    chosen = choose(candidates, starts, MaskingConfig(unit=unit, share=share), generator(2))
    assert not (chosen & ~candidates).any()
    assert float(chosen.sum() / candidates.sum()) == pytest.approx(share, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(0, 10**6), st.sampled_from(["token", "word", "span"]))
def test_every_row_that_has_a_candidate_learns_something(T, seed, unit):
    candidates = torch.rand(3, T, generator=generator(seed)) < 0.5
    starts = torch.rand(3, T, generator=generator(seed + 1)) < 0.5
    chosen = choose(candidates, starts, MaskingConfig(unit=unit, share=0.05), generator(seed))
    assert chosen.any(1).tolist() == candidates.any(1).tolist()


def test_words_are_hidden_whole():
    starts = torch.tensor([[1, 0, 0, 1, 1, 0, 1, 0, 0, 0]], dtype=torch.bool)
    words = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3, 3])
    for seed in range(50):
        chosen = choose(torch.ones_like(starts), starts, MaskingConfig(unit="word", share=0.3), generator(seed))[0]
        for word in range(4):
            assert len(set(chosen[words == word].tolist())) == 1


def test_spans_run_on():
    everything = torch.ones(20, 500, dtype=torch.bool)
    chosen = choose(everything, everything, MaskingConfig(unit="span"), generator())
    runs = (chosen[:, 1:] & ~chosen[:, :-1]).sum() + chosen[:, 0].sum()
    assert 2.2 < float(chosen.sum() / runs) < 4.0
    alone = choose(everything, everything, MaskingConfig(unit="token"), generator())
    assert float(alone.sum() / ((alone[:, 1:] & ~alone[:, :-1]).sum() + alone[:, 0].sum())) < 1.4


def test_eighty_ten_ten():
    ids = torch.full((100, 1000), 5)
    chosen = torch.rand(ids.shape, generator=generator()) < 0.5
    seen, targets = hide(ids, chosen, 1, 1000, MaskingConfig(), generator(1))
    assert torch.equal(targets, torch.where(chosen, 5, IGNORED))
    assert (seen[~chosen] == 5).all()
    share = {id: float((seen[chosen] == id).float().mean()) for id in (1, 5)}
    assert share[1] == pytest.approx(0.8, abs=0.01)
    assert share[5] == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ConfigError, match="more than 1 together"):
        make_config(MaskingConfig, {"replaced": 0.8, "random": 0.3})


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_where_words_begin(kind):
    extra = ("<mask>",)
    tokenizer = train_tokenizer(TEXT, TrainTokenizerConfig(kind=kind, vocab_size=300, min_frequency=1, extra=extra))
    starts = word_starts(tokenizer)
    for text in (" unbelievable foxes", " believe the tales"):
        pieces = tokenizer.pieces(text)
        begun = "".join("|" * bool(starts[piece.id]) + piece.text for piece in pieces).replace("▁", " ").split("|")
        words = [word.strip().replace("##", "") for word in begun if word.strip()]
        assert words == text.split()
    assert mask_id(tokenizer) == tokenizer.special["[MASK]" if kind == "wordpiece" else "<mask>"]
    plain = train_tokenizer(TEXT, TrainTokenizerConfig(vocab_size=300))
    with pytest.raises(ConfigError, match="has no mask token"):
        mask_id(plain)


def test_a_place_in_the_stream_always_hides_the_same(tmp_path):
    from cutaway.data.corpus import DataConfig, open_corpus

    (tmp_path / "text.txt").write_text("\n\n".join(TEXT))
    tokenizer = train_tokenizer(TEXT, TrainTokenizerConfig(vocab_size=300, extra=("<mask>",)))
    data = DataConfig(path=tmp_path / "text.txt", seq_len=16, rows=2, cache=tmp_path / "cache")

    def stream():
        return MaskedStream(open_corpus(data, tokenizer, 3).train, tokenizer, MaskingConfig())

    first, second = stream(), stream()
    whole = [next(first) for _ in range(2 * first.batches_per_epoch + 1)]
    for _ in range(3):
        next(second)
    third = stream()
    third.restore(second.state())
    for batch, again in zip(whole[3:], third, strict=False):
        assert torch.equal(batch.ids_BT, again.ids_BT)
        assert torch.equal(batch.targets_BT, again.targets_BT)
    assert not torch.equal(whole[0].targets_BT, whole[first.batches_per_epoch].targets_BT)
    assert not any((batch.targets_BT == tokenizer.eos_id).any() for batch in whole)
    one, other = list(first.once()), list(first.once())
    assert all(torch.equal(a.targets_BT, b.targets_BT) for a, b in zip(one, other, strict=True))
