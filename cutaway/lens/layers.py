"""A text through a model, whatever its family, and the names of the layers it goes through."""

from typing import Any

import torch
from torch import Tensor, nn

from cutaway.core.errors import ConfigError, ContextLengthError, RequestError
from cutaway.lens.hooks import name_of
from cutaway.models.bert import Bert
from cutaway.models.bert_heads import WithHead
from cutaway.models.decoder import Decoder
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.nn.attention import Attend

_DOWN = (
    "down_proj",
    "c_proj",
    "w2",
    "wo",
    "fc2",
    "down",
    "output.dense",
)  # what families call a feed-forward's last layer


def read_text(model: Any, ids_BT: Tensor) -> Tensor:
    """One pass over a text: the final hidden states, B × T × D.

    An encoder-decoder reads the text as its source, and writes it as its target.

    Raises:
        ConfigError: the model reads something else than text, or has no layers.
    """
    _check_model(model)
    _check_text(model, ids_BT)
    if isinstance(model, EncoderDecoder):
        return model(_shifted(model, ids_BT), model.encode(ids_BT))
    return model(ids_BT)


def text_loss(model: Any, ids_BT: Tensor) -> Tensor:
    """How badly a model predicts a text, in nats per token.

    A decoder predicts each token from those before it, an encoder with a head for words each token at its own place, and an
    encoder-decoder the text that it has read.

    Raises:
        ConfigError: a model without a head for words. RequestError: a decoder's text of one token, which nothing precedes.
    """
    h_BTD = read_text(model, ids_BT)
    if not hasattr(model, "logits"):
        raise ConfigError(
            "has no head that says words, so there is no loss",
            field="model",
            hint="a decoder, or bert with head masked",
        )
    logits_BTV, targets_BT = model.logits(h_BTD), ids_BT
    if isinstance(model, Decoder):
        if ids_BT.shape[1] < 2:
            raise RequestError("needs two tokens at the least", field="text")
        logits_BTV, targets_BT = logits_BTV[:, :-1], ids_BT[:, 1:]
    return nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


def layer_names(model: Any) -> list[str]:
    """The names of all blocks, first to last; an encoder's before its decoder's.

    Raises:
        ConfigError: the model has no transformer blocks, or reads images or sound.
    """
    _check_model(model)
    blocks = [*getattr(model, "encoder_blocks", ()), *model.blocks]
    return [name_of(model, block) for block in blocks]


def down_projections(block: nn.Module) -> dict[str, nn.Linear]:
    """The last linear layers of a block's feed-forward networks, by name: what they read is the hidden units.

    One of a dense block, one per expert of others.
    """
    return {
        name: module
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(_DOWN) and "att" not in name.lower()
    }


def _check_text(model: Any, ids_BT: Tensor) -> None:
    """Refuse a text that `read_text` cannot run, by name."""
    T, V = ids_BT.shape[1], model.embedding.num_embeddings
    if T == 0:
        raise RequestError("holds no token", field="text")
    if model.context < T:
        raise ContextLengthError(f"the model reads {model.context} tokens", field="text", value=T)
    if int(ids_BT.max()) >= V or int(ids_BT.min()) < 0:
        raise RequestError(f"holds a token id outside 0 to {V - 1}", field="ids")


def _check_model(model: Any) -> None:
    """Refuse a model that has no transformer blocks, or reads images or sound."""
    reads = isinstance(model, Decoder | Bert | WithHead)
    if isinstance(model, EncoderDecoder):  # a family that encodes something else than text does it by itself
        reads = type(model).encode is EncoderDecoder.encode
    if not reads or not any(isinstance(module, Attend) for block in model.blocks for module in block.modules()):
        raise ConfigError(
            f"a model of the family {model.config.model_type} has no attention layers that read text",
            field="model",
            hint="a decoder, an encoder such as bert, or an encoder-decoder such as t5",
        )


def _shifted(model: Any, ids_BT: Tensor) -> Tensor:
    start = torch.full_like(ids_BT[:, :1], model.config.decoder_start_token_id)
    return torch.cat((start, ids_BT[:, :-1]), dim=1)
