"""What an audit counts: a small set by hand, planted associations, real data."""

import json
import random

import pytest

from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, DataError
from cutaway.data.associations import Associations, Lexicon, own_lexicon, read_lexicon
from cutaway.data.audit import AuditConfig, audit, draw_lengths
from cutaway.data.read import Record, read_records

SIX = [
    "The old man and the sea lay still in the morning light.",
    {"text": "THE OLD MAN AND THE SEA  lay still in the morning light."},
    {
        "messages": [
            {"role": "user", "content": "Wo ist der Bahnhof, bitte?"},
            {"role": "assistant", "content": "Dort drüben."},
        ]
    },
    {"question": "他是医生吗？", "answer": "是的，他是一位很有名的医生。"},
    "",
    {"text": 3},
]


def report_on(values, *settings, **more):
    records = [Record(value, f"a:{i}") for i, value in enumerate(values, 1)]
    return audit(records, load_config(AuditConfig, None, settings), **more)


def test_a_small_set_by_hand():
    report = report_on(SIX, "over_long=12")
    assert report["records"] == 5
    assert report["kinds"] == {"document": 3, "conversation": 1, "other": 1}
    assert report["faults"] == {
        "over-long": {"count": 3, "first": "a:1"},
        "empty": {"count": 1, "first": "a:5"},
        "malformed": {"count": 1, "first": "a:6"},
    }
    assert report["languages"] == {"en": 2, "de": 1, "zh": 1}
    assert (report["duplicates"]["exact"], report["duplicates"]["near"]) == (1, 0)
    assert report["duplicates"]["clusters"][0]["others"][0]["where"] == "a:2"
    lengths = report["lengths"]
    assert (lengths["words"], lengths["least"], lengths["most"]) == (12 + 12 + 7 + 17, 0, 17)
    assert lengths["quantiles"]["0.5"] == 12
    assert [(bar["from"], bar["to"], bar["records"]) for bar in lengths["histogram"]] == [
        (0, 0, 1),
        (1, 1, 0),
        (2, 3, 0),
        (4, 7, 1),
        (8, 15, 2),
        (16, 31, 1),
    ]
    assert report["groups"] == {"male": {"mentions": 4, "sentences": 4}, "female": {"mentions": 0, "sentences": 0}}
    assert report["contamination"] is None
    json.dumps(report)


def test_evaluation_items_are_found():
    items = [
        Record({"question": "The old man and the sea lay still"}, "eval:1"),
        Record("Nothing of the kind", "eval:2"),
    ]
    found = report_on(SIX, against=items)["contamination"]
    assert (found["items"], found["too_short"], found["found"], found["records"]) == (2, 1, 1, 2)
    assert (found["hits"][0]["where"], found["hits"][0]["found"]) == ("eval:1", ("a:1", "a:2"))


def test_lists_are_cut_and_counts_are_not():
    values = [f"number {i // 2} of the things that stand twice" for i in range(20)]
    report = report_on(values, "listed=3", "duplicates.near=false")
    assert (report["duplicates"]["exact"], len(report["duplicates"]["clusters"])) == (10, 3)


def test_nothing_to_audit_says_what_is_wrong():
    with pytest.raises(DataError, match=r"a:1 text.*must be text"):
        report_on([{"text": 3}, {"text": 4}])
    with pytest.raises(DataError, match="no record"):
        report_on([])


def test_associations_by_hand():
    counts = Associations(Lexicon({"cats": ("cat", "猫"), "dogs": ("dog",)}, ("soft", "loud"), ("熊猫",)))
    counts.add("A soft cat. A Cat is SOFT, the cat! A loud dog? A dog.\nsoftly, dogged. 熊猫 is soft。 A thing.")
    report = counts.report(least=1)
    assert report["sentences"] == 7
    assert report["groups"] == {"cats": {"mentions": 3, "sentences": 2}, "dogs": {"mentions": 2, "sentences": 2}}
    by_word = {one["word"]: one["groups"] for one in report["associations"]}
    assert by_word["soft"]["cats"]["together"] == 2
    assert by_word["soft"]["cats"]["pmi"] == pytest.approx(1.2224, abs=1e-4)  # log2(2 · 7 / (2 · 3))
    assert (by_word["soft"]["dogs"]["together"], by_word["soft"]["dogs"]["pmi"]) == (0, None)
    assert by_word["loud"]["dogs"]["pmi"] == pytest.approx(1.8074, abs=1e-4)  # log2(1 · 7 / (2 · 1))
    assert counts.report(least=2)["associations"][0]["word"] == "soft"
    assert len(counts.report(least=2)["associations"]) == 1


