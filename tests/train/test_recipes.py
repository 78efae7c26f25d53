import json
import signal
import subprocess
import sys
import time

import pytest
import tokenizers
import torch
from safetensors.torch import load_file
from tokenizers import decoders, models, pre_tokenizers, trainers

from cutaway.core.config import load_config, make_config
from cutaway.core.errors import ConfigError, ResourceError
from cutaway.evaluate.invariants import examine
from cutaway.evaluate.perplexity import perplexity
from cutaway.models.families import make_model
from cutaway.models.huggingface import save_model
from cutaway.models.load import load
from cutaway.text.load import load_tokenizer
from cutaway.text.tokenizer import Tokenizer
from cutaway.train import memory
from cutaway.train.finetune import RETENTION, FinetuneConfig, finetune
from cutaway.train.logs import read_lines
from cutaway.train.pretrain import PretrainConfig, pretrain

TEXT = "\n".join(
    f"the {a} {b} sees the {c} and {d} it"
    for a in ("red", "old")
    for b in ("cat", "dog", "fox")
    for c in ("moon", "tree", "road", "river")
    for d in ("likes", "hears", "follows", "forgets")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text, a tokeniser trained on it, and chats."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "text.txt").write_text(TEXT)
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([TEXT], trainer)
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    Tokenizer(backend, eos="<|end|>", chat_template=template).save(folder / "tokenizer")
    chats = [{"instruction": f"say {word}", "output": f"{word} it is"} for word in TEXT.split()[:60]]
    (folder / "chats.jsonl").write_text("\n".join(json.dumps(chat) for chat in chats))
    return folder


def pretrain_settings(folder, out, *more):
    return [
        f"out={out}",
        f"data.path={folder / 'text.txt'}",
        f"data.cache={folder / 'cache'}",
        "data.seq_len=32",
        "data.rows=2",
        f"tokenizer={folder / 'tokenizer'}",
        "model.hidden_size=16",
        "model.intermediate_size=32",
        "model.num_hidden_layers=2",
        "model.num_attention_heads=2",
        "model.num_key_value_heads=1",
        "model.max_position_embeddings=64",
        "loop.steps=12",
        "loop.eval_every=6",
        "loop.tensorboard=false",
        "loop.precision=float32",
        "loop.compile=off",
        "optim.lr=1e-2",
        *more,
    ]


def pretrained(folder, out, *more):
    return pretrain(load_config(PretrainConfig, None, pretrain_settings(folder, out, *more)))


@pytest.fixture(scope="module")
def base(folder):
    """A small pretrained model."""
    pretrained(folder, folder / "base")
    return folder / "base" / "model"


def finetune_settings(folder, base, out, *more):
    return [
        f"out={out}",
        f"model={base}",
        f"data.path={folder / 'chats.jsonl'}",
        f"data.cache={folder / 'cache'}",
        "data.seq_len=32",
        "data.rows=4",
        "loop.steps=8",
        "loop.tensorboard=false",
        "loop.precision=float32",
        "optim.lr=1e-2",
        "lora.rank=2",
        *more,
    ]


def finetuned(folder, base, out, *more):
    return finetune(load_config(FinetuneConfig, None, finetune_settings(folder, base, out, *more)))


def test_pretraining_learns_and_leaves_a_model(folder, tmp_path):
    report = pretrained(folder, tmp_path / "run")
    loss = report["held_out_loss"]["held_out"]
    assert loss["after"] < loss["before"] - 0.5
    assert report["steps"] == 12
    loaded = load(tmp_path / "run" / "model", dtype="float32", device="cpu")
    assert sum(p.numel() for p in loaded.model.parameters()) == report["parameters"]["all"]
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("the old fox")) == "the old fox"
    saved = load_config(PretrainConfig, tmp_path / "run" / "config.yaml")
    assert saved == load_config(PretrainConfig, None, pretrain_settings(folder, tmp_path / "run"))
    assert pretrained(folder, tmp_path / "run") == report  # done: nothing is trained again


