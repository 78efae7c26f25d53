"""A recurrent encoder-decoder: GRU (Cho et al. 2014) or LSTM (Sutskever et al. 2014), with or without attention.

The encoder reads the source in both directions. Without attention the memory is its final state alone, forward and backward,
and the decoder only begins with it. With attention (after Luong et al. 2015, sections 3.1 and 3.3) the decoder's output h looks
at all outputs m of the encoder, and what leaves the decoder is tanh(W [context; h]); scores are h · m (Luong's dot) or
vᵀ tanh(W h + U m) (Bahdanau et al. 2015, appendix A.1.2). Deviation from Bahdanau: the context does not enter the next step's
recurrence, so that all target positions of a training batch attend at once. The decoder's first state is tanh(W · final state),
as there; an LSTM's first cell state too.

Shapes: B batch, S source positions, T target positions, D width, L layers, K head width, V vocabulary.
"""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cutaway.core.config import Config
from cutaway.models.encoder_decoder import EncoderDecoder, MemoryCache
from cutaway.models.token_ids import check_token_ids
from cutaway.nn.attention import Attend, wide
from cutaway.nn.cache import KVCache
from cutaway.nn.multi_head import Memory

MODEL_TYPES = ("rnn_seq2seq",)
_CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class RNNConfig(Config):
    """The shape of a model."""

    model_type: Literal["rnn_seq2seq"] = "rnn_seq2seq"
    vocab_size: int = Field(8192, gt=0, description="of source and target together")
    hidden_size: int = Field(256, gt=0, multiple_of=2, description="D; each direction of the encoder has half of it")
    num_layers: int = Field(2, gt=0, description="of the encoder, and of the decoder")
    cell: Literal["gru", "lstm"] = "gru"
    attention_score: Literal["none", "additive", "dot"] = Field(
        "additive", description="how the decoder looks at the source; none: it begins with the final state"
    )
    max_length: int = Field(1024, gt=0, description="context, in tokens; a longer one runs too")
    dropout: float = Field(0.0, ge=0, lt=1, description="on embeddings and between layers, in training")
    tie_word_embeddings: bool = True
    decoder_start_token_id: int = 0

    @model_validator(mode="after")
    def _fits(self) -> "RNNConfig":
        check_token_ids(self, "decoder_start_token_id")
        return self

    @property
    def width(self) -> int:
        """D."""
        return self.hidden_size

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.max_length


