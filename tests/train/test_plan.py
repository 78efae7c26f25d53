"""The planner's numbers against published counts, the models that are built, and what a real step holds."""

import json
import subprocess
import sys
import time
import weakref
from functools import partial
from typing import Any

import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from cutaway.adapt.lora import LoraConfig, add_lora
from cutaway.core.config import load_config
from cutaway.core.errors import CheckpointError, ConfigError, CutawayError, ResourceError
from cutaway.data.batch import Batch
from cutaway.data.masking import MaskingConfig
from cutaway.data.pairs import PairBatch
from cutaway.data.spans import cut_out, noise_spans
from cutaway.models.families import make_model
from cutaway.optim.adamw import OptimConfig, make_adamw
from cutaway.train.blocks import all_blocks
from cutaway.train.footprint import fake_model, kept_for_backward
from cutaway.train.gradients import accumulate
from cutaway.train.memory import activation_bytes
from cutaway.train.objectives import causal_lm, masked_lm, seq2seq_lm
from cutaway.train.parameters import count_parameters
from cutaway.train.plan import PlanConfig, plan, planned_model, slurm_script
from cutaway.train.recompute import recomputed_blocks
from cutaway.train.step_memory import step_memory
from cutaway.train.throughput import flops_per_row, flops_per_token

LLAMA_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
LLAMA_70B = {
    **LLAMA_7B,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}
MIXTRAL = {**LLAMA_7B, "model_type": "mixtral", "intermediate_size": 14336, "num_key_value_heads": 8}
T5_BASE = {
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": 768,
    "d_ff": 3072,
    "num_layers": 12,
    "num_heads": 12,
    "d_kv": 64,
}
PARTS = ("weights", "gradients", "optimiser", "copies", "activations", "logits")
GPT2 = {"model_type": "gpt2", "vocab_size": 50257}
SMALL: dict[str, dict[str, Any]] = {
    "llama": {"vocab_size": 3000, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4},
    "untied": {"vocab_size": 9000, "hidden_size": 128, "num_hidden_layers": 2, "tie_word_embeddings": False},
    "gpt2": {"model_type": "gpt2", "vocab_size": 3000, "n_embd": 128, "n_layer": 4, "n_head": 4},
    "mixtral": {"model_type": "mixtral", "vocab_size": 3000, "hidden_size": 128, "num_hidden_layers": 2},
    "qwen3_moe": {"model_type": "qwen3_moe", "vocab_size": 3000, "hidden_size": 128, "num_hidden_layers": 2},
    "composed": {
        "model_type": "composed",
        "vocab_size": 3000,
        "hidden_size": 96,
        "num_experts": 4,
        "attention": "latent",
    },
    "bert": {"model_type": "bert", "head": "masked", "vocab_size": 3000, "num_hidden_layers": 2, "hidden_size": 96},
    "t5": {
        "model_type": "t5",
        "vocab_size": 3000,
        "d_model": 96,
        "d_ff": 256,
        "d_kv": 16,
        "num_layers": 3,
        "num_heads": 4,
        "tie_word_embeddings": False,
    },
    "transformer": {"model_type": "transformer", "vocab_size": 3000, "hidden_size": 96, "intermediate_size": 256},
}
OBJECTIVES = {"bert": "masked", "t5": "spans", "transformer": "spans"}
SPANS = [name for name, objective in OBJECTIVES.items() if objective == "spans"]


def planned(*settings: str, **model: Any) -> dict[str, Any]:
    return plan(configured(*settings, **model))


def configured(*settings: str, **model: Any) -> PlanConfig:
    shape = [f"model.{name}={json.dumps(value)}" for name, value in model.items()]
    objective = f"objective={OBJECTIVES.get(model.get('model_type', 'llama'), 'causal')}"
    return load_config(PlanConfig, None, ["machine.name=h100", objective, *shape, *settings])


def random_batch(name: str, rows: int, length: int, source: int) -> tuple[Any, Any]:
    """Ids of a small model, and the objective that it is trained on."""
    ids = torch.randint(3000, (rows, length))
    if name in SPANS:
        read = torch.randint(3000, (rows, source))
        return PairBatch(read, torch.ones_like(read, dtype=torch.bool), ids, ids.roll(-1)), seq2seq_lm
    batch = Batch(ids, ids.roll(-1), torch.arange(length).expand(rows, -1), torch.ones_like(ids))
    return batch, masked_lm if name == "bert" else causal_lm


