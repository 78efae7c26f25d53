"""Training tokens per second: our loop with its defaults beside transformers' Trainer with its own, on the same model and data.

A Llama shape of 16M parameters, vocabulary 8,192, context 512, on the CPU. Ours trains with bfloat16 autocast where the processor
has it, compiled blocks and the fused loss; the peer in float32. Both start from equal weights and read equal tokens. What is
timed is the loop from the start of its second step to the start of its last; compiling is done before.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from bench.harness import Row, compare
from cutaway.data.batch import Batch
from cutaway.models.llama import Llama, LlamaConfig
from cutaway.optim.adamw import OptimConfig
from cutaway.train.checkpoint import FullWeights
from cutaway.train.loop import LoopConfig, train
from cutaway.train.objectives import causal_lm

SHAPE: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
ROWS, LENGTH, STEPS = 4, 512, 6


def run(rounds: int = 5) -> list[Row]:
    torch.manual_seed(0)
    tokens = torch.randint(0, SHAPE["vocab_size"], (ROWS * STEPS, LENGTH))
    ours, peer = Llama(LlamaConfig(**SHAPE)), _peer_model()
    peer.load_state_dict(ours.state_dict())
    return [
        compare(
            "train, Llama 16M, 512 tokens",
            lambda: _ours(ours, tokens),
            lambda: _transformers(peer, tokens),
            "transformers Trainer, float32",
            "tokens/s",
            goal=1.6,
            rounds=rounds,
        )
    ]


class _Clock:
    """Notes when each step starts."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def note(self) -> None:
        self.starts.append(time.perf_counter())

    def tokens_per_s(self) -> float:
        first, last = self.starts[-STEPS + 1], self.starts[-1]
        return ROWS * LENGTH * (STEPS - 2) / (last - first)


class _Stream:
    """The tokens in order, as batches."""

    batches_per_epoch = STEPS

    def __init__(self, tokens: torch.Tensor, clock: _Clock):
        self.tokens, self.clock, self.at = tokens, clock, 0

    def __next__(self) -> Batch:
        self.clock.note()
        ids = self.tokens[self.at * ROWS : (self.at + 1) * ROWS]
        self.at += 1
        targets = torch.cat((ids[:, 1:], torch.full((ROWS, 1), -100)), dim=1)
        return Batch(ids, targets, torch.arange(LENGTH).expand(ROWS, LENGTH), torch.ones_like(ids))

    def __iter__(self) -> "_Stream":
        return self

    def state(self) -> dict[str, int]:
        return {"at": self.at}

    def restore(self, state: dict[str, int]) -> None:
        self.at = state["at"]


def _ours(model: Llama, tokens: torch.Tensor) -> float:
    clock = _Clock()
    stream: Any = _Stream(tokens, clock)
    loop = LoopConfig(steps=STEPS, compile="on", tensorboard=False)
    with tempfile.TemporaryDirectory() as folder:
        train(model, stream, causal_lm, FullWeights(model), Path(folder), loop, OptimConfig())
    return clock.tokens_per_s()


class _Rows(Dataset):
    def __init__(self, tokens: torch.Tensor):
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def _peer_model() -> Any:
    from transformers import LlamaConfig as PeerConfig
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM(PeerConfig(**SHAPE))


def _transformers(model: Any, tokens: torch.Tensor) -> float:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    clock = _Clock()

    class Note(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.note()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=ROWS,
            max_steps=STEPS,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        Trainer(model, arguments, train_dataset=_Rows(tokens), callbacks=[Note()]).train()
    return clock.tokens_per_s()
