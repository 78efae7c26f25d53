"""Several processes that meet once and then run one recipe after another together; starting them takes longer than a run.

    with Ranks(2) as two:
        two.run("pretrain", ["out=…", …])

Run as a program, this file is one of them: a line of JSON on standard input holds the arguments of `run`, and is answered by a
line with null or the error. Beside a run lie the masks that dropout drew in it: `RUN-masks-RANK.json`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from cutaway.core.config import load_config
from cutaway.core.distributed import is_first, join, rank
from cutaway.core.errors import Interrupted
from cutaway.train import loop
from cutaway.train.classify import ClassifyConfig, classify
from cutaway.train.contrast import ContrastRunConfig, contrast
from cutaway.train.finetune import FinetuneConfig, finetune
from cutaway.train.omni import OmniRunConfig, train_omni
from cutaway.train.pretrain import PretrainConfig, pretrain
from cutaway.train.seq2seq import Seq2SeqConfig, train_seq2seq

RECIPES = {
    "pretrain": (PretrainConfig, pretrain),
    "finetune": (FinetuneConfig, finetune),
    "seq2seq": (Seq2SeqConfig, train_seq2seq),
    "omni": (OmniRunConfig, train_omni),
    "contrast": (ContrastRunConfig, contrast),
    "classify": (ClassifyConfig, classify),
}


def run(command: str, words: list[str], stop: int | None = None) -> None:
    """What a command does, in this process; stopped in step `stop` as if by Ctrl-C."""
    kind, recipe = RECIPES[command]
    config = load_config(kind, None, words)
    with _stopped_in(stop), _masks_noted() as masks:
        try:
            recipe(config)
        except Interrupted:
            assert stop is not None
    config.out.with_name(f"{config.out.name}-masks-{rank()}.json").write_text(json.dumps(masks))


@contextmanager
def _stopped_in(step: int | None) -> Iterator[None]:
    original, seen = loop.move_biases, 0

    def count(model):
        nonlocal seen
        seen += 1
        if seen == step and is_first():  # one is told, and all stop
            signal.raise_signal(signal.SIGINT)
        original(model)

    loop.move_biases = count
    try:
        yield
    finally:
        loop.move_biases = original


@contextmanager
def _masks_noted() -> Iterator[list[list[bool]]]:
    """Where each dropout in training left nothing; of every element, in the order in which they were drawn."""
    masks: list[list[bool]] = []

    def note(module, inputs, output):
        draws = isinstance(module, nn.Dropout) and module.training and module.p
        if draws and len(output) > 1:  # one row is the look at the memory before a run
            masks.append((output == 0).flatten().tolist())

    handle = register_module_forward_hook(note)
    try:
        yield masks
    finally:
        handle.remove()


class Ranks:
    """`n` processes."""

    def __init__(self, n: int):
        self.n, self.processes = n, self._start(n)

    def _start(self, n: int) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        together = {"WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        return [
            subprocess.Popen(
                [sys.executable, "-m", "tests.train.ranks"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **together, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                text=True,
            )
            for rank in range(n)
        ]

    def run(self, command: str, words: list[str], stop: int | None = None) -> None:
        """`run` in all of them. Those that have failed are started anew the next time."""
        if any(process.poll() is not None for process in self.processes):
            self._end()
            self.processes = self._start(self.n)
        for process in self.processes:
            print(json.dumps([command, words, stop]), file=process.stdin, flush=True)
        errors = [json.loads(process.stdout.readline() or '"it died"') for process in self.processes]
        assert not any(errors), "\n".join(filter(None, errors))

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *error) -> None:
        self._end()

    def _end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


def _answer() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    join()
    for line in sys.stdin:
        try:
            run(*json.loads(line))
            print("null", file=answers, flush=True)
        except Exception:  # this process ends, and with it the others
            print(json.dumps(traceback.format_exc()), file=answers, flush=True)
            raise


if __name__ == "__main__":
    _answer()
