"""What a kind of model states once, for the tests and for the table: how both sides are made, run, saved and let write.

Each kind is a file of this folder with a `KIND`; `table.KINDS` lists them. Where the format is Hugging Face's, transformers draws
and saves the weights and we load its folder, so that every number below is one of a loaded checkpoint.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from cutaway.models.huggingface import load_model, save_model

CPU = torch.device("cpu")
Outputs = dict[str, Tensor]
Texts = list[list[int]]


@dataclass(frozen=True)
class Kind:
    """Models that are compared in the same way.

    Args:
        reference: who gives the numbers that ours are held against.
        cases: what is odd about a configuration, to the configuration; made so that a wrong reading shows.
        make: (configuration, folder) → (ours, theirs), with the same weights and in evaluation mode.
        inputs: theirs → what both are run on.
        ours, theirs: (model, inputs) → named outputs, real positions only.
        read: a folder that we saved → their model; None: the format is ours alone.
        write: (ours, theirs, inputs) → the tokens that each generates greedily, a list per row; None: nothing is written.
    """

    reference: str
    cases: Mapping[str, Any]
    make: Callable[[Any, Path], tuple[Any, Any]]
    inputs: Callable[[Any], Any]
    ours: Callable[[Any, Any], Outputs]
    theirs: Callable[[Any, Any], Outputs]
    read: Callable[[Path, Any], Any] | None = None
    write: Callable[[Any, Any, Any], tuple[Texts, Texts]] | None = None


@dataclass(frozen=True)
class Measured:
    """One configuration, compared.

    Args:
        family: the model type.
        differences: output → the largest absolute difference between ours and theirs, float32.
        sizes: output → the largest absolute value of theirs.
        saved: the largest difference between theirs and theirs again with the weights that we saved; None: they cannot read it.
        reloaded: whether what we saved comes back to us bit for bit.
        tokens: how many tokens they generated, and how many of them we generated too, at the same places; None: nothing is.
    """

    family: str
    differences: dict[str, float]
    sizes: dict[str, float]
    saved: float | None
    reloaded: bool
    tokens: tuple[int, int] | None
    seconds: float = field(default=0.0, compare=False)


@torch.no_grad()
def measure(kind: Kind, case: str, folder: Path) -> Measured:
    """Compare both sides on one case; `folder` is for the checkpoints."""
    torch.manual_seed(0)
    ours, theirs = kind.make(kind.cases[case], folder)
    inputs = kind.inputs(theirs)
    expected, found = kind.theirs(theirs, inputs), kind.ours(ours, inputs)
    assert found.keys() == expected.keys()
    save_model(ours, None, folder / "ours")
    again = load_model(folder / "ours", next(ours.parameters()).dtype, CPU)
    saved = None
    if kind.read is not None:
        back = kind.theirs(kind.read(folder / "ours", theirs), inputs)
        saved = max(gap(back[name], expected[name]) for name in expected)
    tokens = None
    if kind.write is not None:
        our_texts, their_texts = kind.write(ours, theirs, inputs)
        tokens = sum(map(len, their_texts)), sum(map(same_tokens, our_texts, their_texts))
    return Measured(
        family=ours.config.model_type,
        differences={name: gap(found[name], expected[name]) for name in expected},
        sizes={name: expected[name].abs().max().item() for name in expected},
        saved=saved,
        reloaded=again.config == ours.config and all(map(torch.equal, again.parameters(), ours.parameters())),
        tokens=tokens,
    )


def gap(found: Tensor, expected: Tensor) -> float:
    """The largest absolute difference; shapes must be the same."""
    assert found.shape == expected.shape, f"{tuple(found.shape)} against {tuple(expected.shape)}"
    return (found - expected).abs().max().item()


def same_tokens(found: list[int], expected: list[int]) -> int:
    """At how many places both say the same; a text that is longer than expected does not count as the same at its end."""
    return sum(a == b for a, b in zip(found, expected, strict=False)) - max(0, len(found) - len(expected))


def same_weights(
    configuration: tuple[str, Any], folder: Path, prepare: Callable[[Any], None] = lambda theirs: None
) -> tuple[Any, Any]:
    """Ours and transformers' with random weights, from (name of its class, its configuration)."""
    name, config = configuration
    theirs = getattr(transformers, name)(config).eval()
    prepare(theirs)
    randomise(theirs)
    theirs.save_pretrained(folder / "theirs")
    return load_model(folder / "theirs", torch.float32, CPU), theirs


def read_again(folder: Path, theirs: Any) -> Any:
    """Transformers' model of the same class, with the weights of a folder."""
    return type(theirs).from_pretrained(folder).eval()


def randomise(model: nn.Module) -> None:
    """Draw every weight, biases and norms too, so that none can be left out unnoticed."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=0.02, std=0.15)


def padded(lengths: list[int], low: int, high: int) -> tuple[Tensor, Tensor]:
    """Random ids from `low` to `high` - 1 with zeros on the right, and where they are real."""
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randint(low, high, real.shape) * real, real


def up_to_end(ids: list[int], end_id: int) -> list[int]:
    """The ids with the first end token, without what stands after it."""
    return ids[: ids.index(end_id) + 1] if end_id in ids else ids
