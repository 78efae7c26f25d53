"""Lab 33: its rows and the inputs of the joined system."""

import pytest
import torch

from cutaway.labs import lab33_native_multimodality as lab
from cutaway.labs.senses import WORDS, Writer, heard, spoken


@pytest.fixture(scope="module")
def writer():
    return Writer((*WORDS, "name", "next"))


def test_rows_hold_what_they_should(writer, monkeypatch):
    monkeypatch.setattr(lab, "PICTURES", 6)
    monkeypatch.setattr(lab, "SOUNDS", 8)
    monkeypatch.setattr(lab, "HELD_OUT", 4)
    train, held = lab.make_rows(writer, seed=0)
    assert {name: len(rows) for name, rows in train.items()} == {"picture": 12, "sound": 8, "word": 20, "few": 5}
    assert {len(rows) for rows in held.values()} == {4}
    said = [writer.tokenizer.decode(row.ids).split() for row in train["word"]]
    assert ["three", "name", "three"] in said
    assert ["nine", "next", "zero"] in said
    assert all("next" not in writer.tokenizer.decode(row.ids) for row in train["sound"])
    for row in train["picture"]:
        assert (row.ids == writer.ids["image"]).sum() == 4
        assert writer.tokenizer.decode(row.ids[row.learned]).strip() in WORDS


def test_states_stand_where_the_medium_stood(writer):
    rows = [writer.row(writer.sound(heard(spoken(3, lab.np.random.default_rng(0)))), answer=" three")] * 2
    model = lab.make(writer, lab.MEDIA)
    for row in lab.with_states(model, rows):
        medium = torch.tensor(row.ids == writer.ids["audio"])
        assert row.features_TF.shape == (len(row.ids), lab.WIDTH) == (len(row.ids), lab.STATES.sound_width)
        assert (row.features_TF[~medium] == 0).all()
        assert (row.features_TF[medium].norm(dim=1) > 0).all()
    assert lab.STATES.patch_width == lab.WIDTH
    assert lab.STATES.patches == lab.MEDIA.patches


def test_connecting_changes_the_connectors_alone(writer):
    decoder = lab.make(writer, lab.STATES)
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    row = writer.row(writer.text(" one"), writer.text(" name"), answer=" one")
    lab.connect(decoder, lab.stream([[lab.without_media(row)]], 0), 2)
    changed = {name for name, value in decoder.state_dict().items() if not torch.equal(value, before[name])}
    assert all(name.startswith("senses.") for name in changed)
