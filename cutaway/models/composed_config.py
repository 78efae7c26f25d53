"""The choices that a `composed` decoder is put together from."""

from typing import Literal

from pydantic import Field, model_validator

from cutaway.nn.adaptive_softmax import AdaptiveSoftmaxConfig
from cutaway.nn.experts import RoutingConfig


class ComposedConfig(RoutingConfig):
    """The choices. The defaults are those of a small Llama."""

    model_type: Literal["composed"] = "composed"
    vocab_size: int = Field(8192, gt=0)
    hidden_size: int = Field(256, gt=0)
    num_hidden_layers: int = Field(4, gt=0)
    max_position_embeddings: int = Field(1024, gt=0, description="context, in tokens")

    attention: Literal["grouped", "latent"] = "grouped"
    num_attention_heads: int = Field(4, gt=0)
    num_key_value_heads: int = Field(4, gt=0, description="grouped: as many as queries (MHA), fewer (GQA), 1 (MQA)")
    latent_size: int = Field(64, gt=0, description="latent: width of what is cached per token")
    rotary_size: int = Field(
        16, gt=0, multiple_of=2, description="latent, with rope: width of the key that all heads share"
    )

    positions: Literal["rope", "sinusoidal", "learned", "alibi", "relative", "none"] = "rope"
    norm: Literal["rms", "layer", "none"] = "rms"
    norm_place: Literal["pre", "post"] = Field("pre", description="before each sub-layer, or after adding it")
    residual: bool = Field(True, description="false: a sub-layer replaces its input")

    intermediate_size: int = Field(688, gt=0)
    activation: Literal["relu", "gelu", "silu", "relu2", "swiglu", "geglu"] = "swiglu"
    num_experts: int = Field(0, ge=0, description="0: a dense feed-forward layer")
    num_experts_per_tok: int = Field(2, gt=0)
    shared_expert: bool = Field(False, description="one more expert, which every token passes")

    head: Literal["tied", "full", "adaptive"] = "tied"
    adaptive: AdaptiveSoftmaxConfig = AdaptiveSoftmaxConfig(cutoffs=(2000,))
    initializer_range: float = Field(0.02, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1, description="on embeddings and sub-layers, in training")
    backend: str = Field("sdpa", description="attention backend: sdpa, reference or tiled")

    @model_validator(mode="after")
    def _fits(self) -> "ComposedConfig":
        D, H, G = self.hidden_size, self.num_attention_heads, self.num_key_value_heads
        if D % H:
            raise ValueError(f"hidden_size {D} is not a multiple of num_attention_heads {H}")
        if self.attention == "grouped" and H % G:
            raise ValueError(f"num_attention_heads {H} is not a multiple of num_key_value_heads {G}")
        if self.positions == "rope" and self.attention == "grouped" and (D // H) % 2:
            raise ValueError(f"a head is {D // H} wide and must be even for rotary positions")
        if self.num_experts and self.num_experts_per_tok > self.num_experts:
            raise ValueError(
                f"num_experts_per_tok {self.num_experts_per_tok} is more than num_experts {self.num_experts}"
            )
        return self

    @property
    def width(self) -> int:
        """D."""
        return self.hidden_size

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.max_position_embeddings

    @property
    def head_width(self) -> int:
        """K."""
        return self.hidden_size // self.num_attention_heads

    @property
    def rotary_width(self) -> int:
        """How wide the part is that rotary positions turn; 0 without them."""
        if self.positions != "rope":
            return 0
        return self.head_width if self.attention == "grouped" else self.rotary_size

    @property
    def kv_heads(self) -> int:
        """Heads in the cache; of latents there is one."""
        return self.num_key_value_heads if self.attention == "grouped" else 1

    @property
    def kv_width(self) -> int:
        """Width of a cached key, or of a latent."""
        return self.head_width if self.attention == "grouped" else self.latent_size

    @property
    def value_width(self) -> int:
        """Width of a cached value; beside a latent lies the key that rotary positions turned."""
        return self.head_width if self.attention == "grouped" else self.rotary_width

    @property
    def tie_word_embeddings(self) -> bool:
        """Whether the head is the embedding."""
        return self.head == "tied"
