"""The shapes of training records."""

import pytest

from cutaway.core.errors import DataError
from cutaway.data.read import Record, find_files, read_records
from cutaway.data.shapes import Conversation, Document, shape


def u(text):
    return {"role": "user", "content": text}


def a(text):
    return {"role": "assistant", "content": text}


SHAPES = [
    ({"instruction": "Add.", "input": "1+1", "output": "2"}, [u("Add.\n\n1+1"), a("2")]),
    ({"instruction": "Hi", "input": "", "output": "Ho"}, [u("Hi"), a("Ho")]),
    ({"instruction": "Hi", "output": "Ho", "system": "S"}, [{"role": "system", "content": "S"}, u("Hi"), a("Ho")]),
    ({"messages": [u("q"), a("r")]}, [u("q"), a("r")]),
    (
        {"messages": [u([{"type": "text", "text": "q"}, {"type": "text", "text": " 二", "image": None}]), a([])]},
        [u("q 二"), a("")],
    ),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}]}, [u("q"), a("r")]),
    (
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}], "system": "S"},
        [{"role": "system", "content": "S"}, u("q"), a("r")],
    ),
    ({"prompt": "q", "completion": "r"}, [u("q"), a("r")]),
    ({"prompt": "q", "response": "r"}, [u("q"), a("r")]),
]


@pytest.mark.parametrize(("value", "messages"), SHAPES)
def test_conversations(value, messages):
    assert shape(Record(value, "f:1")) == Conversation(messages, "f:1")


def test_parts_are_joined_as_the_server_joins_them():
    from cutaway.serve.protocol import Message

    parts = u([{"type": "text", "text": "one "}, {"type": "text", "text": ""}, {"type": "text", "text": "two"}])
    found = shape(Record({"messages": [parts]}, "f:1"))
    assert found.messages == [{"role": "user", "content": Message.model_validate(parts).text}]


@pytest.mark.parametrize("value", ["a text", {"text": "a text", "id": 3}])
def test_documents(value):
    assert shape(Record(value, "f:1")) == Document("a text", "f:1")


BAD = [
    ({"question": "q", "answer": "r"}, r"f:7: no known shape: the keys are \['answer', 'question'\].*messages"),
    (3, "text or an object, not int"),
    ({"messages": "q"}, "list with at least one message"),
    ({"messages": []}, "list with at least one message"),
    ({"messages": ["q"]}, "needs role and content"),
    ({"messages": [{"role": "user", "content": 3}]}, "content=3: must be text"),
    ({"messages": [{"role": "user"}]}, "content: must be text"),
    (
        {"messages": [u([{"type": "text", "text": "q"}, {"type": "image_url"}])]},
        r"content\.1\.type='image_url': only text",
    ),
    ({"messages": [u([{"text": "q"}])]}, r"content\.0\.type: only text"),
    ({"messages": [u([{"type": "text", "text": 3}])]}, r"content\.0\.text=3: must be text"),
    ({"messages": [u(["q"])]}, r"content\.0='q': must be \{"),
    ({"conversations": [{"from": "human", "value": [{"type": "text", "text": "q"}]}]}, "value=.*must be text"),
    ({"conversations": [{"from": "martian", "value": "q"}]}, "unknown speaker"),
    ({"instruction": "q", "output": None}, "output: must be text"),
    ({"text": 5}, "text=5: must be text"),
]


@pytest.mark.parametrize(("value", "message"), BAD)
def test_bad_records_are_located(value, message):
    with pytest.raises(DataError, match=message) as err:
        shape(Record(value, "f:7"))
    assert "f:7" in str(err.value)


@pytest.mark.parametrize("name", ["rasbt_instruction_preference", "llamafactory_demo"])
def test_real_files(data, name):
    seen = 0
    for file in find_files(data / name):
        if file.name in ("dataset_info.json", "reason_tool_use_demo_50.jsonl") or file.name.startswith(
            "v1_"
        ):  # content in parts
            continue
        for record in read_records(file):
            if isinstance(record.value, dict) and {"instruction", "messages", "conversations"} & set(record.value):
                shape(record)
                seen += 1
    assert seen > 100
