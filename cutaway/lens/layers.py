"""A text, an image, a sound or all of them interleaved through a model, and the names of the layers that it goes through.

What a model is given is x. A tensor of ids is a text (B × T); one of floating-point numbers is a medium: pixels
(B × C × H × W), a log-mel spectrogram (B × F × T) or a vector (B × N). `Parts` are a row of texts and media. `lens.inputs`
prepares them.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from cutaway.core.errors import ConfigError, ContextLengthError, RequestError
from cutaway.lens.hooks import Call, name_of
from cutaway.lens.parts import Parts
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.clip import CLIP
from cutaway.models.decoder import Decoder
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.omni import Omni
from cutaway.models.text_vae import TextVAE
from cutaway.models.vae import VAE
from cutaway.models.vit import ViT
from cutaway.models.whisper_classifier import WhisperClassifier
from cutaway.nn.attention import Attend

Input = Tensor | Parts

_GIVEN = {
    "text": "a text",
    "image": "--image FILE",
    "audio": "--audio FILE",
    "parts": "--part image=FILE --part text=…",
}
_DOWN = (
    "down_proj",
    "c_proj",
    "w2",
    "wo",
    "fc2",
    "down",
    "output.dense",
)  # what families call a feed-forward's last layer


def inputs_of(model: Any) -> tuple[str, ...]:
    """What a model reads: text, image, audio, or parts of every kind."""
    if isinstance(model, CLIP):
        return "text", "image"
    if isinstance(model, ViT | VAE):
        return ("image",)
    if isinstance(model, WhisperClassifier):
        return ("audio",)
    if isinstance(model, Omni):
        return "text", "parts"
    return (model.SOURCE,) if isinstance(model, EncoderDecoder) else ("text",)


def how_to_give(model: Any) -> str:
    """What the command line is given for what a model reads."""
    return " or ".join(_GIVEN[kind] for kind in inputs_of(model))


def is_medium(x: Input) -> bool:
    """Whether x is an image or a sound alone, and has no ids."""
    return isinstance(x, Tensor) and x.is_floating_point()


def ids_of(x: Input) -> Tensor:
    """The ids of a text or of parts, B × T."""
    return x.ids_1T if isinstance(x, Parts) else x


def read_input(model: Any, x: Input) -> Tensor:
    """One pass over an input: the final hidden states, B × T × D.

    An encoder-decoder reads a text as its source, and writes it as its target; a medium goes through its encoder alone, as it
    goes through one tower of two. An auto-encoder decodes the mean of its latent variables; from a vector it gives B × N.

    Raises:
        ConfigError: the model does not read such an input.
    """
    _check_input(model, x)
    if isinstance(x, Parts):
        return model(x.ids_1T, features_BTF=x.features_1TF, places_BT=x.places_1T)
    if isinstance(model, CLIP):
        return _tower(model, x)(x)
    if isinstance(model, VAE):
        return model.decode(model.encode(x)[0])
    if isinstance(model, TextVAE):
        return model.decode(model.encode(x)[0], _shifted(model, x))[0]
    if isinstance(model, EncoderDecoder):
        memory = model.encode(x)
        return memory if is_medium(x) else model(_shifted(model, x), memory)
    return model(x)


def text_loss(model: Any, x: Input) -> Tensor:
    """How badly a model predicts a text, in nats per token.

    A decoder predicts each token from those before it, an encoder with a head for words each token at its own place, and an
    encoder-decoder or an auto-encoder the text that it has read. Of parts, the tokens that training predicts.

    Raises:
        ConfigError: a model without a head for words, or a medium. RequestError: a decoder's text of one token, which nothing
            precedes; parts without a text that anything precedes.
    """
    h_BTD = read_input(model, x)
    if is_medium(x) or isinstance(model, CLIP) or not hasattr(model, "logits"):
        raise ConfigError(
            "has no head that says words of this input, so there is no loss",
            field="model",
            hint="a decoder, or bert with head masked",
        )
    logits_BTV, targets_BT = model.logits(h_BTD), ids_of(x)
    if isinstance(x, Parts):
        targets_BT = targets_BT.masked_fill(~x.learned_1T, IGNORED)
        if not x.learned_1T[:, 1:].any():
            raise RequestError("hold no text after something else, so that nothing is predicted", field="parts")
    if isinstance(model, Decoder):
        if targets_BT.shape[1] < 2:
            raise RequestError("needs two tokens at the least", field="text")
        logits_BTV, targets_BT = logits_BTV[:, :-1], targets_BT[:, 1:]
    return nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORED)


def layer_names(model: Any, x: Input | None = None) -> list[str]:
    """The names of all layers that an input goes through, first to last; an encoder's before its decoder's.

    Args:
        x: the input; by default a text.
    """
    layers: Iterable[nn.Module]
    if isinstance(model, CLIP):
        layers = _tower(model, x).encoder.layers
    elif isinstance(model, VAE):
        layers = (module for module in model.modules() if isinstance(module, nn.Linear))
    elif isinstance(model, TextVAE):
        layers = model.encoder, model.decoder
    elif isinstance(model, EncoderDecoder):
        layers = [*model.encoder_blocks, *(() if x is not None and is_medium(x) else model.blocks)]
    else:
        layers = model.blocks
    return [name_of(model, layer) for layer in layers]


def block_names(model: Any, x: Input | None = None) -> list[str]:
    """`layer_names` of a model whose layers are transformer blocks.

    Raises:
        ConfigError: they are not.
    """
    names = layer_names(model, x)
    if not any(isinstance(module, Attend) for name in names for module in model.get_submodule(name).modules()):
        raise ConfigError(f"a model of the family {model.config.model_type} has no transformer blocks", field="model")
    return names


def layer_output(call: Call) -> Tensor:
    """What a layer put out: the tensor itself, in its graph, positions × D or B × positions × D.

    A recurrent layer returns its last state beside it, and rows of different lengths without their padding.
    """
    first = call.output[0] if type(call.output) is tuple else call.output
    return first.data if isinstance(first, PackedSequence) else first


def down_projections(block: nn.Module) -> dict[str, nn.Linear]:
    """The last linear layers of a block's feed-forward networks, by name: what they read is the hidden units.

    One of a dense block, one per expert of others.
    """
    return {
        name: module
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(_DOWN) and "att" not in name.lower()
    }


def _check_input(model: Any, x: Input) -> None:
    """Refuse what `read_input` cannot run, by name."""
    kinds = inputs_of(model)
    if isinstance(x, Parts):
        reads, given = "parts" in kinds, "parts of many kinds"
    elif is_medium(x):
        reads, given = not {"image", "audio"}.isdisjoint(kinds), "an image or a sound"
    else:
        reads, given = "text" in kinds, "a text"
    if not reads:
        raise ConfigError(
            f"a model of the family {model.config.model_type} reads {' or '.join(kinds)}, not {given}",
            field="model",
            hint=how_to_give(model),
        )
    if not is_medium(x):
        _check_text(model, ids_of(x))


def _check_text(model: Any, ids_BT: Tensor) -> None:
    T, V = ids_BT.shape[1], model.embedding.num_embeddings
    if T == 0:
        raise RequestError("holds no token", field="text")
    if model.context < T:
        raise ContextLengthError(f"the model reads {model.context} tokens", field="text", value=T)
    if int(ids_BT.max()) >= V or int(ids_BT.min()) < 0:
        raise RequestError(f"holds a token id outside 0 to {V - 1}", field="ids")


def _tower(model: CLIP, x: Input | None) -> Any:
    return model.vision_model if x is not None and is_medium(x) else model.text_model


def _shifted(model: Any, ids_BT: Tensor) -> Tensor:
    start = torch.full_like(ids_BT[:, :1], model.config.decoder_start_token_id)
    return torch.cat((start, ids_BT[:, :-1]), dim=1)
