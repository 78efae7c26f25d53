"""A sound file to text, from the library and the command line: equal to transformers on the same pieces, and what is refused."""

import json
import math

import numpy
import pytest
import soundfile
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.errors import CheckpointError
from cutaway.data.preprocess import preprocessor
from cutaway.decode.beam import Beam
from cutaway.infer.text_of_file import texts_of_files
from cutaway.models.families import make_model
from cutaway.models.huggingface import save_model
from cutaway.models.load import load
from cutaway.models.target_rules import read_target_rules
from cutaway.text.tokenizer import Tokenizer

RULES = {"begin_suppress_tokens": [258], "suppress_tokens": [3], "no_timestamps_token_id": 256}


@pytest.fixture
def folder(tiny_chat, tmp_path):
    """A random Whisper that hears half a second at a time and writes bytes."""
    end = "<|im_end|>"
    tokenizer = Tokenizer(tiny_chat(32).tokenizer.backend, bos=end, eos=end, pad=end)
    torch.manual_seed(0)
    model = make_model(
        {
            "model_type": "whisper",
            "vocab_size": tokenizer.vocab_size,
            "num_mel_bins": 10,
            "d_model": 24,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "encoder_attention_heads": 3,
            "decoder_attention_heads": 3,
            "encoder_ffn_dim": 30,
            "decoder_ffn_dim": 30,
            "max_source_positions": 25,
            "max_target_positions": 20,
            "pad_token_id": 257,
            "bos_token_id": 257,
            "eos_token_id": 257,
            "decoder_start_token_id": 258,
            "tie_word_embeddings": False,
            "init_std": 0.5,
        }
    )
    made = tmp_path / "whisper"
    save_model(model, tokenizer, made)
    extractor = WhisperFeatureExtractor(feature_size=10, chunk_length=1)
    values = {**extractor.to_dict(), "chunk_length": 0.5}
    (made / "preprocessor_config.json").write_text(json.dumps(values))
    rules = made / "generation_config.json"
    rules.write_text(json.dumps({**json.loads(rules.read_text()), **RULES}))
    return made, tokenizer


@pytest.fixture
def sound(tmp_path):
    """Just over a second: two pieces and a part of a third."""
    path, t = tmp_path / "sound.wav", numpy.arange(18_000) / 16_000
    soundfile.write(path, 0.5 * numpy.sin(2 * math.pi * (200 + 900 * t) * t), 16_000)
    return path


def said(*words):
    return CliRunner().invoke(app, ["translate", *map(str, words)])


def test_pieces_are_those_of_transformers(folder, sound):
    made, tokenizer = folder
    theirs = WhisperForConditionalGeneration.from_pretrained(made).eval()
    samples = numpy.pad(soundfile.read(sound, dtype="float32")[0], (0, 6_000)).reshape(3, 8_000)
    extractor = WhisperFeatureExtractor(feature_size=10, chunk_length=1)
    mel = [extractor(piece, 16_000, padding="do_not_pad", return_tensors="pt").input_features[0] for piece in samples]
    rows = theirs.generate(torch.stack(mel), max_new_tokens=12, do_sample=False)
    texts = [tokenizer.decode([id for id in row.tolist() if id < 256]).strip() for row in rows]
    loaded = load(made, dtype="float32")
    together = texts_of_files(loaded, [sound, sound], Beam(width=1), max_tokens=12, rows=2)
    assert together == [" ".join(filter(None, texts))] * 2


@pytest.mark.parametrize("where", ["generation_config.json", "config.json"])
def test_what_was_loaded_and_saved_writes_as_before(folder, sound, tmp_path, where):
    """The makers' rules and how they want sounds outlive `convert`; an older folder states the rules in its configuration."""
    made, _ = folder
    stated = {**RULES, "lang_to_id": {"<|en|>": 65, "<|de|>": 66}, "forced_decoder_ids": [[1, None], [2, 67]]}
    if where == "config.json":
        (made / "generation_config.json").unlink()
    stated |= {"is_multilingual": True, "task_to_id": {"transcribe": 67}}
    (made / where).write_text(json.dumps({**json.loads((made / where).read_text()), **stated}))
    kept = tmp_path / "kept"
    assert CliRunner().invoke(app, ["convert", str(made), str(kept)]).exit_code == 0
    (before, sounds), (after, same) = (
        (load(path, dtype="float32"), preprocessor("audio", path)) for path in (made, kept)
    )
    assert same == sounds
    rules = read_target_rules(kept, 300)
    assert rules == read_target_rules(made, 300)
    assert rules.detects
    assert rules.suppress_tokens == (3,)
    texts = [texts_of_files(one, [sound], Beam(width=2), max_tokens=12, rows=2) for one in (before, after)]
    assert texts[0] == texts[1] != [""]
    if where == "generation_config.json":
        assert json.loads((kept / where).read_text()).items() >= stated.items(), "what only others read is kept too"
        kept_there = WhisperForConditionalGeneration.from_pretrained(kept).generation_config
        assert kept_there.lang_to_id == stated["lang_to_id"]


def test_a_file_of_rules_that_is_broken_is_named(folder):
    made, _ = folder
    (made / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"generation_config.json=.*cannot be read"):
        load(made)


def test_the_command_writes_and_scores_what_is_said(folder, sound, tmp_path):
    made, _ = folder
    words = [made, sound, "beam.width=2", "max_tokens=12", "--json"]
    [target] = json.loads(said(*words).stdout)["targets"]
    assert target
    reference = tmp_path / "reference.txt"
    reference.write_text("what was said\n")
    assert json.loads(said(*words, "--reference", reference).stdout)["chrf"] < 100


def test_what_cannot_be_heard(folder, sound, tmp_path):
    made, _ = folder
    assert "reads audio, not text" in str(said(made, "--text", "hello").exception)
    lines = tmp_path / "lines.txt"
    lines.write_text("no sound\n")
    assert "does not decode" in str(said(made, lines).exception)
    (made / "preprocessor_config.json").unlink()
    assert "holds no preprocessor_config.json" in str(said(made, sound).exception)
