"""CLIP (Radford et al. 2021): a text tower and an image tower whose outputs share one space.

Modules are named like the Hugging Face checkpoint's tensors, `pre_layrnorm` included.

B batch, C channels, T positions, S key positions, D width of a tower, H heads, K head width, P width of the shared space. In
pixels, H × W is the height and width of an image.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cutaway.core.errors import ContextLengthError, DataError
from cutaway.models.clip_config import CLIPConfig, TextConfig, TowerConfig, VisionConfig, config_from_hf, config_to_hf
from cutaway.models.decoder import initialise
from cutaway.nn.activation import ACTIVATIONS
from cutaway.nn.attention import Attend
from cutaway.nn.masks import causal_mask, full_mask
from cutaway.nn.patches import PatchEmbedding, count_patches

__all__ = [
    "CLIP",
    "MODEL_TYPES",
    "CLIPConfig",
    "build",
    "config_from_hf",
    "config_to_hf",
    "from_hf_tensors",
    "to_hf_tensors",
]

MODEL_TYPES = ("clip",)
OLD_EOS = 2  # written into early configurations whatever the real id; the end token is then the one with the highest id
_SHARPEST = math.log(100)


class SelfAttention(nn.Module):
    def __init__(self, config: TowerConfig):
        super().__init__()
        D = config.hidden_size
        self.H, self.K = config.num_attention_heads, D // config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(D, D) for _ in range(4))
        self.attend = Attend(self.K**-0.5, config.attention)

    def forward(self, x_BTD: Tensor, mask: Tensor | None) -> Tensor:
        B, T, D = x_BTD.shape
        q, k, v = (
            part(x_BTD).view(B, T, self.H, self.K).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(self.attend(q, k, v, mask).transpose(1, 2).reshape(B, T, D))


class MLP(nn.Module):
    def __init__(self, config: TowerConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x_BTD)))


class Block(nn.Module):
    def __init__(self, config: TowerConfig):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.self_attn = SelfAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x_BTD: Tensor, mask: Tensor | None) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.layer_norm1(x_BTD), mask)
        return x_BTD + self.mlp(self.layer_norm2(x_BTD))


class Encoder(nn.Module):
    def __init__(self, config: TowerConfig):
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))

    def forward(self, x_BTD: Tensor, mask: Tensor | None) -> Tensor:
        for block in self.layers:
            x_BTD = block(x_BTD, mask)
        return x_BTD


class TextEmbeddings(nn.Module):
    def __init__(self, config: TextConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids_BT: Tensor) -> Tensor:
        return self.token_embedding(ids_BT) + self.position_embedding.weight[: ids_BT.shape[1]]


class TextTower(nn.Module):
    def __init__(self, config: TextConfig):
        super().__init__()
        self.eos = config.eos_token_id
        self.context = config.max_position_embeddings
        self.embeddings = TextEmbeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Final hidden states, B × T × D."""
        T = ids_BT.shape[1]
        if self.context < T:
            raise ContextLengthError("too many tokens", field="text", value=T, hint=f"at most {self.context}")
        mask = None if mask_BT is None else causal_mask(T, T, ids_BT.device) & mask_BT[:, None, None]
        return self.final_layer_norm(self.encoder(self.embeddings(ids_BT), mask))

    def pool(self, h_BTD: Tensor, ids_BT: Tensor) -> Tensor:
        """B × D: the hidden state at each text's end token, the first if it stands there several times (as padding, too)."""
        is_end = ids_BT == (ids_BT.amax(1, keepdim=True) if self.eos == OLD_EOS else self.eos)
        if not is_end.any(1).all():
            row = int((~is_end.any(1)).nonzero()[0])
            raise DataError("the text has no end token", field=f"text[{row}]", hint=f"end it with id {self.eos}")
        return h_BTD[torch.arange(len(ids_BT), device=ids_BT.device), is_end.int().argmax(1)]


