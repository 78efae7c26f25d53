"""BERT and RoBERTa with a head for a task: words behind a mask, sentence pairs, labels of a text or of each token.

`build` makes the plain encoder or one with a head, as the configuration says; `with_head` puts a new head on an encoder that was
trained with another one or none. N some positions, B batch, T positions, D model width, V vocabulary, L labels.
"""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from cutaway.core.errors import CheckpointError
from cutaway.models.bert import Bert, BertConfig, Head
from cutaway.models.decoder import initialise
from cutaway.models.label_names import labels_from_hf, labels_to_hf

__all__ = ["MODEL_TYPES", "BertConfig", "build", "config_from_hf", "config_to_hf", "from_hf_tensors", "to_hf_tensors"]

MODEL_TYPES = ("bert", "roberta")
_ARCHITECTURES: dict[Head, str] = {
    "none": "Model",
    "masked": "ForMaskedLM",
    "pretraining": "ForPreTraining",
    "sequence": "ForSequenceClassification",
    "tokens": "ForTokenClassification",
}
_BIASES = {"cls.predictions.bias": "cls.predictions.decoder.bias", "lm_head.bias": "lm_head.decoder.bias"}
_PREFIX = {"bert": "Bert", "roberta": "Roberta"}


class WithHead(nn.Module, ABC):
    """An encoder and a head. The encoder lies under the name of its family, as in the checkpoint."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.add_module(config.model_type, Bert(config))
        self.add_head(config)
        self.tie()
        initialise(self, config.initializer_range)

    @abstractmethod
    def add_head(self, config: BertConfig) -> None:
        """Add the modules of the head under the checkpoint's names."""

    @property
    def trunk(self) -> Bert:
        """The encoder."""
        return self.get_submodule(self.config.model_type)  # type: ignore[return-value]

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers, in order."""
        return self.trunk.blocks

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        return self.trunk.embedding

    @property
    def context(self) -> int:
        """The most positions the model was made for."""
        return self.config.context

    def tie(self) -> None:
        """Share what the head shares with the encoder."""

    def forward(self, ids_BT: Tensor, **settings: Any) -> Tensor:
        """Final hidden states, B × T × D; arguments as in `bert.Bert.forward`."""
        return self.trunk(ids_BT, **settings)


class MaskedLM(WithHead):
    """Which word is behind a mask: `logits(h)`, V per position."""

    def add_head(self, config: BertConfig) -> None:
        """A layer, a norm, and the word embeddings with a bias."""
        D = config.hidden_size
        dense, norm = nn.Linear(D, D), nn.LayerNorm(D, config.layer_norm_eps)
        decoder = nn.Linear(D, config.vocab_size)
        if config.model_type == "roberta":
            self.lm_head = nn.ModuleDict({"dense": dense, "layer_norm": norm, "decoder": decoder})
        else:
            transform = nn.ModuleDict({"dense": dense, "LayerNorm": norm})
            self.cls = nn.ModuleDict({"predictions": nn.ModuleDict({"transform": transform, "decoder": decoder})})

    def tie(self) -> None:
        """Share the embedding with the output head, where the configuration says so."""
        if self.config.tie_word_embeddings:
            self.output.weight = self.embedding.weight

    @property
    def output(self) -> nn.Linear:
        """The last layer of the head, D to V."""
        roberta = self.config.model_type == "roberta"
        return self.get_submodule("lm_head.decoder" if roberta else "cls.predictions.decoder")  # type: ignore[return-value]

    def to_output(self, h: Tensor) -> Tensor:
        """What the last layer reads: … × D to … × D."""
        if self.config.model_type == "roberta":
            dense, norm = self.lm_head["dense"], self.lm_head["layer_norm"]
        else:
            transform: Any = self.get_submodule("cls.predictions.transform")
            dense, norm = transform["dense"], transform["LayerNorm"]
        return norm(functional.gelu(dense(h)))

    def logits(self, h: Tensor) -> Tensor:
        """Scores of every word: … × D to … × V."""
        return self.output(self.to_output(h))


class PreTraining(MaskedLM):
    """The words behind masks, and whether the second sentence follows the first: `pair_logits(h_BTD)`, B × 2 (0: it does)."""

    def add_head(self, config: BertConfig) -> None:
        """As for masked words, and a layer for pairs."""
        super().add_head(config)
        self.cls["seq_relationship"] = nn.Linear(config.hidden_size, 2)

    def pair_logits(self, h_BTD: Tensor) -> Tensor:
        """Scores of a pair, from its first token."""
        return self.cls["seq_relationship"](self.trunk.pooled(h_BTD))


class SequenceClassifier(WithHead):
    """A label for the text, from its first token: `label_logits(h_BTD)`, B × L."""

    def add_head(self, config: BertConfig) -> None:
        """One layer on BERT's pooler, two in RoBERTa."""
        D, L = config.hidden_size, len(config.labels)
        if config.model_type == "roberta":
            self.classifier: Any = nn.ModuleDict({"dense": nn.Linear(D, D), "out_proj": nn.Linear(D, L)})
        else:
            self.classifier = nn.Linear(D, L)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def label_logits(self, h_BTD: Tensor) -> Tensor:
        """Scores of every label."""
        if self.config.model_type == "roberta":
            first = self.classifier["dense"](self.dropout(h_BTD[:, 0])).tanh()
            return self.classifier["out_proj"](self.dropout(first))
        return self.classifier(self.dropout(self.trunk.pooled(h_BTD)))