@pytest.mark.parametrize(
    ("shape", "all_of_them", "active"),
    [
        (GPT2, 124_439_808, 124_439_808),  # Hugging Face's gpt2
        (LLAMA_7B, 6_738_415_616, 6_738_415_616),  # Touvron et al. 2023: 6.7B
        (LLAMA_70B, 68_976_648_192, 68_976_648_192),  # Llama 2 70B
        (MIXTRAL, 46_702_792_704, 12_879_925_248),  # Jiang et al. 2024: 47B, 13B active
        (T5_BASE, 222_903_552, 222_903_552),  # Hugging Face's t5-base
    ],
)
def test_parameters_are_the_published_ones(shape, all_of_them, active):
    found = planned(**shape)["parameters"]
    assert (found["all"], found["active"]) == (all_of_them, active)
    assert sum(found["by_part"].values()) == all_of_them


@pytest.mark.parametrize("name", SMALL)
def test_parameters_are_those_of_the_built_model(name):
    model = make_model(SMALL[name])
    found = count_parameters(planned_model(configured(**SMALL[name])))
    assert found == count_parameters(model)
    assert found["all"] == found["trained"] == sum(weight.numel() for weight in model.parameters())
    assert found["by_part"]["embeddings"] >= model.embedding.weight.numel()


