from pathlib import Path

import pytest
from pydantic import Field

from cutaway.core.config import Config, as_override, load_config, save_config
from cutaway.core.errors import ConfigError


class Optim(Config):
    lr: float = Field(1e-3, gt=0)
    warmup: int = 10


class Run(Config):
    optim: Optim = Optim()
    out: Path
    names: tuple[str, ...] = ()
    second: Optim | None = None


def test_file_then_overrides(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("optim: {lr: 0.1, warmup: 3}\nout: a\n")
    run = load_config(Run, file, ["optim.lr=3e-4", "out=b", "names=[x, y]"])
    assert (run.optim.lr, run.optim.warmup, run.out, run.names) == (3e-4, 3, Path("b"), ("x", "y"))
    assert load_config(Run, None, ["out=@here: [e"]).out == Path("@here: [e")


def test_saved_configuration_reads_back_equal(tmp_path):
    run = load_config(Run, None, ["out=结果", "second.lr=2"])
    save_config(run, tmp_path / "config.yaml")
    assert load_config(Run, tmp_path / "config.yaml") == run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["out=a", "optim.learning_rate=1"], "optim.learning_rate: unknown key"),
        (["out=a", "optim.warmpu=1"], "did you mean warmup"),
        (["out=a", "second.warmpu=1"], "did you mean warmup"),
        (["out=a", "optim.lr=fast"], "optim.lr='fast'"),
        (["out=a", "optim.lr=-1"], "greater than 0"),
        (["out=a", "optim=3"], "optim"),
        (["out=a", "optim=3", "optim.lr=1"], "optim is a value"),
        (["out"], "key=value"),
        (["out=a", "optim.lr={hello"], "optim.lr='{hello'"),
        ([], "out: is required"),
        (["out=a", "optim.lr=0", "nme=1"], "2 problems"),
    ],
)
def test_mistakes_are_named(overrides, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        load_config(Run, None, overrides)


@pytest.mark.parametrize(("content", "message"), [("a: [", "YAML"), ("- 1", "mapping"), (b"\xff\xfe\x00", "YAML")])
def test_unreadable_files_are_named(tmp_path, content, message):
    file = tmp_path / "bad.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        load_config(Run, file)
    with pytest.raises(ConfigError, match="no such file"):
        load_config(Run, tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "text", ["runs/a", "2024", "1e5", "null", "yes", "2024-01-31", "2024-13-45", "a: b", "[a", "'a'", "", "数据 #1"]
)
def test_text_stays_text_in_an_override(text):
    class Named(Config):
        name: str

    assert load_config(Named, None, [as_override("name", text)]).name == text


def test_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Optim().lr = 3
