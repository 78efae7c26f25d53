"""What a run would take, before it is begun: parameters, FLOPs, memory by part, micro-batch, time.

Everything is asked of a model of fake tensors, which has shapes and no numbers: 70 billion parameters take two seconds.
What is an assumption (the share of peak) is a field of the report.

    compute   C = flops of a row / its tokens · tokens;  seconds = C / (devices · peak · mfu)
    devices   readers · loop.parallel.tensor; each of them is one process
"""

from collections.abc import Iterator
from dataclasses import asdict
from math import ceil, floor
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from cutaway.adapt.lora import LoraConfig, add_lora
from cutaway.core.config import make_config
from cutaway.core.device import pick_device, pick_dtype
from cutaway.core.errors import ConfigError, near_matches
from cutaway.data.corpus import DataConfig
from cutaway.data.spans import side_lengths
from cutaway.models.catalogue import PRECISIONS, cache_per_token
from cutaway.models.decoder import Decoder
from cutaway.models.families import config_class, families, is_known
from cutaway.models.load import find, read_shape
from cutaway.models.rnn import RNNSeq2Seq
from cutaway.text.load import load_tokenizer
from cutaway.train.finetune import FinetuneConfig
from cutaway.train.footprint import fake_model, kept_for_backward
from cutaway.train.machine import Device, MachineConfig, Precision
from cutaway.train.parallel import check_processes
from cutaway.train.parameters import count_parameters
from cutaway.train.pretrain import PretrainConfig, check_objective, with_head
from cutaway.train.recipe import RunConfig
from cutaway.train.run import check_length
from cutaway.train.shard import check_experts, travel_format
from cutaway.train.slurm import SlurmConfig, sbatch_script
from cutaway.train.step_memory import SLACK, Sharing, step_memory
from cutaway.train.tensor_parallel import keep_part
from cutaway.train.throughput import flops_per_row

TOKENS_PER_PARAMETER = 20
"""Where more parameters and more tokens help equally at a given compute (Hoffmann et al. 2022, table 3, approach 1)."""

_RECOMPUTED = 4 / 3  # activation checkpointing runs every forward pass twice: 8 products for each 6


class PlannedData(DataConfig):
    """Where the data is does not matter to a plan; how long rows are does."""

    path: tuple[Path, ...] | Path = Path()


class PlanConfig(PretrainConfig, FinetuneConfig):  # type: ignore[misc]
    """A run, in the words of both recipes so that their files can be planned as they are, and a machine."""

    out: Path = Path("run")
    data: PlannedData = PlannedData()
    model: dict[str, Any] | str = Field(  # type: ignore[assignment]
        {"model_type": "llama"}, description="family and shape; or a checkpoint, of which only the shape is read"
    )
    adapter: Literal["lora", "none"] = "none"
    lora: LoraConfig = LoraConfig()
    machine: MachineConfig = MachineConfig()
    sharding: Literal["auto", "none", "fsdp"] = Field(
        "auto", description="fsdp: every device holds a part of the model; auto: so it is with several devices"
    )
    tokens: float | None = Field(None, gt=0, description="of the run; null: by loop.steps, else 20 per parameter")
    slurm: SlurmConfig = SlurmConfig()
    mfu: float = Field(0.4, gt=0, le=1, description="share of the peak that the model's own FLOPs are expected to get")

    @model_validator(mode="after")
    def _one_recipe(self) -> "PlanConfig":
        if isinstance(self.model, str) and self.objective != "causal":
            raise ValueError(
                f"`finetune` has no objective {self.objective}; `pretrain` goes on from start={self.model}"
            )
        return self