class StateCache(KVCache):
    """The decoder's state, kept where a transformer keeps keys (h) and values (an LSTM's cell state), in one position.

    A row of length 0 has no state yet.
    """

    def __init__(self, layers: int, batch: int, width: int, dtype: torch.dtype, device: torch.device):
        super().__init__(layers, batch, 1, width, 1, dtype, device)

    def go_on(self, h_LBD: Tensor, c_LBD: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden and cell state of every row, L × B × D each; those given where a row has none yet."""
        new_B1 = (self.lengths == 0).to(h_LBD.device)[:, None]
        return (
            torch.where(new_B1, h_LBD, self.k_LBGSK[:, :, 0, 0]),
            torch.where(new_B1, c_LBD, self.v_LBGSK[:, :, 0, 0]),
        )

    def put(self, h_LBD: Tensor, c_LBD: Tensor) -> None:
        """Replace what every row holds."""
        self.k_LBGSK[:, :, 0, 0], self.v_LBGSK[:, :, 0, 0] = h_LBD, c_LBD


class AdditiveAttend(Attend):
    """Attention with the score vᵀ tanh(q + k); q and k come projected."""

    def __init__(self, K: int):
        super().__init__(scale=1.0)
        self.v = nn.Linear(K, 1, bias=False)

    def forward(
        self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Tensor | None, bias: Tensor | None = None
    ) -> Tensor:
        return self.weights(q_BHTK, k_BGSK, mask, bias).to(v_BGSK.dtype) @ v_BGSK

    def weights(self, q_BHTK: Tensor, k_BGSK: Tensor, mask: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """The weights that `forward` uses on the same inputs, float32."""
        assert mask is not None
        assert bias is None
        scores_BHTS = self.v(torch.tanh(q_BHTK[:, :, :, None] + k_BGSK[:, :, None]))[..., 0]
        return wide(scores_BHTS).masked_fill(~mask, -torch.inf).softmax(-1)


class Look(nn.Module):
    """What the decoder's output becomes when it has looked at the memory."""

    def __init__(self, config: RNNConfig):
        super().__init__()
        D, additive = config.width, config.attention_score == "additive"
        self.query = nn.Linear(D, D, bias=False) if additive else nn.Identity()
        self.key = nn.Linear(D, D, bias=False) if additive else nn.Identity()
        self.attend = AdditiveAttend(D) if additive else Attend(scale=1.0)
        self.combine = nn.Linear(2 * D, D, bias=False)

    def forward(self, x_BTD: Tensor, memory: Memory) -> Tensor:
        known = {} if memory.known is None else memory.known
        if 0 not in known:
            known[0] = self.key(memory.states_BSD)[:, None], memory.states_BSD[:, None]
        context_BTD = self.attend(self.query(x_BTD)[:, None], *known[0], memory.mask)[:, 0]
        return torch.tanh(self.combine(torch.cat([context_BTD, x_BTD], -1)))


class Encoder(nn.Module):
    def __init__(self, config: RNNConfig):
        super().__init__()
        cell, D = _CELLS[config.cell], config.width
        self.layers = nn.ModuleList(
            cell(D, D // 2, batch_first=True, bidirectional=True) for _ in range(config.num_layers)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BSD: Tensor, lengths_B: Tensor) -> Tensor:
        """Both directions' outputs side by side; each row is read as if its padding were not there."""
        packed = pack_padded_sequence(self.dropout(x_BSD), lengths_B.cpu(), batch_first=True, enforce_sorted=False)
        for layer in self.layers:
            packed, _ = layer(packed)
            packed = packed._replace(data=self.dropout(packed.data))
        return pad_packed_sequence(packed, batch_first=True, total_length=x_BSD.shape[1])[0]


class Decoder(nn.Module):
    def __init__(self, config: RNNConfig):
        super().__init__()
        cell, D, L = _CELLS[config.cell], config.width, config.num_layers
        self.is_lstm = config.cell == "lstm"
        self.first_state = nn.Linear(D, 2 * L * D if self.is_lstm else L * D)
        self.layers = nn.ModuleList(cell(D, D, batch_first=True) for _ in range(L))
        self.look = Look(config) if config.attention_score != "none" else None
        self.norm = nn.Identity()  # a recurrent decoder has none
        self.dropout = nn.Dropout(config.dropout)

    def begin(self, final_BD: Tensor) -> tuple[Tensor, Tensor]:
        """The first hidden and cell state, L × B × D each, from the encoder's final state."""
        L = len(self.layers)
        states = torch.tanh(self.first_state(final_BD)).unflatten(-1, (-1, final_BD.shape[-1])).transpose(0, 1)
        return states[:L], states[L:] if self.is_lstm else torch.zeros_like(states)

    def forward(self, x_BTD: Tensor, h_LBD: Tensor, c_LBD: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs, and the hidden and cell state after the last of them."""
        x_BTD = self.dropout(x_BTD)
        after: list[tuple[Tensor, Tensor]] = []
        for layer, h_BD, c_BD in zip(self.layers, h_LBD, c_LBD, strict=True):
            h_1BD, c_1BD = h_BD[None].contiguous(), c_BD[None].contiguous()
            if self.is_lstm:
                x_BTD, (h_1BD, c_1BD) = layer(x_BTD, (h_1BD, c_1BD))
            else:
                x_BTD, h_1BD = layer(x_BTD, h_1BD)
            x_BTD = self.dropout(x_BTD)
            after.append((h_1BD[0], c_1BD[0]))
        if self.look is not None:
            x_BTD = self.look(x_BTD, memory)
        h, c = zip(*after, strict=True)
        return x_BTD, torch.stack(h), torch.stack(c)


class RNNSeq2Seq(EncoderDecoder):
    """A recurrent encoder-decoder with random weights. The recurrent layers are torch's, with its initialisation."""

    EMBEDDING, ENCODER_BLOCKS, BLOCKS, FINAL_NORM = "shared", "encoder.layers", "decoder.layers", "decoder.norm"

    def __init__(self, config: RNNConfig):
        super().__init__(config)
        self.shared = nn.Embedding(config.vocab_size, config.width)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.finish()
        for weight in (self.shared.weight, self.lm_head.weight):
            nn.init.normal_(weight, std=config.width**-0.5)

    def new_cache(self, batch: int, capacity: int) -> MemoryCache:
        """An empty state for `batch` rows; it holds a target of any length."""
        c, weight = self.config, self.embedding.weight
        return MemoryCache(StateCache(c.num_layers, batch, c.width, weight.dtype, weight.device))

    def encoded(self, source_BS: Tensor, mask_B11S: Tensor) -> Tensor:
        """With attention the encoder's outputs, B × S × D; without, its final state, B × 1 × D."""
        lengths_B = _lengths(mask_B11S)
        out_BSD = self.encoder(self.shared(source_BS), lengths_B)
        return _final(out_BSD, lengths_B)[:, None] if self.decoder.look is None else out_BSD

    def hidden(
        self, target_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, memory: Memory, cache: KVCache | None
    ) -> Tensor:
        """The decoder's outputs; where a token stands and what it may see follow from the recurrence."""
        states_BSD = memory.states_BSD
        final_BD = states_BSD[:, 0] if self.decoder.look is None else _final(states_BSD, _lengths(memory.mask))
        h_LBD, c_LBD = self.decoder.begin(final_BD)
        if isinstance(cache, StateCache):
            h_LBD, c_LBD = cache.go_on(h_LBD, c_LBD)
        x_BTD, h_LBD, c_LBD = self.decoder(self.shared(target_BT), h_LBD, c_LBD, memory)
        if isinstance(cache, StateCache):
            cache.put(h_LBD, c_LBD)
        return x_BTD


def _lengths(mask_B11S: Tensor) -> Tensor:
    return mask_B11S[:, 0, 0].sum(-1)


def _final(out_BSD: Tensor, lengths_B: Tensor) -> Tensor:
    """The final states of both directions, B × D: the forward half of the last real output, the backward half of the first."""
    rows = torch.arange(len(out_BSD), device=out_BSD.device)
    forward_BK, backward_BK = out_BSD[rows, lengths_B - 1].chunk(2, -1)[0], out_BSD[:, 0].chunk(2, -1)[1]
    return torch.cat([forward_BK, backward_BK], -1)


def config_from_hf(values: dict[str, Any]) -> RNNConfig:
    """Read a `config.json`; there is no such family in transformers, so ours is the only writer."""
    known = {name: values[name] for name in RNNConfig.model_fields if values.get(name) is not None}
    return RNNConfig.model_validate(known)


def config_to_hf(config: RNNConfig) -> dict[str, Any]:
    """What `config_from_hf` reads."""
    return {"architectures": ["RNNSeq2Seq"], **config.model_dump(), "is_encoder_decoder": True}


def build(config: RNNConfig) -> RNNSeq2Seq:
    """A fresh model."""
    return RNNSeq2Seq(config)
