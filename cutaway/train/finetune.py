"""Fine-tuning: all weights or LoRA, with what was learned and what was forgotten reported side by side."""

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cutaway.adapt.lora import LoraConfig, add_lora, fold
from cutaway.core.config import Config
from cutaway.core.device import pick_device, pick_dtype
from cutaway.core.progress import step
from cutaway.core.seeds import seed_all
from cutaway.data.corpus import DataConfig, open_corpus
from cutaway.models.huggingface import save_model
from cutaway.models.load import load
from cutaway.models.packaged import CHAT_MODEL
from cutaway.optim.adamw import OptimConfig
from cutaway.train.checkpoint import AdapterWeights, FullWeights, WeightFiles
from cutaway.train.held_out import file_batches, held_out_loss
from cutaway.train.loop import LoopConfig, train
from cutaway.train.memory import refuse_if_too_large, static_memory, training_memory
from cutaway.train.objectives import LossConfig, causal_lm
from cutaway.train.run import begin_run, check_length, finish_run

RETENTION = Path(__file__).with_name("retention.txt")
"""A text of many kinds, written for this purpose: what a model should still be able to read after it was adapted."""


class FinetuneOptim(OptimConfig):
    """As for pretraining, gentler."""

    lr: float = Field(2e-4, gt=0, description="peak learning rate; for all weights rather 2e-5")
    weight_decay: float = Field(0.0, ge=0)


class FinetuneConfig(Config):
    """Everything a fine-tuning run is made of."""

    out: Path = Field(description="the run's folder; a run that was stopped there goes on")
    data: DataConfig
    model: str = Field(CHAT_MODEL, description="a folder, a .gguf file or a packaged model")
    adapter: Literal["lora", "none"] = Field("lora", description="none: all weights are trained")
    lora: LoraConfig = LoraConfig()
    merge: bool = Field(True, description="with LoRA: also write the model with the adapter merged, ready to serve")
    retention: Path = Field(RETENTION, description="text on which forgetting is measured; by default one that ships")
    loss: LossConfig = LossConfig()
    optim: FinetuneOptim = FinetuneOptim()
    loop: LoopConfig = LoopConfig()
    seed: int = Field(0, ge=0, description="decides the adapter's weights, the order of the data and dropout")
    device: str = "auto"


def finetune(config: FinetuneConfig) -> dict[str, Any]:
    """Run it, or what is left of it; the report is returned and in `out/report.json`.

    `out/model` holds the model, and `out/adapter` the adapter where one was trained. The report gives the held-out loss on
    the new data and on the retention text, before and after, in nats per token.

    Raises:
        CutawayError: whatever of the files, the configuration or the machine stands in the way; `Interrupted` when stopped.
    """
    report = begin_run(config, config.out)
    if report is not None:
        return report
    seed_all(config.seed)
    device = pick_device(config.device)
    precision = pick_dtype(config.loop.precision, device)
    with step("loading the model"):
        loaded = load(config.model, dtype="float32", device=str(device))
    model, tokenizer = loaded.model, loaded.tokenizer
    check_length(config.data, model)
    with step("reading the data"):
        corpus = open_corpus(config.data, tokenizer, config.seed)
        retention = file_batches(config.retention, tokenizer, config.data.seq_len, config.data.rows)
    files: WeightFiles = FullWeights(model, tokenizer)
    if config.adapter == "lora":
        add_lora(model, config.lora)
        files = AdapterWeights(model, config.lora, config.model)
    memory = training_memory(model, config.data.rows, config.data.seq_len, precision)
    refuse_if_too_large(memory, device, held=static_memory(model).weights)
    parameters = {
        "all": sum(parameter.numel() for parameter in model.parameters()),
        "trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    }

    def evaluate() -> float:
        batches = islice(corpus.held_out.once(), config.loop.eval_batches)
        return held_out_loss(model, causal_lm, batches, precision)

    def evaluate_retention() -> float:
        return held_out_loss(model, causal_lm, retention, precision)

    with step("evaluating before"):
        before = {"new": evaluate(), "retention": evaluate_retention()}
    objective = partial(causal_lm, config=config.loss)
    outcome = train(model, corpus.train, objective, files, config.out, config.loop, config.optim, evaluate)
    after = {"new": outcome.best, "retention": evaluate_retention()}
    if config.adapter == "lora" and config.merge:
        fold(model)
        save_model(model, tokenizer, config.out / "model")
    report = {
        "model": config.model,
        "adapter": config.adapter,
        "parameters": parameters,
        "steps": outcome.steps,
        "tokens": outcome.tokens,
        "held_out_loss": {name: {"before": before[name], "after": after[name]} for name in before},
        "best_step": outcome.best_step,
        "skipped": corpus.skipped,
    }
    finish_run(config.out, report)
    return report