def plan(config: PlanConfig) -> dict[str, Any]:
    """The report: plain values, in bytes, FLOPs, tokens and seconds.

    Raises:
        ConfigError: a model that `pretrain` and `finetune` cannot train, or that cannot be counted; settings that contradict each
            other.
    """
    if config.sharding == "fsdp" and config.machine.devices == 1:
        raise ConfigError("needs several devices", field="sharding", value="fsdp", hint="machine.devices=8")
    check_processes(config.loop.parallel, config.machine.devices)
    model = planned_model(config)
    check_length(config.data, model)
    parameters = count_parameters(model)
    device, precision = config.machine.device(), _precision(config)
    source, length = _row(config)
    step_tokens = config.data.rows * (source + length) * config.loop.micro_batches * _readers(config)
    hint = TOKENS_PER_PARAMETER * parameters["all"]
    tokens = config.tokens or (config.loop.steps * step_tokens if config.loop.steps else hint)
    per_token = flops_per_row(model, length, source) / (source + length)
    choices = list(_choices(config, _part(config, model), device))
    sharding = ("fsdp" if config.machine.devices > 1 else "none") if config.sharding == "auto" else config.sharding
    wanted = {"precision": precision, "sharding": sharding, "checkpointing": config.loop.checkpointing}
    chosen = next(choice for choice in choices if wanted.items() <= choice.items())
    computed = per_token * tokens * (_RECOMPUTED if config.loop.checkpointing else 1)
    seconds = computed / (config.machine.devices * device.flops[precision] * config.mfu)
    return {
        "parameters": parameters,
        "tokens": {"step": step_tokens, "run": int(tokens), "chinchilla": hint},
        "flops": {"token": per_token, "run": per_token * tokens, "computed": computed},
        "machine": {
            **config.machine.model_dump(include={"name", "devices"}),
            "readers": _readers(config),
            **config.loop.parallel.model_dump(),
            "flops": device.flops[precision],
            "memory": device.memory,
            "nodes": config.machine.nodes,
            "devices_on_a_node": min(config.machine.devices, config.machine.per_node),
            "is_gpu": device.is_gpu,
            "source": device.source,
        },
        "memory": chosen,
        "choices": choices,
        "suggested": _suggested(config, chosen),
        "time": {"seconds": seconds, "device_hours": seconds / 3600 * config.machine.devices, "mfu": config.mfu},
        "serving": _serving(model, parameters["all"], device.memory),
    }


def slurm_script(config: PlanConfig, report: dict[str, Any]) -> str:
    """The planned run as a job; see `slurm.sbatch_script`.

    Raises:
        ConfigError: a plan that the recipes do not carry out: they always share a model among several devices.
    """
    if config.sharding == "none" and config.machine.devices > 1:
        raise ConfigError("the recipes shard over several devices", field="sharding", value="none", hint="auto")
    recipe: type[RunConfig] = FinetuneConfig if isinstance(config.model, str) else PretrainConfig
    given = config.model_dump(mode="json", exclude_unset=True, include=set(recipe.model_fields))
    if config.tokens and config.loop.steps is None:
        given.setdefault("loop", {})["steps"] = ceil(config.tokens / report["tokens"]["step"])
    return sbatch_script(config.slurm, given, report, "pretrain" if recipe is PretrainConfig else "finetune")


def planned_model(config: PlanConfig) -> Any:
    """The model of fake tensors, with its adapters where the run has them."""
    module, shape = _shape(with_head(config) if isinstance(config.model, dict) else config)
    if hasattr(
        shape, "rope_scaling"
    ):  # it has no weights and takes no memory, and one kind looks at the positions' values
        shape = shape.model_copy(update={"rope_scaling": type(shape.rope_scaling)()})

    def build() -> Any:
        model = module.build(shape)
        _check(config, model)
        if config.adapter == "lora":
            add_lora(model, config.lora)
        return model

    return fake_model(build)


def _check(config: PlanConfig, model: Any) -> None:
    check_objective(config, model)
    if isinstance(model, RNNSeq2Seq):
        raise ConfigError(
            "recurrent layers are not counted", field="model.model_type", value="rnn_seq2seq", hint="t5 or transformer"
        )


def _row(config: PlanConfig) -> tuple[int, int]:
    """Tokens of a row that an encoder-decoder reads and that it writes; of any other model, none and all."""
    if config.objective == "spans":
        return side_lengths(config.data.seq_len, config.masking)
    return 0, config.data.seq_len


def _readers(config: PlanConfig) -> int:
    """Processes that read different rows."""
    return config.machine.devices // config.loop.parallel.tensor