class VisionEmbeddings(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        c, D = config, config.hidden_size
        self.class_embedding = nn.Parameter(torch.randn(D) * D**-0.5)
        self.patch_embedding = PatchEmbedding(c.num_channels, D, c.image_size, c.patch_size, bias=False)
        self.position_embedding = nn.Embedding(1 + count_patches(c.image_size, c.patch_size), D)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels_BCHW)
        first = self.class_embedding.expand(len(patches), 1, -1)
        return torch.cat((first, patches), dim=1) + self.position_embedding.weight


class VisionTower(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.context = 1 + count_patches(config.image_size, config.patch_size)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Hidden states, B × T × D, before the last norm, which only the class token passes through."""
        x_BTD = self.pre_layrnorm(self.embeddings(pixels_BCHW))
        return self.encoder(x_BTD, full_mask(x_BTD.shape[1], x_BTD.device))

    def pool(self, h_BTD: Tensor) -> Tensor:
        """B × D: the class token's."""
        return self.post_layernorm(h_BTD[:, 0])


class CLIP(nn.Module):
    """Both towers with random weights; `models.huggingface.load_model` fills them from a checkpoint."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        text, vision, P = config.text_config, config.vision_config, config.projection_dim
        self.text_model, self.vision_model = TextTower(text), VisionTower(vision)
        self.text_projection = nn.Linear(text.hidden_size, P, bias=False)
        self.visual_projection = nn.Linear(vision.hidden_size, P, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor([config.logit_scale_init_value]))  # FSDP shares no scalar
        initialise(self.text_model, text.initializer_range)
        initialise(self.vision_model, vision.initializer_range)
        initialise(self.text_projection, text.hidden_size**-0.5)
        initialise(self.visual_projection, vision.hidden_size**-0.5)

    def tie(self) -> None:
        """Nothing is shared."""

    @torch.no_grad()
    def after_step(self) -> None:
        """After a step of training: the factor of the cosines stays at 100 or less (section 2.5).

        The parameter itself, since a limit in the formula would leave it no gradient to come back by.
        """
        self.logit_scale.clamp_(max=_SHARPEST)

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers of the text tower, then those of the image tower."""
        return nn.ModuleList([*self.text_model.encoder.layers, *self.vision_model.encoder.layers])

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        return self.text_model.embeddings.token_embedding

    @property
    def context(self) -> int:
        """The most tokens of a text."""
        return self.text_model.context

    def encode_text(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """B × P unit vectors.

        Args:
            ids_BT: token ids; each row holds the end token.
            mask_BT: false at padding. Padding on the right needs none: nothing that counts sees it.

        Raises:
            ContextLengthError: more tokens than the tower has positions.
            DataError: a row without an end token.
        """
        pooled = self.text_model.pool(self.text_model(ids_BT, mask_BT), ids_BT)
        return functional.normalize(self.text_projection(pooled), dim=-1)

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        """B × P unit vectors.

        Args:
            pixels_BCHW: normalised images (`data.images.prepare`).

        Raises:
            DataError: the images do not have the size that the model was made for.
        """
        pooled = self.vision_model.pool(self.vision_model(pixels_BCHW))
        return functional.normalize(self.visual_projection(pooled), dim=-1)

    def logits(self, images_BP: Tensor, texts_BP: Tensor) -> Tensor:
        """exp(logit_scale) · cosine, images × texts; its transpose is texts × images."""
        return self.logit_scale.exp() * images_BP @ texts_BP.T

    def forward(self, pixels_BCHW: Tensor, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """`logits` of every image with every text."""
        return self.logits(self.encode_image(pixels_BCHW), self.encode_text(ids_BT, mask_BT))


def from_hf_tensors(name: str, tensor: Tensor, config: CLIPConfig) -> tuple[str, Tensor] | None:
    """Our name and tensor for one of the checkpoint's; None for the position numbers that older ones store."""
    if name == "logit_scale" and not tensor.dim():
        return name, tensor[None]
    return None if name.endswith(".position_ids") else (name, tensor)


def to_hf_tensors(name: str, tensor: Tensor, config: CLIPConfig) -> tuple[str, Tensor]:
    """The checkpoint's name and tensor for one of ours."""
    return name, tensor.squeeze() if name == "logit_scale" else tensor


def build(config: CLIPConfig) -> CLIP:
    """A fresh model."""
    return CLIP(config)