def test_a_tokeniser_is_trained_where_none_is_given(folder, tmp_path):
    settings = [s for s in pretrain_settings(folder, tmp_path / "run") if not s.startswith("tokenizer")]
    report = pretrain(load_config(PretrainConfig, None, [*settings, "train_tokenizer.vocab_size=300"]))
    assert report["steps"] == 12
    assert load(tmp_path / "run" / "model", dtype="float32", device="cpu").tokenizer.vocab_size == 300


def test_a_checkpoint_to_go_on_from(folder, base, tmp_path):
    settings = [s for s in pretrain_settings(folder, tmp_path / "run") if not s.startswith(("model.", "tokenizer"))]
    config = load_config(PretrainConfig, None, [*settings, f"start={base}"])
    report = pretrain(config)
    assert pretrain(config) == report  # what was saved of the configuration reads back
    first = json.loads((base.parent / "report.json").read_text())
    assert report["held_out_loss"]["held_out"]["before"] == pytest.approx(
        first["held_out_loss"]["held_out"]["after"], abs=1e-4
    )


def test_another_configuration_in_the_same_folder_is_refused(folder, tmp_path):
    pretrained(folder, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"another configuration: optim.lr=0.01, now 0.02.*or another out"):
        pretrained(folder, tmp_path / "run", "optim.lr=0.02")


def test_a_run_that_saved_nothing_may_be_begun_again_otherwise(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"data.seq_len=99: is longer than the model's context of 64"):
        pretrained(folder, tmp_path / "run", "data.seq_len=99")
    assert pretrained(folder, tmp_path / "run")["steps"] == 12


def test_a_folder_that_holds_something_else_is_refused(folder, tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not empty and holds no run"):
        pretrained(folder, tmp_path)
    assert (tmp_path / "letters.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["loop.stepz=3"], r"loop.stepz: unknown key \(did you mean steps"),
        (["optim.lr=fast"], "optim.lr='fast'"),
        (["loop.steps=0"], "loop.steps=0"),
        (["loop.compile=maybe"], "'auto', 'on' or 'off'"),
        (["start=x"], "start brings its own model"),
        (["model.model_type=lama"], "did you mean llama"),
        (["model.hidden_size=15"], "not a multiple of num_attention_heads"),
        (["model.vocab_size=300"], r"\d+ tokens and the model 300 embeddings"),
    ],
)
def test_bad_settings_are_named(folder, tmp_path, settings, says):
    with pytest.raises(Exception, match=says) as caught:
        pretrained(folder, tmp_path / "run", *settings)
    assert caught.value.exit_code == 2


def test_terms_that_an_adaptive_head_does_not_have_are_refused(folder, tmp_path):
    shape = ["model.model_type=composed", "model.head=adaptive", "model.adaptive.cutoffs=[100]"]
    with pytest.raises(ConfigError, match=r"loss=.*label_smoothing.*the loss of an adaptive head has no such terms"):
        pretrained(folder, tmp_path / "run", *shape, "loss.label_smoothing=0.1")


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_what_does_not_go_on_with_a_text_is_not_fine_tuned_or_examined(folder, tmp_path, kind):
    small = {"bert": {"hidden_size": 16, "num_attention_heads": 2}, "t5": {"d_model": 16}}[kind]
    tokenizer = load_tokenizer(folder / "tokenizer")
    save_model(make_model({"model_type": kind, **small}), tokenizer, tmp_path / "model")
    loaded = load(tmp_path / "model", dtype="float32")
    for attempt in (
        lambda: finetuned(folder, tmp_path / "model", tmp_path / "run"),
        lambda: list(examine(loaded)),
        lambda: perplexity(loaded.model, tokenizer, []),
    ):
        with pytest.raises(ConfigError, match=f"model='{kind}': cannot continue a text: it is no decoder"):
            attempt()


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_finetuning_reports_what_was_learned_and_forgotten(folder, base, tmp_path, adapter):
    report = finetuned(folder, base, tmp_path / "run", f"adapter={adapter}")
    new, retention = report["held_out_loss"]["new"], report["held_out_loss"]["retention"]
    assert new["after"] < new["before"] - 0.1
    assert retention["after"] != retention["before"]
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report
    share = report["parameters"]["trained"] / report["parameters"]["all"]
    assert share == 1 if adapter == "none" else share < 0.5
    assert (tmp_path / "run" / "adapter").exists() == (adapter == "lora")
    assert load(tmp_path / "run" / "model", dtype="float32", device="cpu").model.context == 64


def test_the_adapter_on_its_model_equals_the_merged_model(folder, base, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    finetuned(folder, base, tmp_path / "run")
    peer = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "run" / "adapter").eval()
    merged = load(tmp_path / "run" / "model", dtype="float32", device="cpu").model
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged.logits(merged(ids)), peer(ids).logits, atol=1e-4, rtol=1e-4)


