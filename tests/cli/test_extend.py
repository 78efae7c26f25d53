"""`--extend`: a model runs past its training length, as transformers runs what `cutaway convert` wrote."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.errors import ConfigError, ContextLengthError
from cutaway.models.load import load

CONTEXT = 64


@pytest.fixture(scope="module")
def folder(tiny_chat, tmp_path_factory):
    from cutaway.models.huggingface import save_model

    small, path = tiny_chat(CONTEXT), tmp_path_factory.mktemp("extend") / "small"
    with torch.no_grad():
        for projection in small.model.parameters():
            projection *= 10 if projection.dim() == 2 else 1  # or scores are so small that positions hardly count
    save_model(small.model, small.tokenizer, path)
    return str(path)


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("extend", ["ntk=4", "sinks=4,window=20"])
def test_a_prompt_beyond_the_context_is_refused_or_read(extend, folder):
    words = ["generate", folder, "word " * 30, "--json", "max_tokens=70", "sampling.temperature=0"]
    with pytest.raises(ContextLengthError, match=f"the context holds {CONTEXT}"):
        run(*words)
    assert json.loads(run(*words, "--extend", extend))["prompt_tokens"] == 150


def test_perplexity_looks_at_longer_windows(folder, tmp_path):
    (tmp_path / "text.txt").write_text("one two three four five six seven eight nine ten " * 20)
    words = ["evaluate", folder, str(tmp_path / "text.txt"), "--json", "window=256", "stride=256"]
    plain, extended = json.loads(run(*words)), json.loads(run(*words, "--extend", "yarn=4"))
    assert plain["tokens"] == extended["tokens"]
    assert plain["loss"] != extended["loss"]


@pytest.mark.parametrize("extend", ["linear=4", "ntk=4", "yarn=4", "llama3=4"])
@torch.inference_mode()
def test_what_is_written_is_read_by_transformers(extend, folder, tmp_path):
    run("convert", folder, str(tmp_path / "longer"), "--extend", extend)
    ours, theirs = (
        load(tmp_path / "longer", dtype="float32").model,
        AutoModelForCausalLM.from_pretrained(tmp_path / "longer"),
    )
    ids = torch.randint(ours.config.vocab_size, (1, 3 * CONTEXT), generator=torch.Generator().manual_seed(0))
    expected = theirs.float().eval()(ids).logits
    torch.testing.assert_close(ours.logits(ours(ids)), expected, atol=1e-3, rtol=0)
    plain = load(folder, dtype="float32").model
    assert not torch.allclose(plain.logits(plain(ids)), expected, atol=0.1)


def test_sinks_are_read_back(folder, tmp_path):
    run("convert", folder, str(tmp_path / "longer"), "--extend", "sinks=4,window=20,sinks=2")
    again = load(tmp_path / "longer").model
    assert (again.context, again.window, again.sinks) == (4 * CONTEXT, 20, 2)
    with pytest.raises(ConfigError, match=r"extend\.window=65"):
        load(folder, extend="sinks=4,sinks=0,window=65")
