"""Sentence vectors: the mean of a BERT encoder's last hidden states, scaled to length one (Reimers & Gurevych 2019).

N texts, B texts of a batch, T tokens, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cutaway.core.progress import Progress
from cutaway.models.load import Loaded, load
from cutaway.models.packaged import SENTENCE_ENCODER
from cutaway.nn.masks import padding_mask
from cutaway.nn.pooling import mean_pool
from cutaway.text.framing import Framing

_BATCH_TOKENS = 8192


class Embedder:
    """Turns texts into vectors.

    Args:
        spec: a BERT model: a folder or a packaged name.
        max_tokens: longer texts are cut, as the model was trained (256 for MiniLM).
    """

    def __init__(self, spec: str = SENTENCE_ENCODER, max_tokens: int = 256):
        loaded: Loaded = load(spec, dtype="float32")
        self.name, self.model, self.tokenizer = loaded.name, loaded.model, loaded.tokenizer
        self.max_tokens = min(max_tokens, self.model.context)
        self._framing = Framing(self.tokenizer)

    @property
    def width(self) -> int:
        """D."""
        return self.model.config.hidden_size

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without the two that frame it."""
        return [len(ids) for ids in self.tokenizer.encode_batch(texts)]

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Tensor:
        """N × D vectors of length one, in the order of the texts. Texts of like length are computed together."""
        ids = [self._framing.frame(found, None, self.max_tokens)[0] for found in self.tokenizer.encode_batch(texts)]
        vectors_ND = torch.empty(len(ids), self.width)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        while order:
            rows = max(1, _BATCH_TOKENS // len(ids[order[-1]]))
            batch, order = order[-rows:], order[:-rows]
            vectors_ND[batch] = self._pool([ids[i] for i in batch])
            if progress:
                progress.advance(len(batch))
        return vectors_ND

    def _pool(self, rows: list[list[int]]) -> Tensor:
        lengths_B = torch.tensor([len(row) for row in rows])
        T = int(lengths_B.max())
        ids_BT = torch.tensor([row + [0] * (T - len(row)) for row in rows])
        mask = padding_mask(lengths_B, T)
        return mean_pool(self.model(ids_BT, mask_BTS=mask), mask[:, 0, 0])
