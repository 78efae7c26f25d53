"""Adapters beside their model: each request gets its own, in whatever company, and nothing of another's cache."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import torch

from cutaway.adapt.lora import LoraConfig, adapted, add_lora, fold
from cutaway.adapt.peft_files import load_adapter, save_adapter
from cutaway.core.errors import ConfigError
from cutaway.decode.sampling import GREEDY
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.models.twin import twin_of
from cutaway.serve.adapters import load_adapters
from cutaway.serve.app import create_app
from cutaway.serve.config import ServeConfig

PROMPT = "A prompt of more than one block, the same for all."
NAMES = ("tiny", "red", "blue")


@pytest.fixture(scope="module")
def folders(loaded, tmp_path_factory):
    """Two adapters that say other things than the model; one changes the head too."""
    found = {}
    for seed, (name, targets) in enumerate({"red": "all-linear", "blue": ("q_proj", "v_proj", "lm_head")}.items()):
        model, config = twin_of(loaded.model), LoraConfig(rank=2, targets=targets)
        add_lora(model, config)
        generator = torch.Generator().manual_seed(seed)
        for _, layer in adapted(model):
            layer.lora_B.data.normal_(0, 0.3, generator=generator)
        found[name] = tmp_path_factory.mktemp("adapters") / name
        save_adapter(model, config, found[name])
    return found


@pytest.fixture(scope="module")
def alone(loaded, folders):
    """What each says alone: of models into which the adapters are merged."""
    texts = {}
    for name in NAMES:
        model = twin_of(loaded.model)
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        if name in folders:
            load_adapter(model, folders[name])
            fold(model)
        engine = Engine(dataclasses.replace(loaded, model=model), EngineConfig())
        [done] = engine.generate([loaded.tokenizer.encode(PROMPT)], GREEDY, 24)
        texts[name] = done.text
    assert len(set(texts.values())) == 3
    return texts


@pytest.fixture(scope="module")
def server(loaded, folders, serving):
    adapters = load_adapters(loaded, [f"{name}={folder}" for name, folder in folders.items()])
    with serving(create_app(ServeConfig(), loaded, adapters=adapters)) as running:
        yield running


def ask(client, name: str):
    return client.completions.create(model=name, prompt=PROMPT, max_tokens=24, temperature=0)


def test_each_name_is_a_model(client, alone):
    for name in (*NAMES, *reversed(NAMES)):
        reply = ask(client, name)
        assert reply.choices[0].text == alone[name], name
        assert reply.model == name


def test_in_one_crowd_each_has_its_own(client, alone):
    names = NAMES * 4
    with ThreadPoolExecutor(len(names)) as pool:
        texts = list(pool.map(lambda name: ask(client, name).choices[0].text, names))
    assert texts == [alone[name] for name in names]


def test_a_prompt_is_known_to_its_own_adapter_only(loaded, folders, serving):
    adapters = load_adapters(loaded, [f"{name}={folder}" for name, folder in folders.items()])
    with serving(create_app(ServeConfig(), loaded, adapters=adapters)) as running, running.client as client:
        first = [ask(client, name).usage.prompt_tokens_details.cached_tokens for name in NAMES]
        again = [ask(client, name).usage.prompt_tokens_details.cached_tokens for name in NAMES]
    assert first == [0, 0, 0]
    assert again == [48, 48, 48]


def test_they_are_listed(client):
    listed = {model.id: getattr(model, "parent", None) for model in client.models.list().data}
    assert listed == {"tiny": None, "red": "tiny", "blue": "tiny"}
    with pytest.raises(openai.NotFoundError):
        ask(client, "green")


def test_chat_and_inspection_know_them(client):
    messages = [{"role": "user", "content": "Hello"}]
    reply = client.chat.completions.create(
        model="red", messages=messages, max_tokens=3, temperature=0, logprobs=True, extra_body={"inspect": True}
    )
    kept = reply.model_extra["cutaway"]
    body = {"ids": kept["ids"], "position": kept["prompt_length"], "model": "red"}
    report = client.post("/inspect", body=body, cast_to=object)
    assert report["rank"] == 1
    assert report["token"]["text"] == reply.choices[0].logprobs.content[0].token
    other = client.post("/inspect", body={**body, "model": "tiny"}, cast_to=object)
    assert other["probability"] != report["probability"]


@pytest.mark.parametrize("named", [["x", "y"], ["{red}", "a={red}"], ["=x"], ["tiny={red}"], ["a={red}", "a={red}"]])
def test_names_that_cannot_be(loaded, folders, named):
    with pytest.raises(ConfigError, match="adapter"):
        load_adapters(loaded, [one.format(**folders) for one in named])
