"""Variational auto-encoders, of images or of texts: trained on the evidence lower bound, measured by it on what is held out.

Measured is the bound itself, with one sample of z per example, the same ones every time: −ELBO in bits per dimension of an
image (grey pixels count as a share of on and off, so that not even a perfect model reaches 0), in nats per token of a text.

Shapes: B batch, T positions, N observed dimensions, Z latent dimensions.
"""

import math
from collections.abc import Iterable
from functools import partial
from itertools import islice
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError
from cutaway.core.progress import step
from cutaway.data.image_vectors import ImageBatch, ImageVectorsConfig, open_images
from cutaway.data.rows import RowStream
from cutaway.data.sentences import SentenceBatch, SentencesConfig, open_sentences
from cutaway.data.shapes import Texts
from cutaway.loss.language_modelling import linear_cross_entropy
from cutaway.loss.variational import VariationalConfig, active_units, bernoulli_nll, kl_to_prior, variational_loss
from cutaway.models.text_vae import TextVAE
from cutaway.models.vae import VAE, VAEConfig
from cutaway.optim.adamw import OptimConfig
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.checkpoint import FullWeights
from cutaway.train.gradients import autocast
from cutaway.train.held_out import held_out_loss
from cutaway.train.objectives import Metrics
from cutaway.train.origin import OriginConfig, begin
from cutaway.train.recipe import Job, RunConfig, carry_out

Batch = ImageBatch | SentenceBatch


class VAEOptim(OptimConfig):
    """As for pretraining, without weight decay: the KL is penalty enough."""

    weight_decay: float = Field(0.0, ge=0)


class ImageVAERun(RunConfig):
    """Everything a run on images is made of."""

    data: ImageVectorsConfig
    model: dict[str, Any] = Field({}, description="shape: latent_size and hidden_sizes of models.vae.VAEConfig")
    loss: VariationalConfig = VariationalConfig()
    optim: VAEOptim = VAEOptim()


class TextVAERun(OriginConfig):
    """Everything a run on texts is made of. One needs some of `loss.anneal_steps`, `loss.free_nats` and `model.word_dropout`,
    or the writer learns to do without z (Bowman et al. 2016, section 3.1)."""

    data: SentencesConfig
    model: dict[str, Any] = Field({"model_type": "text_vae"}, description="shape: models.text_vae.TextVAEConfig")
    loss: VariationalConfig = VariationalConfig()
    optim: VAEOptim = VAEOptim()


def train_vae(config: ImageVAERun | TextVAERun) -> dict[str, Any]:
    """Run it, or what is left of it; the model is in `out/model`, and the report is returned and in `out/report.json`.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """

    def prepare(device: torch.device, precision: torch.dtype) -> Job:
        model: VAE | TextVAE
        tokenizer: Tokenizer | None = None
        corpus: Any
        if isinstance(config, ImageVAERun):
            with step("reading the images"):
                corpus = open_images(config.data, config.seed)
            model = _image_model(config.model, corpus.shape).to(device)
            unit, nats, capacity = "bits per dimension", math.log(2), config.data.rows
        else:
            texts = Texts(config.data.path, config.data.encoding)
            model, tokenizer = begin(config, config.data, texts, _check_family, device)
            with step("reading the data"):
                corpus = open_sentences(config.data, tokenizer, config.seed)
            unit, nats, capacity = "nats per token", 1.0, config.data.rows * (config.data.seq_len + 1)

        def held_out() -> Iterable[Batch]:
            return islice(corpus.held_out.once(), config.loop.eval_batches)

        def objective(model: Any, batch: Batch) -> tuple[Tensor, int, Metrics]:
            return negative_elbo(model, batch, config.loss, batches_before(corpus.train) // config.loop.micro_batches)

        def evaluate() -> float:
            noise = torch.Generator(device).manual_seed(config.seed)
            return held_out_loss(model, partial(negative_elbo, generator=noise), held_out(), precision) / nats

        return Job(
            model,
            corpus.train,
            objective,
            FullWeights(model, tokenizer),
            {"held_out": evaluate},
            capacity,
            {"rows": len(corpus.train.rows), "unit": unit, "skipped": corpus.skipped},
            lambda: latent_use(model, held_out(), precision),
        )

    return carry_out(config, prepare)


def negative_elbo(
    model: Any,
    batch: Batch,
    config: VariationalConfig = VariationalConfig(),
    step: int = 0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, int, Metrics]:
    """−ELBO, or what `config` makes of it at a step, summed over dimensions or tokens, and how many there are of these.

    Args:
        generator: draws z, and the words that are dropped in training; torch's by default.
    """
    if isinstance(batch, ImageBatch):
        logits_BN, mean_BZ, logvar_BZ = model(batch.pixels_BN, generator=generator)
        nll, n = bernoulli_nll(logits_BN.float(), batch.pixels_BN).sum(), batch.pixels_BN.numel()
    else:
        start_B1 = torch.full_like(batch.ids_BT[:, :1], model.config.decoder_start_token_id)
        read_BT = torch.cat([start_B1, batch.ids_BT[:, :-1]], 1)
        h_BTD, mean_BZ, logvar_BZ = model(batch.ids_BT, read_BT, mask_BT=batch.real_BT, generator=generator)
        targets_N = batch.ids_BT[batch.real_BT]
        nll, n = linear_cross_entropy(h_BTD[batch.real_BT], model.lm_head.weight, None, targets_N), len(targets_N)
    loss, metrics = variational_loss(nll, mean_BZ.float(), logvar_BZ.float(), step, config)
    return loss, n, metrics


def batches_before(stream: RowStream[Any, Any]) -> int:
    """How many batches came before the one that a stream gave last: where a run stands, also after it was stopped."""
    return max(0, stream.epoch * stream.batches_per_epoch + stream.batch - 1)


@torch.no_grad()
def latent_use(model: Any, batches: Iterable[Batch], precision: torch.dtype = torch.float32) -> dict[str, float]:
    """What z says of an example: KL(q ‖ prior) in nats, and how many of its dimensions vary; none after posterior collapse."""
    device, codes = next(model.parameters()).device, list[tuple[Tensor, Tensor]]()
    for batch in batches:
        batch = batch.to(device)
        with autocast(device, precision):
            if isinstance(batch, ImageBatch):
                codes.append(model.encode(batch.pixels_BN))
            else:
                codes.append(model.encode(batch.ids_BT, mask_BT=batch.real_BT))
    mean_BZ, logvar_BZ = (torch.cat(part).float() for part in zip(*codes, strict=True))
    kl = kl_to_prior(mean_BZ, logvar_BZ).sum(-1).mean().item()
    return {"kl": kl, "active_units": int(active_units(mean_BZ).sum()) if len(mean_BZ) > 1 else 0}


def _image_model(given: dict[str, Any], shape: tuple[int, int, int]) -> VAE:
    """A fresh model for images of a shape."""
    decided = {"vector_size": math.prod(shape), "image_shape": shape}
    return VAE(make_config(VAEConfig, {**decided, **given}))


def _check_family(model: Any) -> None:
    if not isinstance(model, TextVAE):
        raise ConfigError("is no auto-encoder of texts", field="model", value=model.config.model_type, hint="text_vae")
