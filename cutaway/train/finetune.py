"""Fine-tuning: all weights or LoRA, with what was learned and what was forgotten reported side by side."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from cutaway.adapt.lora import LoraConfig, add_lora, fold
from cutaway.core.progress import step
from cutaway.data.corpus import DataConfig, open_corpus
from cutaway.models.decoder import check_decoder
from cutaway.models.huggingface import save_model
from cutaway.models.load import load
from cutaway.models.packaged import CHAT_MODEL
from cutaway.optim.adamw import OptimConfig
from cutaway.train.checkpoint import AdapterWeights, FullWeights, WeightFiles
from cutaway.train.held_out import file_batches, held_out_loss, on_held_out
from cutaway.train.objectives import LossConfig, causal_lm
from cutaway.train.recipe import Job, RunConfig, carry_out
from cutaway.train.run import check_length

RETENTION = Path(__file__).with_name("retention.txt")
"""A text of many kinds, written for this purpose: what a model should still be able to read after it was adapted."""


class FinetuneOptim(OptimConfig):
    """As for pretraining, gentler."""

    lr: float = Field(2e-4, gt=0, description="peak learning rate; for all weights rather 2e-5")
    weight_decay: float = Field(0.0, ge=0)


class FinetuneConfig(RunConfig):
    """Everything a fine-tuning run is made of."""

    data: DataConfig
    model: str = Field(CHAT_MODEL, description="a folder, a .gguf file or a packaged model")
    adapter: Literal["lora", "none"] = Field("lora", description="none: all weights are trained")
    lora: LoraConfig = LoraConfig()
    merge: bool = Field(True, description="with LoRA: also write the model with the adapter merged, ready to serve")
    retention: Path = Field(RETENTION, description="text on which forgetting is measured; by default one that ships")
    loss: LossConfig = LossConfig()
    optim: FinetuneOptim = FinetuneOptim()


def finetune(config: FinetuneConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the report is returned and in `out/report.json`.

    `out/model` holds the model, and `out/adapter` the adapter where one was trained. The report gives the held-out loss on
    the new data and on the retention text, before and after, in nats per token.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """

    def prepare(device: torch.device, precision: torch.dtype) -> Job:
        with step("loading the model"):
            loaded = load(config.model, dtype="float32", device=str(device))
        model, tokenizer = loaded.model, loaded.tokenizer
        check_decoder(model)
        check_length(config.data, model)
        with step("reading the data"):
            corpus = open_corpus(config.data, tokenizer, config.seed)
            retention = file_batches(config.retention, tokenizer, config.data.seq_len, config.data.rows)
        files: WeightFiles = FullWeights(model, tokenizer)
        if config.adapter == "lora":
            add_lora(model, config.lora)
            files = AdapterWeights(model, config.lora, config.model)

        def finish() -> dict[str, Any]:
            if config.adapter == "lora" and config.merge:
                fold(model)
                save_model(model, tokenizer, config.out / "model")
            return {}

        return Job(
            model,
            corpus.train,
            partial(causal_lm, config=config.loss),
            files,
            {
                "new": on_held_out(model, causal_lm, corpus.held_out, precision, config.loop.eval_batches),
                "retention": lambda: held_out_loss(model, causal_lm, retention, precision),
            },
            config.data.rows * config.data.seq_len,
            {"model": config.model, "adapter": config.adapter, "skipped": corpus.skipped},
            finish,
        )

    return carry_out(config, prepare)
