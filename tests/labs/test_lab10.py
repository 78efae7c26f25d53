"""Lab 10: what the arms begin with, and the measures where the answer is known."""

import math

import pytest
import torch

from cutaway.labs import lab10_embedding_initialisation as lab
from cutaway.labs.count_vectors import write_counts
from cutaway.labs.small_corpus import DECODER, word_tokenizer
from cutaway.labs.small_language import sentences
from cutaway.labs.word_places import analogy, chance, kinds_of, places
from cutaway.models.families import make_model
from cutaway.models.huggingface import save_model
from cutaway.models.initial_embeddings import read_vectors


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


@pytest.fixture(scope="module")
def arms(tokenizer, tmp_path_factory):
    """The model of every arm before training, and the ids of the words."""
    folder = tmp_path_factory.mktemp("elsewhere")
    drawn = sentences(200, seed=1)
    files = {"checkpoint": folder / "model", "vectors": folder / "counts.vec"}
    write_counts([one.text for one in drawn], files["vectors"])
    torch.manual_seed(9)
    save_model(make_model({**DECODER, "vocab_size": tokenizer.vocab_size}), tokenizer, files["checkpoint"])
    words_N = torch.tensor(sorted({tokenizer.encode(f" {word}")[0] for one in drawn for word in one.words}))
    return {arm: lab.begin(arm, tokenizer, files, words_N, seed=0) for arm in lab.ARMS}, words_N


def test_parts_are_apart_and_no_more_than_wanted():
    assert lab.parts("abcdefgh", 2) == ["ab", "cd", "ef"]
    assert lab.parts("abcd", 4) == ["abcd"]


def test_arms_differ_in_their_embedding_alone(arms):
    models, _ = arms
    scaled = dict(models["scaled"].named_parameters())
    for arm in lab.ARMS[1:]:
        differ = [name for name, weight in models[arm].named_parameters() if not torch.equal(weight, scaled[name])]
        assert len(differ) == 1, (arm, differ)
        assert scaled[differ[0]] is models["scaled"].embedding.weight


def test_the_control_has_the_same_rows_at_other_words(arms):
    models, words_N = arms
    checkpoint_ND, shuffled_ND = (models[arm].embedding.weight[words_N] for arm in ("checkpoint", "shuffled"))
    assert (checkpoint_ND != shuffled_ND).any(1).float().mean() > 0.9
    torch.testing.assert_close(checkpoint_ND.sort(0).values, shuffled_ND.sort(0).values, atol=0, rtol=0)


def test_rows_from_elsewhere_are_as_large_as_drawn_ones(arms):
    models, words_N = arms
    for arm in ("vectors", "checkpoint"):
        assert models[arm].embedding.weight[words_N].std().item() == pytest.approx(
            DECODER["initializer_range"], rel=0.1
        )
    assert models["scaled"].embedding.weight.std().item() == pytest.approx(DECODER["hidden_size"] ** -0.5, rel=0.05)
    assert models["unit"].embedding.weight.std().item() == pytest.approx(1.0, rel=0.05)


def test_counts_are_the_pointwise_mutual_information(tmp_path):
    write_counts(["a b", "a b", "a c", "d c"], tmp_path / "counts.vec")  # pairs: ab ab ac dc
    found = dict(read_vectors(tmp_path / "counts.vec"))
    assert set(found) == set("abcd")
    before_b, behind_a = found["b"][4:], found["a"][:4]
    assert before_b[0].item() == behind_a[1].item() == pytest.approx(math.log((2 / 4) / (3 / 4 * 2 / 4)), abs=1e-5)
    assert behind_a[2].item() == 0.0  # ac: rarer than by chance


def test_kinds_that_lie_apart_are_found_and_noise_is_chance(tokenizer):
    kinds = kinds_of(sentences(2_000, seed=0))
    assert len(kinds) == 48
    assert chance(kinds) == pytest.approx(5 / 47)
    torch.manual_seed(0)
    model = make_model({**DECODER, "vocab_size": tokenizer.vocab_size})
    assert abs(places(model, tokenizer, kinds, "before")["neighbours_before"] - chance(kinds)) < 0.2
    numbered = {kind: number for number, kind in enumerate(dict.fromkeys(kinds.values()))}
    with torch.no_grad():
        for word, kind in kinds.items():
            row = model.embedding.weight[tokenizer.encode(f" {word}")[0]].mul_(0.01)
            row[numbered[kind]] += 1.0
            row[20] += word.endswith("s")
    assert places(model, tokenizer, kinds, "after") == {"neighbours_after": 1.0, "analogies_after": 1.0}


def test_an_analogy_names_none_of_what_it_is_asked_with():
    rows_ND = torch.tensor([[1.0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1], [0.2, 0.9, 0]])
    assert analogy(rows_ND, 0, 1, 2) == 3
    assert analogy(rows_ND[:4], 0, 1, 3) == 2
