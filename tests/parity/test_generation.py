"""Whole targets against transformers' `generate`, token for token: greedy and by beams, freely and by a checkpoint's rules."""

import json

import pytest
import torch
from transformers import GenerationMixin, MarianConfig, MarianMTModel

from cutaway.core.errors import CheckpointError
from cutaway.decode.beam import Beam
from cutaway.infer.translate import translate, write
from cutaway.models.target_rules import TargetRules, read_target_rules
from cutaway.models.transformer import Transformer, TransformerConfig
from tests.parity import t5, whisper
from tests.parity.sides import padded, randomise, up_to_end

BEAMS = {
    "greedy": Beam(width=1),
    "beams": Beam(width=3, n_best=3),
    "long": Beam(width=4, n_best=2, length_penalty=2.0),
    "short": Beam(width=4, n_best=2, length_penalty=-0.5),
    "hasty": Beam(width=3, n_best=2, early_stopping=True),
    "patient": Beam(width=2, n_best=2, early_stopping="never"),
}
RULES = {
    "none": {},
    "suppressed": dict(suppress_tokens=[9, 17, 500], begin_suppress_tokens=[2, 30, 41, 220]),
    "forced": dict(forced_bos_token_id=11, forced_eos_token_id=2, begin_suppress_tokens=[5, 7]),
}
beams = pytest.mark.parametrize("beam", BEAMS.values(), ids=BEAMS)
ruled = pytest.mark.parametrize("rules", RULES.values(), ids=RULES)


def asked(beam, end, rules):
    """The same search in transformers' words."""
    return dict(
        max_new_tokens=14,
        do_sample=False,
        num_beams=beam.width,
        num_return_sequences=beam.n_best,
        length_penalty=beam.length_penalty,
        early_stopping=beam.early_stopping,
        eos_token_id=end,
        pad_token_id=0,
        **rules,
    )


def same(found, rows, opening, ends):
    expected = [up_to_end(row[opening:].tolist(), ends) for row in rows]
    assert [one.ids for some in found for one in some] == expected
    assert len({tuple(ids) for ids in expected}) > 1, "the sources must matter"


