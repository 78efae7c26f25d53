import pytest
import torch

from cutaway.labs.lab34_foundation_models import PUBLISHED, mean_gain, share_in_blocks
from cutaway.labs.small_inputs import JUDGED, MASK, Seen, V, captioned, gaps, images, melodies, texts, translations
from cutaway.labs.small_tasks import KINDS
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.families import make_model

NAMES = torch.arange(V)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_learns_and_answers_through_one_interface(name):
    kind = KINDS[name]
    torch.manual_seed(0)
    model, batch = make_model(kind.shape).eval(), kind.draw(8, generator(), NAMES)
    loss, n, _ = kind.objective(model, batch)
    loss.backward()
    assert n >= 8
    assert any(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    with torch.no_grad():
        assert kind.right(model, batch).dtype == torch.bool


def test_texts_are_progressions():
    batch = texts(50, generator(), NAMES)
    step = (batch.ids_BT[:, 1] - batch.ids_BT[:, 0]) % V
    known = batch.targets_BT != IGNORED
    assert torch.equal(batch.targets_BT[known], ((batch.ids_BT + step[:, None]) % V)[known])
    hidden = gaps(50, generator(), NAMES)
    assert ((hidden.ids_BT == MASK).sum(1) == 1).all()
    assert torch.equal(hidden.ids_BT == MASK, hidden.targets_BT != IGNORED)


def test_new_names_rename_the_answers_alone():
    new = torch.randperm(V, generator=generator())
    for draw in (images, melodies):
        old, renamed = draw(20, generator(), NAMES), draw(20, generator(), new)
        assert isinstance(old, Seen)
        assert torch.equal(old.input_B, renamed.input_B)
        assert torch.equal(new[old.answer_BL], renamed.answer_BL)
    assert torch.equal(
        new[translations(5, generator(), NAMES).targets_BT], translations(5, generator(), new).targets_BT
    )


def test_digits_that_are_judged_are_not_learned_from():
    judged = {tuple(x.flatten().tolist()) for x in images(JUDGED, generator(), NAMES).input_B}
    learned = {tuple(x.flatten().tolist()) for x in images(2000, generator(), NAMES).input_B}
    assert not judged & learned
    assert captioned(4, generator(), NAMES).answer_BL.shape == (4, 3)


def test_shares_and_gains():
    assert share_in_blocks(PUBLISHED["GPT-2"]) == pytest.approx(85_054_464 / 124_439_808)
    assert mean_gain({"renamed_trained": [0.5, 0.7], "renamed_fresh": [0.3, 0.7]}) == pytest.approx(0.1)
