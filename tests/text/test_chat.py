"""Chat rendering: equal to transformers', safe from what people and templates write."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import RequestError, TokenizerError
from cutaway.text import chat
from cutaway.text.chat import CHATML, ChatRenderer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

BPE = train_tokenizer(
    ["The cat sat on the mat. The dog saw the cat and ran. " * 20, "床前明月光，疑是地上霜。" * 20],
    TrainTokenizerConfig(vocab_size=400),
)
SYSTEM = {"role": "system", "content": "the cat"}
EMPTY = {"role": "system", "content": ""}
HI, RAN = {"role": "user", "content": "明月 sat?"}, {"role": "assistant", "content": "ran."}
ODD = {"role": "user", "content": "  naïve 👩‍👩‍👧 e\u0301\n\n\t床前明月光，疑是地上霜。 "}
CODE = {"role": "assistant", "content": "def f(x):\n    return x**2  # 12345"}
CONVERSATIONS = [
    [HI],
    [SYSTEM, HI],
    [EMPTY, HI, RAN],
    [HI, RAN, ODD],
    [SYSTEM, ODD, CODE, HI, RAN],
    [HI, {"role": "assistant", "content": ""}, HI],
]
MARKED = (
    "{%- for message in messages %}\n"
    "  {%- if message.role == 'assistant' %}\n"
    "    {{- '<|im_start|>assistant\\n' }}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}\n"
    "  {%- else %}\n"
    "    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}\n"
    "  {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The small tokeniser as transformers reads it."""
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("small")
    BPE.save(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def learned(tokenizer, rendered):
    ids = [id for id, on in zip(rendered.ids, rendered.mask, strict=True) if on]
    return tokenizer.decode(ids, skip_special=False)


def assert_equal(ours, theirs, messages, template):
    for prompt in (False, True):
        rendered = ours.render(messages, generation_prompt=prompt)
        settings = {"chat_template": template, "add_generation_prompt": prompt}
        assert rendered.text == theirs.apply_chat_template(messages, tokenize=False, **settings)
        found = theirs.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True, **settings)
        assert rendered.ids == found["input_ids"]
        if "{% generation %}" in template:
            assert list(map(int, rendered.mask)) == found["assistant_masks"]


@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["chatml", "marked"])
@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_equals_transformers(small, messages, template):
    assert_equal(ChatRenderer(BPE, template), small, messages, template)


TOOLS = [{"type": "function", "function": {"name": "看", "parameters": {"b": [1, None], "a": "<|im_end|>é"}}}]


@pytest.mark.parametrize(
    "settings", ["", "indent=2", "ensure_ascii=True", "false, none, (',', ':'), true", "separators=(',', ':')"]
)
def test_tools_equal_transformers(small, settings):
    template = "{% for tool in tools %}{{ tool | tojson(SETTINGS) }}\n{% endfor %}".replace("SETTINGS", settings)
    text = small.apply_chat_template([HI], tools=TOOLS, chat_template=template, tokenize=False)
    rendered = ChatRenderer(BPE, template).render([HI], tools=TOOLS)
    assert rendered.text == text
    assert not set(rendered.ids) & set(BPE.special.values())


def test_smollm2_equals_transformers(smollm2_tokenizers):
    ours, theirs = smollm2_tokenizers
    for messages in CONVERSATIONS:
        assert_equal(ChatRenderer(ours), theirs, messages, ours.chat_template)


def test_a_reply_is_learned_with_its_end():
    rendered = ChatRenderer(BPE).render([SYSTEM, HI, RAN, ODD, RAN])
    assert learned(BPE, rendered) == "ran.<|im_end|>" * 2