def sharp(model, scale=2, memory=2):
    """Weights large enough that targets differ and that some end early; `memory` is for what reads the source."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(memory if "cross_attention" in name or "encoder_attn" in name else scale)
    return model


@beams
@ruled
@pytest.mark.parametrize("case", ["1.0", "a deeper decoder"])
@torch.no_grad()
def test_t5(case, rules, beam, tmp_path):
    torch.manual_seed(1)
    ours, theirs = t5.make(t5.CASES[case], tmp_path)
    sharp(ours), sharp(theirs)
    given = t5.inputs(theirs)
    # Its cache has as many layers as the encoder: a deeper decoder fails with it.
    cached = dict(use_cache=case != "a deeper decoder")
    rows = theirs.generate(given.source, attention_mask=given.real.long(), **asked(beam, 2, rules), **cached)
    sources = [row[keep].tolist() for row, keep in zip(given.source, given.real, strict=True)]
    found = translate(ours, sources, beam, {2}, 0, 14, TargetRules(**rules))
    same(found, rows, 1, 2)


@beams
@ruled
@torch.no_grad()
def test_the_original_transformer(rules, beam):
    """Marian is the same network but for its positions, which are given here."""
    torch.manual_seed(1)
    config = TransformerConfig(
        vocab_size=61,
        hidden_size=24,
        intermediate_size=38,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_attention_heads=3,
        max_position_embeddings=40,
        tie_word_embeddings=False,
    )
    ours = Transformer(config).eval()
    randomise(ours)
    for name, parameter in ours.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data.add_(1)  # after a norm of small gain, all words would be alike
    theirs = marian(sharp(ours, 2, 8))
    source, real = padded([19, 4, 11], 3, 61)
    rows = theirs.generate(source, attention_mask=real.long(), decoder_start_token_id=1, **asked(beam, 2, rules))
    sources = [row[keep].tolist() for row, keep in zip(source, real, strict=True)]
    same(translate(ours, sources, beam, {2}, 1, 14, TargetRules(**rules)), rows, 1, 2)


def marian(ours):
    """transformers' Marian with our weights."""
    c = ours.config
    theirs = MarianMTModel(
        MarianConfig(
            vocab_size=c.vocab_size,
            d_model=c.hidden_size,
            encoder_layers=c.num_encoder_layers,
            decoder_layers=c.num_decoder_layers,
            encoder_attention_heads=c.num_attention_heads,
            decoder_attention_heads=c.num_attention_heads,
            encoder_ffn_dim=c.intermediate_size,
            decoder_ffn_dim=c.intermediate_size,
            max_position_embeddings=c.max_position_embeddings,
            activation_function="relu",
            scale_embedding=True,
            pad_token_id=0,
            forced_eos_token_id=None,
            tie_word_embeddings=False,
        )
    ).eval()
    state = {"final_logits_bias": torch.zeros(1, c.vocab_size)}
    embedding = ours.embedding.weight
    state |= {"model.shared.weight": embedding, "lm_head.weight": ours.lm_head.weight}
    for stack, blocks in (("encoder", ours.encoder_blocks), ("decoder", ours.blocks)):
        width = torch.arange(c.hidden_size // 2) * 2 / c.hidden_size
        angles = torch.arange(c.max_position_embeddings)[:, None] / 10_000**width
        state[f"model.{stack}.embed_tokens.weight"] = embedding
        state[f"model.{stack}.embed_positions.weight"] = torch.stack((angles.sin(), angles.cos()), -1).flatten(1)
        for number, block in enumerate(blocks):
            attentions = {"self_attn": block.attention} | (
                {"encoder_attn": block.cross_attention} if stack == "decoder" else {}
            )
            named = {f"{name}_layer_norm": part.norm for name, part in attentions.items()}
            for name, part in attentions.items():
                named |= {f"{name}.{whose}_proj": getattr(part.inner, whose) for whose in "qkv"}
                named[f"{name}.out_proj"] = part.inner.o
            named |= {"fc1": block.feed_forward.inner.up, "fc2": block.feed_forward.inner.down}
            named["final_layer_norm"] = block.feed_forward.norm
            for name, module in named.items():
                for kind, value in module.state_dict().items():
                    state[f"model.{stack}.layers.{number}.{name}.{kind}"] = value
    theirs.load_state_dict(state)
    return theirs


@beams
@ruled
@pytest.mark.parametrize(("case", "opening"), [("untied", [3]), ("unlike stacks", [3, 8, 21])], ids=str)
@torch.no_grad()
def test_whisper(case, opening, rules, beam, both):
    """The search alone, by transformers' general loop."""
    ours, theirs = both(*whisper.CASES[case])
    sharp(ours, 5, 20), sharp(theirs, 5, 20)
    mel = 5 * torch.randn(4, 7, 38)
    start = torch.tensor([opening] * 4)
    rows = GenerationMixin.generate(theirs, mel, decoder_input_ids=start, **asked(beam, 2, rules))
    found = write(ours, ours.encode(mel), None, beam, {2}, opening, 14, TargetRules(**rules))
    same(found, rows, len(opening), 2)


PUBLISHED = {
    "English": dict(forced_decoder_ids=[[1, 60]], no_timestamps_token_id=60),
    "many languages": dict(
        forced_decoder_ids=[[1, None], [2, 44]],
        lang_to_id={f"<|{name}|>": id for id, name in enumerate(("en", "zh", "de", "es", "ru", "ko", "fr", "ja"), 30)},
        no_timestamps_token_id=60,
        is_multilingual=True,
    ),
    "nothing forced": dict(lang_to_id={"<|en|>": 31, "<|zh|>": 32, "<|de|>": 33}, no_timestamps_token_id=60),
}


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("stated", PUBLISHED.values(), ids=PUBLISHED)
@torch.no_grad()
def test_whisper_by_the_files_of_its_folder(stated, width, both, tmp_path):
    """Whisper's own `generate`, with languages detected, reading the file that we read."""
    ours, theirs = both(*whisper.CASES["unlike stacks"])
    sharp(ours, 5, 20), sharp(theirs, 5, 20)
    mel = 5 * torch.randn(6, 7, 38)
    for name, value in {**stated, **RULES["suppressed"]}.items():
        setattr(theirs.generation_config, name, value)
    theirs.generation_config.save_pretrained(tmp_path)
    rules = read_target_rules(tmp_path, 61)
    memory = ours.encode(mel)
    start = rules.opening(ours, memory, 3)
    if rules.lang_to_id:
        assert len(start[:, 1].unique()) > 1, "the test covers different languages"
    found = write(ours, memory, None, Beam(width=width), {2}, start, 14, rules)
    rows = theirs.generate(mel, num_beams=width, max_new_tokens=14, do_sample=False)
    expected = [up_to_end(row.tolist(), 2) for row in rows]
    assert [[id for id in some[0].ids if id != 2] for some in found] == [
        [id for id in row if id != 2] for row in expected
    ]


def test_without_files_there_are_no_rules(tmp_path):
    assert read_target_rules(tmp_path, 61) == read_target_rules(tmp_path / "model.gguf", 61) == TargetRules()


def test_an_older_folder_states_them_in_its_configuration(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"suppress_tokens": [4], "begin_suppress_tokens": [5]}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"suppress_tokens": [6]}))
    assert read_target_rules(tmp_path, 61) == TargetRules(suppress_tokens=(6,), begin_suppress_tokens=(5,))


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("{", "generation_config.json=.*cannot be read"),
        ("[]", "is not a JSON object"),
        ('{"suppress_tokens": "all"}', "suppress_tokens='all'"),
        ('{"forced_bos_token_id": 61}', "forced_bos_token_id=61: is outside the vocabulary of 61"),
        ('{"forced_decoder_ids": [[1, 3], [3, 4]]}', r"forced_decoder_ids=\[1, 3\]: places must be 1, 2, 3"),
        ('{"lang_to_id": {"<|en|>": -1}}', "lang_to_id=-1: is outside the vocabulary"),
    ],
)
def test_rules_that_cannot_be(stated, message, tmp_path):
    (tmp_path / "generation_config.json").write_text(stated)
    with pytest.raises(CheckpointError, match=message):
        read_target_rules(tmp_path, 61)
