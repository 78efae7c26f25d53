"""The two models that come as packages, against transformers: SmolLM2 from its GGUF file, which it reads as the folder that we
save, and MiniLM as it is published."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM

from cutaway.decode.sampling import GREEDY
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.models.huggingface import load_model, save_model
from cutaway.models.load import load
from cutaway.models.packaged import packaged_path
from cutaway.nn.masks import padding_mask
from cutaway.text.load import load_tokenizer
from tests.parity import decoders, encoders
from tests.parity.sides import CPU, Kind, Outputs, Texts, up_to_end

TEXT = "The harbour was quiet, and the ship that had left in the morning was not back. 温度 is a number:  3.14\n\ndef f(a):"
PROMPTS = ("The ship left the harbour and", "def add(a, b):\n    return", "The capital of France is")
TOKENS = 24


def make_smollm2(name: str, folder: Path) -> tuple[Any, Any]:
    loaded = load(name, dtype="float32", device="cpu")
    save_model(loaded.model, loaded.tokenizer, folder / "saved")
    return loaded.model, AutoModelForCausalLM.from_pretrained(folder / "saved", dtype=torch.float32).eval()


def write(ours: Any, theirs: Any, ids: Any) -> tuple[Texts, Texts]:
    loaded = replace(load("smollm2-135m-instruct"), model=ours)
    end_id, prompts = loaded.tokenizer.eos_id, [loaded.tokenizer.encode(text) for text in PROMPTS]
    found = Engine(loaded, EngineConfig(max_batch=len(prompts), context=64)).generate(prompts, GREEDY, TOKENS)
    asked = dict(max_new_tokens=TOKENS, do_sample=False, eos_token_id=end_id)
    expected = []
    for prompt in prompts:
        row = torch.tensor([prompt])
        written = theirs.generate(row, attention_mask=torch.ones_like(row), **asked)[0, len(prompt) :]
        expected.append(up_to_end(written.tolist(), end_id))
    return [completion.ids for completion in found], expected


def make_minilm(name: str, folder: Path) -> tuple[Any, Any]:
    path = packaged_path(name)
    assert path is not None
    return load_model(path, torch.float32, CPU), AutoModel.from_pretrained(path).eval()


def sentences(theirs: Any) -> tuple[Any, Any]:
    """Ids of texts of different lengths, and where they are real."""
    tokenizer = load_tokenizer(packaged_path("minilm"))
    rows = [tokenizer.encode(text) for text in (TEXT, *PROMPTS)]
    real = torch.arange(max(map(len, rows))) < torch.tensor([[len(row)] for row in rows])
    ids = torch.zeros(real.shape, dtype=torch.int64)
    ids[real] = torch.tensor([id for row in rows for id in row])
    return ids, real


def ours_encodes(model: Any, given: tuple[Any, Any]) -> Outputs:
    ids, real = given
    return {"hidden states": model(ids, mask_BTS=padding_mask(real.sum(1), ids.shape[1]))[real]}


def theirs_encodes(model: Any, given: tuple[Any, Any]) -> Outputs:
    ids, real = given
    return {"hidden states": model(ids, attention_mask=real.long()).last_hidden_state[real]}


SMOLLM2 = replace(
    decoders.KIND,
    cases={"SmolLM2-135M-Instruct, real weights": "smollm2-135m-instruct"},
    make=make_smollm2,
    inputs=lambda theirs: torch.tensor([load("smollm2-135m-instruct").tokenizer.encode(TEXT)]),
    write=write,
)
MINILM = Kind(
    "transformers",
    {"all-MiniLM-L6-v2, real weights": "minilm"},
    make_minilm,
    sentences,
    ours_encodes,
    theirs_encodes,
    encoders.KIND.read,
)