def test_an_interrupted_finetune_of_adapters_resumes_bit_for_bit(folder, base, tmp_path, monkeypatch):
    from cutaway.core.errors import Interrupted
    from cutaway.train import finetune as recipe

    finetuned(folder, base, tmp_path / "whole", "lora.dropout=0.3")
    plain, calls = recipe.causal_lm, []

    def interrupting(model, batch, **options):
        if torch.is_grad_enabled():
            calls.append(1)
            if len(calls) == 3:
                signal.raise_signal(signal.SIGINT)
        return plain(model, batch, **options)

    monkeypatch.setattr(recipe, "causal_lm", interrupting)
    with pytest.raises(Interrupted):
        finetuned(folder, base, tmp_path / "parts", "lora.dropout=0.3")
    monkeypatch.undo()
    finetuned(folder, base, tmp_path / "parts", "lora.dropout=0.3")
    one, other = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_fails_after_training_goes_on_from_its_checkpoint(folder, base, tmp_path, monkeypatch):
    from cutaway.train import finetune as recipe

    def full(*_):
        raise ResourceError("the disk is full")

    settings, plain, calls = ("loop.checkpoint_every=3", "loop.eval_every=2"), recipe.causal_lm, []
    finetuned(folder, base, tmp_path / "whole", *settings)
    with monkeypatch.context() as patch, pytest.raises(ResourceError):
        patch.setattr(recipe, "save_model", full)
        finetuned(folder, base, tmp_path / "run", *settings)
    monkeypatch.setattr(recipe, "causal_lm", lambda *given, **named: calls.append(named) or plain(*given, **named))
    finetuned(folder, base, tmp_path / "run", *settings)
    assert sum(bool(named) for named in calls) == 1 + 2, "a look at what a step takes, and steps 7 and 8"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        *("adapter", "config.yaml", "metrics.jsonl", "model", "report.json")
    ]
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_will_not_fit_is_refused_before_it_begins(folder, base, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1_000_000)
    with pytest.raises(ResourceError, match=r"training needs about .*weights.*1 MB are free.*lower data.rows"):
        finetuned(folder, base, tmp_path / "a", "data.rows=64")
    huge = (
        "model.hidden_size=8192",
        "model.num_hidden_layers=80",
        "model.num_attention_heads=64",
        "model.intermediate_size=28672",
    )
    with pytest.raises(ResourceError, match=r"training needs about \d+\.\d GB"):
        pretrained(folder, tmp_path / "b", *huge)
    assert not (tmp_path / "b" / "last").exists()


def test_the_retention_text_ships_and_is_long_enough():
    assert len(RETENTION.read_text(encoding="utf-8")) > 3000


def command(*words):
    return [sys.executable, "-m", "cutaway", *words]


def wait_for_step(out, step, process):
    for _ in range(600):
        if any(line["step"] >= step for line in read_lines(out / "metrics.jsonl")):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("the run never got there")