def test_a_planted_bias_is_measured_and_its_absence_too():
    draw = random.Random(0)

    def sentences(share):
        for _ in range(2000):
            pronoun = draw.choice(["he", "she"])
            yield f"{pronoun} is a {'nurse' if draw.random() < (share if pronoun == 'she' else 0.5) else 'doctor'}."

    biased, fair = (Associations(own_lexicon()), Associations(own_lexicon()))
    biased.add(" ".join(sentences(0.8)))
    fair.add(" ".join(sentences(0.5)))
    lean = {one["word"]: one["groups"]["female"] for one in biased.report(5)["associations"]}
    assert lean["nurse"]["z"] > 10
    assert lean["doctor"]["z"] < -10
    assert lean["nurse"]["pmi"] == pytest.approx(0.3, abs=0.1)  # log2(0.4 / (0.5 · 0.65))
    assert all(abs(one["groups"]["female"]["z"]) < 3 for one in fair.report(5)["associations"])


def test_the_users_groups(tmp_path):
    (tmp_path / "groups.json").write_text(
        json.dumps({"groups": {"old": ["old", "elderly"], "young": ["young"]}, "words": ["wise"], "not": ["years old"]})
    )
    lexicon = read_lexicon(tmp_path / "groups.json")
    report = report_on(
        ["An old man is wise. He is ten years old. A young one is not wise."], "least=1", lexicon=lexicon
    )
    assert report["groups"] == {"old": {"mentions": 1, "sentences": 1}, "young": {"mentions": 1, "sentences": 1}}
    assert [one["word"] for one in report["associations"]] == ["wise"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "names no groups"),
        ('{"groups": {}}', "names no groups"),
        ('{"groups": {"old": []}}', "groups.old is not a list of words"),
        ('{"groups": {"old": "old"}}', "groups.old is not a list of words"),
        ('{"groups": {"old": ["a"]}, "word": ["b"]}', "unknown key word.*words"),
        ('{"groups": {"old": ["a"]}, "words": 3}', "words is not a list"),
        ('{"groups": {"old": ["a"], "young": ["A"]}}', "a is in two groups"),
        ("{", "not JSON"),
    ],
)
def test_wrong_groups_are_named(tmp_path, content, says):
    (tmp_path / "groups.json").write_text(content)
    with pytest.raises(DataError, match=says):
        read_lexicon(tmp_path / "groups.json")


@pytest.mark.parametrize("given", ["over_long=0", "listed=0", "least=0", "duplicates.near=maybe", "contamination.n=0"])
def test_wrong_settings_are_named(given):
    with pytest.raises(ConfigError, match=given.partition("=")[0]):
        load_config(AuditConfig, None, [given])


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_plot_of_lengths(tmp_path, kind):
    draw_lengths(report_on(SIX)).savefig(tmp_path / f"a.{kind}")
    assert (tmp_path / f"a.{kind}").stat().st_size > 5000


def test_real_prose_and_verse(data):
    files = [data / "gutenberg_en" / "Pride-and-Prejudice_1342.txt"]
    report = audit(read_records(files), AuditConfig(by="paragraph"))
    assert max(report["languages"], key=report["languages"].get) == "en"
    assert report["groups"]["female"]["mentions"] > report["groups"]["male"]["mentions"] > 1000
    lean = {one["word"]: one["groups"] for one in report["associations"]}
    assert lean["home"]["female"]["z"] > 2
    report = audit(read_records(data / "chinese_poetry" / "classics.txt"), AuditConfig(by="paragraph"))
    languages = report["languages"]
    sure = sum(languages.values()) - languages["und"]  # of a line or two
    assert sum(languages.get(code, 0) for code in ("zh", "wuu", "yue")) > 0.98 * sure > 0.7 * report["records"]