def test_70_billion_parameters_take_seconds_and_no_memory():
    words = ["machine=h100", *(f"model.{name}={json.dumps(value)}" for name, value in LLAMA_70B.items())]
    code = (
        "import sys, time; from cutaway.core.config import load_config; from cutaway.train.plan import *\n"
        f"config = load_config(PlanConfig, None, {words!r})\n"
        "started = time.process_time(); plan(config)\n"
        "seconds = time.process_time() - started\n"
        # Not ru_maxrss, which begins with what the parent held.
        "print(seconds, *(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 10, "seconds of a processor; 2.5 on an idle one"
    assert kilobytes < 1.5e6


class Alive(TorchDispatchMode):
    """The most bytes of tensors that were alive at a time."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, weakref.ref] = {}

    def note(self, tensor):
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.now += size
            self.peak = max(self.peak, self.now)
            self.known[key] = weakref.ref(storage, lambda _: self.gone(key, size))
        return tensor

    def gone(self, key, size):
        del self.known[key]
        self.now -= size

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return tree_map_only(torch.Tensor, self.note, function(*args, **(kwargs or {})))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SMALL)
def test_memory_is_what_a_real_step_holds(name, precision, checkpointing):
    shape, rows = SMALL[name], 3
    source, length = (170, 50) if name in SPANS else (0, 160)
    dtype = getattr(torch, precision)
    fake = fake_model(partial(make_model, shape))
    per_row, fixed = kept_for_backward(fake, length, dtype, source)
    expected = step_memory(fake, per_row, fixed, rows=rows, length=length, precision=dtype, checkpointing=checkpointing)
    model, (batch, objective) = make_model(shape), random_batch(name, rows, length, source)
    optimizer = make_adamw(model, OptimConfig())
    alive = Alive()
    for weight in model.parameters():
        alive.note(weight)
    with alive, recomputed_blocks(model, checkpointing):
        for _ in range(2):  # the optimiser's state is there from the second step on
            accumulate(model, objective, [batch, batch], precision=dtype)
            optimizer.step()
            optimizer.zero_grad()
    if checkpointing:  # the logits and the block that is computed again are never there together; the plan has both
        assert alive.peak < expected.total < 1.5 * alive.peak
    else:
        assert expected.total / 1.1 == pytest.approx(alive.peak, rel=0.15)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_check_before_a_run_counts_what_the_plan_counts(precision):
    """Also where activations have the shape of a weight: as many positions as the model is wide."""
    shape, dtype = {**SMALL["llama"], "num_hidden_layers": 1}, getattr(torch, precision)
    model, kept = make_model(shape), {}
    for length in (128, 131):
        ids = torch.randint(3000, (1, length))
        batch = Batch(ids, ids.roll(-1), torch.arange(length).expand(1, -1), torch.ones_like(ids))
        per_row, _ = kept_for_backward(fake_model(partial(make_model, shape)), length, dtype)
        found = activation_bytes(model, lambda model, batch: model(batch.ids_BT), batch, dtype)
        assert found == pytest.approx(per_row.total, rel=0.02)  # rotary tables serve all rows
        kept[length] = activation_bytes(model, causal_lm, batch, dtype) - model.embedding.weight.nbytes  # its gradient
    assert kept[128] / 128 == pytest.approx(kept[131] / 131, rel=0.01)


@pytest.mark.parametrize("name", SMALL)
def test_what_is_kept_grows_with_the_rows_alone(name):
    fake = fake_model(partial(make_model, SMALL[name]))
    (short, fixed), (long, _) = (
        kept_for_backward(fake, length, torch.float32, 2 * length if name in SPANS else 0) for length in (40, 80)
    )
    square = 0.2 if name == "t5" else 0.05  # with which masks grow, and biases
    assert long.total == pytest.approx(2 * short.total, rel=square)
    assert short.checkpointed < short.total
    assert fixed.total < short.total
    assert len(short.blocks) == len(all_blocks(fake))


def test_flops_are_those_that_torch_counts():
    model, length = make_model({**SMALL["llama"], "attention": "reference"}), 32
    with FlopCounterMode(display=False) as counter:
        model.logits(model(torch.zeros(1, length, dtype=torch.int64))).sum().backward()
    # Torch counts attention in full; the formula, of a causal row, counts half of it.
    attention = 6 * len(model.blocks) * model.config.width * length
    assert counter.get_total_flops() / length == pytest.approx(flops_per_token(model, length) + attention, rel=0.02)


@pytest.mark.parametrize("name", SPANS)
def test_flops_of_source_and_target_are_those_that_torch_counts(name):
    shape = {**SMALL[name], "d_kv": 40} if name == "t5" else SMALL[name]  # heads wider than the model, as in T5-11B
    model, length, source = make_model({**shape, "attention": "reference"}), 16, 48
    ids, read = torch.zeros(1, length, dtype=torch.int64), torch.zeros(1, source, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model.logits(model(ids, model.encode(read))).sum().backward()
    width = model.config.kv_heads * model.config.kv_width
    causal = 6 * len(model.blocks) * width * length**2  # as above
    assert counter.get_total_flops() == pytest.approx(flops_per_row(model, length, source) + causal, rel=0.01)


def test_spans_are_planned_as_long_as_they_come():
    """Source and target of a row follow from its length alone; a token of the run is one of either."""
    spans = ["data.seq_len=200", "data.rows=4", "masking.share=0.25", "loop.steps=10", "loop.parallel.tensor=2"]
    report = planned(*spans, "machine.devices=4", **SMALL["t5"])
    masking = MaskingConfig(share=0.25)
    noise = noise_spans(200, masking, torch.Generator().manual_seed(0))
    source, target = (len(side) + 1 for side in cut_out([0] * 200, noise.tolist(), range(100)))
    assert report["tokens"]["step"] == 2 * 4 * (source + target)
    assert report["flops"]["run"] == pytest.approx(
        10 * 2 * 4 * flops_per_row(make_model(SMALL["t5"]), target, source), rel=1e-9
    )
    assert report["parameters"]["by_part"]["attention"] == 3 * (4 + 8) * 96 * 64 + 2 * 32 * 4  # and biases by distance
    assert report["serving"] is None
    config = configured(*spans, "machine.devices=4", "data.path=x", "out=y", **SMALL["t5"])
    assert "-m cutaway pretrain" in (script := slurm_script(config, report))
    assert "objective=spans" in script


def test_an_adapter_trains_few_and_costs_less():
    whole, adapted = planned(**SMALL["llama"]), planned("adapter=lora", "lora.rank=4", **SMALL["llama"])
    model = make_model(SMALL["llama"])
    add_lora(model, LoraConfig(rank=4))
    assert adapted["parameters"] == count_parameters(model)
    assert adapted["parameters"]["trained"] == adapted["parameters"]["by_part"]["adapters"]
    assert adapted["memory"]["optimiser"] < whole["memory"]["optimiser"] / 10
    assert adapted["flops"]["token"] < whole["flops"]["token"]


def test_tokens_time_and_flops_hang_together():
    report = planned("tokens=1e9", "machine.devices=4", "mfu=0.5", "loop.checkpointing=true", **SMALL["llama"])
    assert report["flops"]["run"] == report["flops"]["token"] * 1e9
    seconds = report["flops"]["run"] / (4 * 989.4e12 * 0.5)
    assert report["time"]["seconds"] == pytest.approx(seconds * 4 / 3)
    assert report["tokens"]["chinchilla"] == 20 * report["parameters"]["all"]
    assert planned("loop.steps=10", **SMALL["llama"])["tokens"]["run"] == 10 * 8 * 512
    assert planned(**SMALL["llama"])["tokens"]["run"] == 20 * report["parameters"]["all"]


def configured_on(memory: float, *settings: str) -> dict[str, Any]:
    return plan(load_config(PlanConfig, None, ["machine.flops=1e12", f"machine.memory={memory}", *settings]))


def test_suggested_rows_fit_and_leave_the_step_as_it_is():
    roomy = configured_on(8e9, "data.rows=32", "loop.micro_batches=2")
    assert roomy["suggested"] == {"data.rows": 64, "loop.micro_batches": 1}
    tight = configured_on(1e9, "data.rows=32", "loop.micro_batches=2")
    rows = tight["suggested"]["data.rows"]
    assert rows * tight["suggested"]["loop.micro_batches"] == 64
    assert rows <= tight["memory"]["most_rows"] < 2 * rows or 64 % (2 * rows)
    again = configured_on(1e9, f"data.rows={rows}")
    assert again["memory"]["fits"]
    assert configured_on(1e8)["suggested"] is None


def test_sharding_divides_what_can_be_divided():
    report = planned("machine.devices=8", **LLAMA_7B)
    by = {(c["precision"], c["sharding"], c["checkpointing"]): c for c in report["choices"]}
    whole, shared = by["bfloat16", "none", False], by["bfloat16", "fsdp", False]
    for part in ("weights", "gradients", "optimiser"):
        assert shared[part] == whole[part] // 8
    assert shared["activations"] == whole["activations"]
    block, outside = 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096, 2 * 32000 * 4096 + 4096
    # Two blocks and a gradient in bfloat16; that gradient, what is outside and its gradient in float32.
    assert shared["copies"] == pytest.approx((3 * 2 + 4) * block + 2 * 4 * outside, rel=0.01)
    assert report["memory"] == shared  # as the recipes do with several devices
    assert whole["weights"] == 4 * 6_738_415_616
    assert by["bfloat16", "fsdp", True]["activations"] < shared["activations"] / 5
    assert not whole["fits"]


@pytest.mark.parametrize(("tensor", "readers"), [(1, 16), (2, 8), (8, 2)])
def test_a_7b_run_by_hand(tensor, readers):
    """Llama 7B (D 4096, F 11008, 32 blocks, V 32000) on 16 GPUs in bfloat16 with activation checkpointing, 2 rows of 2048."""
    report = planned(
        "machine.devices=16",
        f"loop.parallel.tensor={tensor}",
        "loop.checkpointing=true",
        "data.rows=2",
        "data.seq_len=2048",
        "loop.steps=1000",
        **LLAMA_7B,
    )
    memory, D, F, N = report["memory"], 4096, 11008, 2 * 2048
    products, norms, outside = 4 * D * D + 3 * D * F, 2 * D, 2 * 32000 * D + D
    held = (32 * (products / tensor + norms) + outside) / readers  # parameters that one process stores
    assert memory["weights"] == pytest.approx(4 * held, rel=1e-6)
    assert memory["gradients"] == memory["weights"]
    assert memory["optimiser"] == pytest.approx(8 * held, rel=1e-6)
    gathered = 10 * (products / tensor + norms) + 8 * outside
    assert memory["copies"] == pytest.approx(gathered, rel=0.01)
    # Kept of every block: its input in float32. Of one block, computed again: of each of its norms the input and what is scaled,
    # in float32; in bfloat16 the inputs of q, k, v, gate and up, each cast for itself, then q, k, v, what attention gives, both
    # hidden products, the activation and the product. Outside: of the last norm.
    one_block = D * (2 * 8 + 5 * 2) + 2 * (4 * D + 4 * F) / tensor
    assert memory["activations"] == pytest.approx(N * (32 * 4 * D + one_block + 8 * D), rel=0.01)
    assert memory["total"] / 1.1 == pytest.approx(sum(memory[part] for part in PARTS), rel=1e-6)
    assert memory["fits"]
    # 6 FLOPs per weight of a product and token, 6 · layers · D · length for the scores; a third more to compute blocks again.
    token = 6 * (32 * products + 32000 * D) + 6 * 32 * D * 2048
    assert report["flops"]["token"] == pytest.approx(token, rel=1e-6)
    assert report["tokens"]["step"] == readers * N  # those that share products read the same rows
    assert report["flops"]["computed"] == pytest.approx(4 / 3 * token * 1000 * readers * N, rel=1e-6)
    seconds = report["flops"]["computed"] / (16 * 989.4e12 * 0.4)
    assert report["time"]["seconds"] == pytest.approx(seconds, rel=1e-6)
    most = memory["most_rows"]
    assert report["suggested"]["data.rows"] == 2 <= most


def test_experts_are_stored_once_and_put_together_in_part():
    one, two = (planned("machine.devices=8", f"loop.parallel.experts={n}", **MIXTRAL)["memory"] for n in (1, 4))
    for part in ("weights", "gradients", "optimiser", "activations"):
        assert one[part] == two[part]
    experts = 8 * 3 * 4096 * 14336
    assert one["copies"] - two["copies"] == pytest.approx(10 * experts * 3 / 4, rel=1e-6)


def test_serving_counts_the_cache():
    serving = planned(**MIXTRAL)["serving"]
    assert serving["cache_per_token"] == 2 * 32 * 8 * 128 * 2  # keys and values · layers · heads · width · bytes
    assert serving["weights"]["bfloat16"] == 2 * 46_702_792_704
    assert serving["contexts_that_fit"]["bfloat16"] == 0
    assert planned(**SMALL["bert"])["serving"] is None
    latents = {"model_type": "composed", "attention": "latent", "latent_size": 24, "rotary_size": 8}
    held = make_model(latents).new_cache(1, 1).nbytes  # in float32
    assert 2 * planned(**latents)["serving"]["cache_per_token"] == held


def test_a_run_s_own_file_can_be_planned(tmp_path, tiny_folder):
    pretraining = {"data": {"path": "book.txt", "seq_len": 64}, "out": "runs/a", "model": SMALL["llama"]}
    finetuning = {"data": {"path": "a.jsonl"}, "out": "b", "model": str(tiny_folder), "adapter": "lora", "merge": False}
    for name, values in (("a", pretraining), ("b", finetuning)):
        (tmp_path / name).write_text(yaml.safe_dump(values))
        report = plan(load_config(PlanConfig, tmp_path / name, ["machine=rtx4090"]))
        assert report["memory"]["fits"]
        script = slurm_script(load_config(PlanConfig, tmp_path / name, ["machine=rtx4090"]), report)
        assert f"-m cutaway {'pretrain' if name == 'a' else 'finetune'} " in script


def test_a_packaged_gguf_can_be_planned(smollm2):
    report = plan(load_config(PlanConfig, None, [f"model={smollm2}", "machine=cpu2", "adapter=lora"]))
    assert report["parameters"]["all"] - report["parameters"]["by_part"]["adapters"] == 134_515_008


def test_the_script_is_bash_and_says_what_was_asked(tmp_path):
    config = load_config(
        PlanConfig,
        None,
        [
            "machine.name=h100",
            "machine.devices=16",
            "loop.parallel.tensor=2",
            "tokens=1e6",
            "data.path=it's mine; rm x.txt",
            "out=runs/$HOME",
            "slurm.partition=gpu",
            "slurm.hours=30.5",
            *(f"model.{name}={json.dumps(value)}" for name, value in SMALL["llama"].items()),
        ],
    )
    script = tmp_path / "job.sh"
    script.write_text(slurm_script(config, plan(config)))
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    for line in ("nodes=2", "gpus-per-node=8", "time=1-06:30:00", "partition=gpu", "signal=TERM@120"):
        assert f"#SBATCH --{line}\n" in text
    assert "machine" not in text
    # What bash would hand to cutaway, with srun and scontrol of our own.
    (tmp_path / "srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / "scontrol").write_text("#!/bin/bash\necho node1\necho node2\n")
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n",
    }
    words = subprocess.run(
        ["bash", script], env=variables, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "--rdzv-endpoint=node1:29500" in words
    assert words[words.index("-m") :][:3] == ["-m", "cutaway", "pretrain"]
    assert "data.path=it's mine; rm x.txt" in words
    assert "out=runs/$HOME" in words
    settings = words[words.index("pretrain") + 1 :]
    again = load_config(PlanConfig, None, settings)
    assert again.model == SMALL["llama"]
    assert again.loop.parallel.tensor == 2
    assert again.loop.steps == 31  # 8 readers of 8 rows of 512: 32,768 tokens a step
    assert {"--nnodes=2", "--nproc-per-node=8"} <= set(words)


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        (["machine=h101"], ConfigError, "did you mean h100"),
        (["machine.flops=-1"], ConfigError, "machine.flops"),
        (["machine.devices=0"], ConfigError, "machine.devices"),
        (["machine.devices=12"], ConfigError, "not a multiple of per_node 8"),
        (["sharding=fsdp"], ConfigError, "needs several devices"),
        (
            ["loop.parallel.tensor=2"],
            ConfigError,
            "loop.parallel.tensor=2: must divide the number of processes, which is 1",
        ),
        (["machine.devices=8", "loop.parallel.tensor=8"], ConfigError, "loop.parallel.tensor=8: does not divide the"),
        (
            ["machine.devices=8", "loop.parallel.experts=2"],
            ConfigError,
            "loop.parallel.experts=2: does not divide the 0",
        ),
        (["mfu=1.5"], ConfigError, "mfu"),
        (["tokens=0"], ConfigError, "tokens"),
        (["data.seq_len=4096"], ConfigError, "data.seq_len=4096: is longer than the model's context of 1024"),
        (["model.model_type=lama"], ConfigError, "model.model_type='lama'"),
        (["model.model_type=vit"], ConfigError, "cannot be trained on a vit model"),
        (["model.model_type=t5"], ConfigError, "spans: t5, transformer"),
        (["model.model_type=bert"], ConfigError, "masked: a decoder, bert or roberta"),
        (["objective=spans"], ConfigError, "objective='spans': cannot be trained on a llama model"),
        (["model.model_type=rnn_seq2seq", "objective=spans"], ConfigError, "recurrent layers are not counted"),
        (["model=smollm2", "objective=spans"], ConfigError, "start=smollm2"),
        (["model.hidden_size=10"], ConfigError, "num_attention_heads"),
        (["model.hiden_size=10"], ConfigError, "hidden_size"),
        (["model=no/such"], CheckpointError, "no such folder"),
        (["adapter=lora", "lora.targets=[nope]"], ConfigError, "lora.targets"),
        (["slurm.job_name=a b"], ConfigError, "slurm.job_name"),
        (["slurm.hours=0"], ConfigError, "slurm.hours"),
        (["model.model_type=[llama]"], ConfigError, "model.model_type"),
        (["bogus=1"], ConfigError, "unknown key"),
    ],
)
def test_bad_settings_are_named(settings, kind, says):
    machine = [] if any(text.startswith(("machine=", "machine.flops")) for text in settings) else ["machine.name=h100"]
    with pytest.raises(kind) as caught:
        plan(load_config(PlanConfig, None, [*machine, *settings]))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        (["out=x"], ConfigError, "data.path"),
        (["data.path=x"], ConfigError, "out"),
        (["data.path=x", "out=y", "machine.devices=2", "sharding=none"], ConfigError, "the recipes shard"),
        (["data.path=x", "out=y", "machine.flops=1e12", "machine.memory=1e6"], ResourceError, "not one row fits"),
    ],
)
def test_a_script_that_could_not_run_is_refused(settings, kind, says):
    config = load_config(PlanConfig, None, ["machine.name=h100", *settings])
    with pytest.raises(kind) as caught:
        slurm_script(config, plan(config))
    assert isinstance(caught.value, CutawayError)
    assert says in str(caught.value)


def test_the_machine_at_hand_is_measured():
    started = time.monotonic()
    machine = plan(load_config(PlanConfig, None, []))["machine"]
    assert machine["name"] == "this"
    assert machine["flops"] > 1e9
    assert machine["memory"] > 1e8
    assert time.monotonic() - started < 60


def test_dynamic_rope_and_windows_can_be_planned():
    scaled = planned(**SMALL["llama"], rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    assert scaled["memory"] == planned(**SMALL["llama"])["memory"]
    assert planned(**{**SMALL["llama"], "model_type": "mistral", "sliding_window": 16})["serving"]["context"] == 16


def test_the_command_prints_and_writes(tmp_path, capsys, monkeypatch):
    from cutaway.cli.main import main

    script = tmp_path / "job.sh"
    words = ["machine=a100-80", "data.path=x.txt", "out=y", "--slurm", str(script)]
    monkeypatch.setattr(sys, "argv", ["cutaway", "plan", *words])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    printed = capsys.readouterr().out
    for part in ("parameters", "compute", "312 TFLOP/s", "checkpointing", "suggested", "serving", f"sbatch {script}"):
        assert part in printed
    assert script.read_text().startswith("#!/bin/bash\n#SBATCH")
    monkeypatch.setattr(sys, "argv", ["cutaway", "plan", "machine=a100-80", "--json"])
    with pytest.raises(SystemExit):
        main()
    assert json.loads(capsys.readouterr().out)["machine"]["name"] == "a100-80"