def _part(config: PlanConfig, model: Any) -> Any:
    """The model as one process has it before its weights are shared: whole, or split where products are."""
    parallel = config.loop.parallel
    check_experts(model, parallel.experts)
    if parallel.tensor == 1:
        return model
    part = planned_model(config)
    keep_part(part, parallel.tensor, whole_experts=parallel.experts > 1)
    return part


def _choices(config: PlanConfig, model: Any, device: Device) -> Iterator[dict[str, Any]]:
    """Every combination of precision, sharding and checkpointing: memory at the configured rows, and the rows that fit."""
    source, length = _row(config)
    formats: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    for precision, dtype in formats.items():
        per_row, fixed = kept_for_backward(model, length, dtype, source)
        device_type = "cuda" if device.is_gpu else "cpu"
        travel = travel_format(model, device_type, dtype)
        shared = Sharing(_readers(config), config.loop.parallel.experts, travel)
        for sharding in ("none", "fsdp") if config.machine.devices > 1 else ("none",):
            for checkpointing in (False, True):
                needed = step_memory(
                    model,
                    per_row,
                    fixed,
                    rows=config.data.rows,
                    length=length,
                    precision=dtype,
                    checkpointing=checkpointing,
                    device_type=device_type,
                    sharing=shared if sharding == "fsdp" else None,
                )
                room = device.memory - (needed.total - SLACK * needed.activations)
                yield {
                    "precision": precision,
                    "sharding": sharding,
                    "checkpointing": checkpointing,
                    "rows": config.data.rows,
                    **asdict(needed),
                    "total": needed.total,
                    "fits": needed.total <= device.memory,
                    "most_rows": max(0, floor(room / (SLACK * needed.activations) * config.data.rows)),
                }


def _suggested(config: PlanConfig, chosen: dict[str, Any]) -> dict[str, int] | None:
    """As many rows at a time as fit, and micro-batches that leave the tokens of a step as they are; None where no row fits."""
    in_all = config.data.rows * config.loop.micro_batches
    fitting = [rows for rows in range(1, in_all + 1) if in_all % rows == 0 and rows <= chosen["most_rows"]]
    return {"data.rows": fitting[-1], "loop.micro_batches": in_all // fitting[-1]} if fitting else None


def _serving(model: Any, parameters: int, memory: float) -> dict[str, Any] | None:
    """Of a decoder: weights by format, the cache (bfloat16) of one token, and how many whole contexts fit beside the weights."""
    if not isinstance(model, Decoder):
        return None
    per_token = cache_per_token(model)
    context = min(model.context, model.window or model.context)
    weights = {name: int(parameters * bits / 8) for name, bits in PRECISIONS.items()}
    fit = {name: max(0, floor((memory - size) / (per_token * context))) for name, size in weights.items()}
    return {"weights": weights, "cache_per_token": per_token, "context": context, "contexts_that_fit": fit}


def _shape(config: PlanConfig) -> tuple[Any, Any]:
    """The family's module and its configuration."""
    checkpoint = config.start or (config.model if isinstance(config.model, str) else None)
    if checkpoint is not None:
        return read_shape(find(checkpoint))
    assert isinstance(config.model, dict)
    kind = config.model.get("model_type", "llama")
    if not is_known(kind):
        raise ConfigError("unknown", field="model.model_type", value=kind, hint=near_matches(str(kind), families()))
    module, fields = families()[kind], {**config.model, "model_type": kind}
    if "vocab_size" in config_class(module).model_fields.keys() - fields.keys():  # the run would take its tokeniser's
        own = config.tokenizer
        fields["vocab_size"] = load_tokenizer(own).vocab_size if own else config.train_tokenizer.vocab_size
    return module, make_config(config_class(module), fields)


def _precision(config: PlanConfig) -> Precision:
    """The format of the products; of a device that is not at hand, `auto` is bfloat16."""
    if config.loop.precision != "auto":
        return config.loop.precision
    if config.machine.name != "this":
        return "bfloat16"
    return "bfloat16" if pick_dtype("auto", pick_device()) == torch.bfloat16 else "float32"
