"""What `cutaway doctor` examines: a model, and a few of the user's records taken the whole way that training takes them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from cutaway.data.batch import Batch
from cutaway.data.examples import Example, Skipped, tokenize
from cutaway.data.pack import collate
from cutaway.data.read import Record, find_files, read_records
from cutaway.data.shapes import Conversation, Document, shape
from cutaway.data.store import Store, open_store
from cutaway.data.stream import BatchStream
from cutaway.models.load import Loaded

RECORDS, DOCUMENT_CHARS = 24, 1_500  # enough to fail on, few enough to wait for
SEQ_LEN, PIECES = 64, 6

BUILT_IN = (
    {"text": "A tokeniser cuts a text into pieces that a model has numbers for.\n"},
    {"text": "naïve café — 你好，世界 👩‍👩‍👧‍👦 <|im_end|> ３.14\r\n\ttabs  and   spaces\n"},
    {"messages": [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello. What can I do?"}]},
    {
        "messages": [
            {"role": "system", "content": "You answer in one sentence."},
            {"role": "user", "content": "What does temperature do?"},
            {"role": "assistant", "content": "It flattens or sharpens the distribution of the next token."},
            {"role": "user", "content": "And at zero?"},
            {"role": "assistant", "content": "Then the likeliest token is always taken."},
        ]
    },
    {"instruction": "Translate to French.", "input": "a cat", "output": "un chat"},
    {"prompt": "Write <|im_end|> in a sentence.", "completion": "The token <|im_end|> ends a turn in ChatML."},
    {"instruction": "Name three primes.", "output": "2, 3 and 5."},
    {"text": "Water boils at a lower temperature on a mountain, since the air presses less. " * 4},
)
"""Records of every shape, with what trips tokenisers and templates."""


@dataclass(frozen=True)
class Subject:
    """A model with data to examine it on.

    Args:
        loaded: the model, in float32 so that differences are defects and not rounding.
        records: each as its document or conversation.
        examples: their tokens, uncut.
        store: the pieces that training would read.
        folder: room for files; removed afterwards.
    """

    loaded: Loaded
    records: list[Document | Conversation]
    examples: list[Example]
    store: Store
    folder: Path

    @property
    def pieces(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The first pieces, of different lengths where the data has such."""
        return [self.store.piece(i) for i in range(min(PIECES, len(self.store)))]

    @property
    def prompts(self) -> list[list[int]]:
        """Beginnings of examples, of different lengths, for generation."""
        longest = min(24, self.loaded.model.context // 2)
        return [one.ids[: max(longest - 5 * i, 1)].tolist() for i, one in enumerate(self.examples[:3])]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.loaded.model.embedding.weight.device

    def padded(self, pieces: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
        """One piece a row."""
        width = max(len(ids) for ids, _ in pieces) - 1
        return collate([[piece] for piece in pieces], width, self.loaded.tokenizer.pad_id or 0)

    def stream(self, seed: int = 0) -> BatchStream:
        """Packed batches of two rows, as training reads them."""
        pad = self.loaded.tokenizer.pad_id or 0
        return BatchStream(self.store, np.arange(len(self.store)), 2, SEQ_LEN, True, seed, pad)


@contextmanager
def open_subject(loaded: Loaded, data: Path | None = None) -> Iterator[Subject]:
    """Read a few records of `data` (or the built-in ones) and encode them in a temporary folder.

    Raises:
        DataError, NothingSupervisedError: the data cannot be read, or trains nothing.
    """
    if data is None:
        found = [Record(value, f"built-in record {number}") for number, value in enumerate(BUILT_IN, 1)]
    else:
        found = list(islice(read_records(find_files(data)), RECORDS))
    found = [Record(one.value[:DOCUMENT_CHARS], one.where) if isinstance(one.value, str) else one for one in found]
    seq_len = min(SEQ_LEN, loaded.model.context)
    with tempfile.TemporaryDirectory(prefix="cutaway-doctor-") as name:
        folder = Path(name)
        store = open_store(found, "doctor", loaded.tokenizer, seq_len, "window", folder)
        examples = list(tokenize(found, loaded.tokenizer, Skipped()))
        yield Subject(loaded, [shape(one) for one in found], examples, store, folder)