def test_ctrl_c_saves_and_the_same_command_goes_on(folder, tmp_path):
    out = tmp_path / "run"
    settings = pretrain_settings(folder, out, "loop.steps=400", "loop.log_every=1", "loop.eval_every=200")
    process = subprocess.Popen(command("pretrain", *settings), stderr=subprocess.PIPE, text=True)
    wait_for_step(out, 3, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    assert "Traceback" not in said
    stopped = json.loads((out / "last" / "training" / "state.json").read_text())["standing"]["step"]
    assert 3 <= stopped < 400
    again = subprocess.run(command("pretrain", "--json", *settings), capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["steps"] == 400
    assert [line["step"] for line in read_lines(out / "metrics.jsonl") if "loss" in line] == list(range(1, 401))
    whole = tmp_path / "whole"
    pretrained(folder, whole, "loop.steps=400", "loop.log_every=1", "loop.eval_every=200")
    one, other = (load_file(run / "model" / "model.safetensors") for run in (out, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_kill_9_at_any_moment_leaves_a_whole_checkpoint(folder, tmp_path):
    """The run saves at every step, so that the kill falls into a save more often than not."""
    out = tmp_path / "run"
    settings = pretrain_settings(folder, out, "loop.steps=60", "loop.log_every=1", "loop.checkpoint_every=1")
    process = subprocess.Popen(command("pretrain", *settings), stderr=subprocess.PIPE, text=True)
    wait_for_step(out, 10, process)
    process.kill()
    process.communicate()
    again = subprocess.run(command("pretrain", "--json", *settings), capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["steps"] == 60
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_the_commands_say_what_to_do_next(folder, base, tmp_path):
    done = subprocess.run(
        command("finetune", *finetune_settings(folder, base, tmp_path / "run")),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "retention text" in done.stdout
    assert f"next: cutaway serve {tmp_path / 'run' / 'model'}" in done.stdout
    wrong = subprocess.run(command("finetune", "out=x", "dta.path=y"), capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2
    assert "did you mean data?" in wrong.stderr


def test_example_files_are_configurations(root):
    for path in (root / "examples").glob("pretrain*.yaml"):
        load_config(PretrainConfig, path)
    for path in (root / "examples").glob("finetune*.yaml"):
        load_config(FinetuneConfig, path)
    assert make_config(FinetuneConfig, {"out": "x", "data": {"path": "y"}}).optim.lr == 2e-4


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_masked_words_are_learned_by_changing_one_line(folder, tmp_path, kind):
    """On encoders, and on a decoder's trunk without its causal mask."""
    shape = [f"model.{name}" for name in ("hidden_size=32", "num_hidden_layers=2", "num_attention_heads=2")]
    shape += [f"model.model_type={kind}", "model.intermediate_size=64", "model.max_position_embeddings=64"]
    shape += ["model.num_key_value_heads=2"] if kind == "llama" else []
    kept = [s for s in pretrain_settings(folder, tmp_path / "run") if not s.startswith(("model.", "tokenizer"))]
    more = ["objective=masked", "masking.unit=word", "train_tokenizer.vocab_size=300", "loop.steps=80"]
    report = pretrain(load_config(PretrainConfig, None, [*kept, *shape, *more, "loop.eval_every=40"]))
    loss = report["held_out_loss"]["held_out"]
    assert loss["after"] < loss["before"] - 1.0
    loaded = load(tmp_path / "run" / "model", dtype="float32", device="cpu")
    assert "<mask>" in loaded.tokenizer.special
    ids = torch.tensor([loaded.tokenizer.encode("the old fox sees the <mask>", special=True)])
    assert loaded.model.logits(loaded.model(ids)).shape[-1] >= loaded.tokenizer.vocab_size


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["model.model_type=bert"], "objective='causal': cannot be trained on a bert model with head none"),
        (["objective=masked", "model.model_type=bert", "model.head=tokens"], "bert model with head tokens"),
        (["objective=masked"], "has no mask token"),
        (["objective=guess"], "objective"),
    ],
)
def test_an_objective_that_does_not_fit_is_named(folder, tmp_path, settings, says):
    of_llama = "model.num_key" if any("bert" in setting for setting in settings) else "none"
    kept = [s for s in pretrain_settings(folder, tmp_path / "run") if not s.startswith(of_llama)]
    with pytest.raises(ConfigError, match=says):
        pretrain(load_config(PretrainConfig, None, [*kept, *settings]))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("recipe", ["pretrain", "classify", "contrast"])
def test_a_tokeniser_that_is_trained_for_an_encoder_has_a_frame(tmp_path, recipe, kind):
    from cutaway.train.classify import ClassifyConfig, classify
    from cutaway.train.contrast import ContrastRunConfig, contrast

    words = ["the red car was fast", "a blue boat was slow", "old dogs sleep here", "cold rivers run there"]
    row = {"text": ". ".join(words), "label": "a", "anchor": words[0], "positive": words[1]}
    keep = {"pretrain": ("text",), "classify": ("text", "label"), "contrast": ("anchor", "positive")}[recipe]
    rows = [{name: f"{i} {row[name]}" if name != "label" else "ab"[i % 2] for name in keep} for i in range(12)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config, run = {
        "pretrain": (PretrainConfig, pretrain),
        "classify": (ClassifyConfig, classify),
        "contrast": (ContrastRunConfig, contrast),
    }[recipe]
    settings = f"""
        model.model_type=bert model.hidden_size=16 model.num_hidden_layers=1 model.num_attention_heads=2
        model.intermediate_size=16 train_tokenizer.kind={kind} train_tokenizer.vocab_size=310 train_tokenizer.min_frequency=1
        data.path={tmp_path / "d.jsonl"} data.rows=4 data.seq_len=32 loop.steps=1 loop.tensorboard=false loop.precision=float32
        loop.compile=off out={tmp_path / "run"} {"objective=nsp" if recipe == "pretrain" else "start=null"}"""
    run(load_config(config, None, settings.split()))
    assert {"[CLS]", "[SEP]"} <= load(tmp_path / "run" / "model").tokenizer.special.keys()


def test_a_frame_that_is_there_is_kept():
    from cutaway.text.framing import lacking
    from cutaway.text.train import TrainTokenizerConfig

    assert lacking(TrainTokenizerConfig()) == ("[CLS]", "[SEP]")
    assert lacking(TrainTokenizerConfig(kind="wordpiece")) == ()
    assert lacking(TrainTokenizerConfig(extra=("<s>", "</s>"))) == ()
    assert lacking(TrainTokenizerConfig(bos="<s>", eos="</s>")) == ()


@pytest.mark.parametrize("objective", ["nsp", "sop"])
def test_sentence_pairs_are_learned_by_changing_one_line(tmp_path, objective):
    order = ("one", "two", "three", "four", "five", "six")
    things = ("apple", "bread", "cheese", "dough", "egg", "fig", "grape", "honey")
    texts = [" ".join(f"{thing} {number} here." for number in order) for thing in things]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    settings = f"""
        model.model_type=bert model.hidden_size=32 model.num_hidden_layers=2 model.num_attention_heads=2
        model.intermediate_size=64 train_tokenizer.kind=wordpiece train_tokenizer.vocab_size=300 train_tokenizer.min_frequency=1
        data.path={tmp_path / "d.jsonl"} data.held_out={tmp_path / "d.jsonl"} data.rows=16 data.seq_len=32 masking.share=0.1
        loop.steps=1000 loop.eval_every=1000 loop.tensorboard=false loop.precision=float32 loop.compile=off optim.lr=2e-3
        out={tmp_path / "run"} objective={objective}"""
    pretrain(load_config(PretrainConfig, None, settings.split()))
    right = [line["pairs_right"] for line in read_lines(tmp_path / "run" / "metrics.jsonl") if "pairs_right" in line]
    assert sum(right[:10]) / 10 < 0.65
    assert sum(right[-10:]) / 10 > 0.75
    assert load(tmp_path / "run" / "model", dtype="float32").model.config.head == "pretraining"
