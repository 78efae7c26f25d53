"""What every model that writes text gives its callers, whether it reads a source or not: names for its parts, and logits.

Shapes: D model width, V vocabulary.
"""

from typing import Any, ClassVar

from torch import Tensor, nn

from cutaway.nn.cache import KVCache


class LanguageModel(nn.Module):
    """Base of `Decoder` and `EncoderDecoder`. The configuration has `vocab_size`, `context`, `width`, `kv_heads`, `kv_width` and
    `tie_word_embeddings`.

    A family says under which of the checkpoint's names its parts lie.
    """

    EMBEDDING: ClassVar[str]  # module paths; of the tokens that are written
    BLOCKS: ClassVar[str]
    FINAL_NORM: ClassVar[str]
    lm_head: Any

    def __init__(self, config: Any):
        super().__init__()
        self.config = config

    def make_head(self) -> nn.Module:
        """The output head, D to V."""
        return nn.Linear(self.config.width, self.config.vocab_size, bias=False)

    def tie(self) -> None:
        """Share the embedding with the output head, where the configuration says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.embedding.weight

    @property
    def embedding(self) -> nn.Embedding:
        """The embedding of the tokens that are written."""
        return self.get_submodule(self.EMBEDDING)  # type: ignore[return-value]

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers that write, in order."""
        return self.get_submodule(self.BLOCKS)  # type: ignore[return-value]

    @property
    def final_norm(self) -> nn.Module:
        """The norm between the last of these and the output head."""
        return self.get_submodule(self.FINAL_NORM)

    @property
    def context(self) -> int:
        """The most positions that the model was made for."""
        return self.config.context

    @property
    def output(self) -> nn.Module:
        """The last layer of the head, D to V."""
        return self.lm_head

    def to_output(self, h: Tensor) -> Tensor:
        """What the last layer reads: the hidden states as they are, unless a family says otherwise."""
        return h

    def logits(self, h: Tensor) -> Tensor:
        """The output head: … × D to … × V."""
        return self.output(self.to_output(h))

    def key_value_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache in the model's number format, for `batch` rows of up to `capacity` written positions."""
        c, weight = self.config, self.embedding.weight
        return KVCache(len(self.blocks), batch, c.kv_heads, c.kv_width, capacity, weight.dtype, weight.device)