class TokenClassifier(WithHead):
    """A label for each token: `label_logits(h_BTD)`, B × T × L."""

    def add_head(self, config: BertConfig) -> None:
        """One layer."""
        self.classifier = nn.Linear(config.hidden_size, len(config.labels))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def label_logits(self, h_BTD: Tensor) -> Tensor:
        """Scores of every label."""
        return self.classifier(self.dropout(h_BTD))


_CLASSES: dict[Head, type[nn.Module]] = {
    "none": Bert,
    "masked": MaskedLM,
    "pretraining": PreTraining,
    "sequence": SequenceClassifier,
    "tokens": TokenClassifier,
}


def build(config: BertConfig) -> nn.Module:
    """A fresh model: the plain encoder, or one with the head that the configuration names."""
    return _CLASSES[config.head](config)


def with_head(model: Any, head: Head, labels: tuple[str, ...] = ("0", "1")) -> nn.Module:
    """The encoder of `model` under a new head; the encoder's weights are shared with `model`, the head's are fresh."""
    config = model.config.model_copy(update={"head": head, "labels": labels})
    encoder = model.trunk if isinstance(model, WithHead) else model
    made = build(config)
    target = made.trunk if isinstance(made, WithHead) else made
    weights = {name: value for name, value in encoder.state_dict().items() if not name.startswith("pooler.")}
    if config.has_pooler and hasattr(encoder, "pooler"):
        weights = encoder.state_dict()
    target.load_state_dict(weights, strict=False, assign=True)
    made.tie()  # type: ignore[operator]
    return made


def config_from_hf(values: dict[str, Any]) -> BertConfig:
    """Read the `config.json` of a Hugging Face folder; its `architectures` names the head."""
    if values.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError("only gelu is supported", field="hidden_act", value=values["hidden_act"])
    if values.get("position_embedding_type", "absolute") != "absolute":
        raise CheckpointError(
            "only absolute is supported", field="position_embedding_type", value=values["position_embedding_type"]
        )
    kind = values["model_type"]
    named = (values.get("architectures") or [f"{_PREFIX[kind]}Model"])[0]
    heads = {f"{_PREFIX[kind]}{ending}": head for head, ending in _ARCHITECTURES.items()}
    if named not in heads or (kind == "roberta" and heads[named] == "pretraining"):
        raise CheckpointError("unsupported", field="architectures", value=named, hint=f"known: {', '.join(heads)}")
    own = BertConfig.model_fields.keys() - {"attention", "head", "labels"}
    known = {name: values[name] for name in own if values.get(name) is not None}
    named_labels = {"head": heads[named], "labels": labels_from_hf(values)}
    shape = {"pad_token_id": 1 if kind == "roberta" else 0, **known, **named_labels}
    return BertConfig.model_validate(shape)


def config_to_hf(config: BertConfig) -> dict[str, Any]:
    """The `config.json` that transformers reads."""
    values = config.model_dump(exclude={"attention", "head", "labels"})
    return {
        "architectures": [_PREFIX[config.model_type] + _ARCHITECTURES[config.head]],
        **values,
        "hidden_act": "gelu",
        **labels_to_hf(config.labels),
    }


def from_hf_tensors(name: str, tensor: Tensor, config: BertConfig) -> tuple[str, Tensor] | None:
    """Our name and tensor for one of the checkpoint's; None for what this head does not use.

    Checkpoints that come from TensorFlow, bert-base-uncased among them, call a norm's weight gamma and its bias beta.
    """
    prefix = f"{config.model_type}."
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    if "position_ids" in name or (name.startswith("cls.seq_relationship.") and config.head == "masked"):
        return None
    if config.head == "none":
        name = name.removeprefix(prefix)
        return None if name.startswith(("cls.", "lm_head.", "classifier.", "pooler.")) else (name, tensor)
    if name.startswith(f"{prefix}pooler.") and not config.has_pooler:
        return None
    if name in _BIASES:  # the bias of the last layer, stored beside it; without sharing the last layer has its own
        return (_BIASES[name], tensor) if config.tie_word_embeddings else None
    return name, tensor


def to_hf_tensors(name: str, tensor: Tensor, config: BertConfig) -> tuple[str, Tensor]:
    """The checkpoint's name and tensor for one of ours."""
    theirs = {ours: stored for stored, ours in _BIASES.items()} if config.tie_word_embeddings else {}
    return theirs.get(name, name), tensor