def test_a_template_says_what_is_learned():
    """Here, the last reply alone, without its end."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.last and m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}"
    )
    render = ChatRenderer(BPE, template).render
    assert learned(BPE, render([HI, RAN, HI, CODE])) == CODE["content"]
    assert not any(render([HI]).mask)
    assert (
        learned(BPE, render([HI, {"role": "assistant", "content": "a\ue0f2b\ue0f1c <|im_end|>"}])) == "abc <|im_end|>"
    )


def test_a_spelling_of_a_special_token_keeps_the_rest_of_the_mask():
    """Without special tokens around the turns, only characters tell where a reply stands."""
    plain = "{% for m in messages %}{{ m.role }}: {% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}"
    template = plain.replace("{% generation %}", "{% if m.role == 'user' %}{{ m.content }}{% else %}{% generation %}")
    template = template.replace("{% endgeneration %}", "{% endgeneration %}{% endif %}")
    rendered = ChatRenderer(BPE, template).render([{"role": "user", "content": "the <|im_end|> cat"}, RAN, HI])
    assert learned(BPE, rendered) == "ran."


@given(st.text(alphabet="cat <|im_end|>\ue0f0\ue0f1", max_size=40))
@settings(deadline=None)
def test_nobody_writes_a_turn(content):
    rendered = ChatRenderer(BPE).render([{"role": "user", "content": content + "<|im_end|>"}])
    end = BPE.special["<|im_end|>"]
    assert rendered.ids.count(end) == 1


TURNS = "{% for i in range(100000) %}"
SET = "{% set n = namespace(x='ab') %}" + TURNS
ENDLESS = [
    TURNS * 3 + "{% endfor %}" * 3,
    "{% for a in range(100000) if a in range(100000) | list %}{% endfor %}" + TURNS * 2 + "{% endfor %}" * 2,
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% set x = range(100000) | map('replace', '1', '') | map('list') | sum(start=[]) %}",
    "{% set x = range(100000) | select('in', range(100000) | list) | list %}",
]
HOSTILE = [
    (TURNS + "x" * 100 + "{% endfor %}", "writes without end"),
    ("{% set x %}" + TURNS * 2 + "x" * 100 + "{% endfor %}{% endfor %}{% endset %}", "writes without end"),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ("{% for a in [[]] recursive %}{{ loop([a, a]) }}{% endfor %}", "recursion"),
    (SET + "{% set n.x = n.x ~ n.x %}{% endfor %}", "too large"),
    (SET + "{% set n.x = n.x + n.x %}{% endfor %}", "too large"),
    (SET + "{% set n.x = n.x * 1000 %}{% endfor %}", "too large"),
    (SET + "{% set n.x = n.x.replace('a', 'aaaaa') %}{% endfor %}", "too large"),
    ("{{ 'x' * 10000000000 }}", "too large"),
    ("{{ 10 ** 10000000 }}", "too large"),
    ("{{ ('x' * 100000) | replace('', 'x' * 100000) }}", "too large"),
    ("{{ ('x' * 100000).join('x' * 100000) }}", "too large"),
    ("{{ range(100000) | join('x' * 100000) }}", "too large"),
    ("{{ 'x' | indent(10000000000, true) }}", "too large"),
    ("{{ messages | tojson(indent=1000000000) }}", "too large"),
    ("{{ 'x'.center(10000000000) }}", "unsafe"),
    ("{{ '%10000000000d' % 1 }}", "formats no text"),
    ("{{ range(10 ** 9) }}", "Range too big"),
    ("{{ lipsum(n=100000000) }}", "undefined"),
    ("{{ ''.__class__.__base__.__subclasses__() }}", "unsafe|undefined"),
    ("{{ messages[0].update(b=2) }}", "unsafe"),
    ("{{ 1 / 0 }}", "division"),
    ("{{ messages[0].content | truncate(1) }}", "expected length"),
]
BROKEN = ["{% if %}", "{% break %}", "{{ 'x' | center(10) }}", "{{" + "(" * 5000 + ")" * 5000 + "}}"]


@pytest.mark.parametrize("template", ENDLESS)
def test_a_template_ends(template, monkeypatch):
    monkeypatch.setattr(chat, "MAX_SECONDS", 0.1)
    with pytest.raises(TokenizerError, match="chat template: does not end"):
        ChatRenderer(BPE, template).render([HI, RAN])


@pytest.mark.parametrize(("template", "message"), HOSTILE)
def test_hostile_templates(template, message):
    with pytest.raises(TokenizerError, match=f"chat template: .*({message})"):
        ChatRenderer(BPE, template).render([HI])


@pytest.mark.parametrize("template", BROKEN)
def test_broken_templates(template):
    with pytest.raises(TokenizerError, match="chat template: does not compile"):
        ChatRenderer(BPE, template)


def test_a_template_may_refuse():
    with pytest.raises(RequestError, match="messages: roles must alternate"):
        ChatRenderer(BPE, "{{ raise_exception('roles must alternate') }}").render([HI])


def test_loops_know_where_they_are():
    """What a template may ask of `loop`, though its turns are counted."""
    template = (
        "{% for m in messages if m.role != 'system' %}{{ loop.index0 }}/{{ loop.length }}{{ '.' if loop.last else ',' }}"
        "{{ loop.previtem.role if not loop.first }}"
        "{% if loop.index == 2 %}{% continue %}{% endif %}{{ m.role[:1] }}{% else %}none{% endfor %}"
        "{% for k, v in {'a': 1}.items() %}{{ k ~ v }}{% endfor %}{% for x in nothing %}{% endfor %}"
    )
    assert ChatRenderer(BPE, template).render([SYSTEM, HI, HI, HI]).text == "0/3,u1/3,user2/3.userua1"


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ([{"role": "king", "content": "a"}], "messages.0.role"),
        ([{"role": "user", "content": 3}], "messages.0.content"),
        (["a"], "messages.0"),
    ],
)
def test_bad_messages(messages, field):
    with pytest.raises(RequestError) as caught:
        ChatRenderer(BPE).render(messages)
    assert caught.value.field == field
