"""What T5 keeps beside its logits: cache, backends, beam search, and configurations as they are published."""

import json

import pytest
import torch
from transformers import T5ForConditionalGeneration

from cutaway.core.errors import CheckpointError
from cutaway.decode.beam import Beam
from cutaway.infer.translate import translate
from cutaway.models.huggingface import save_model
from cutaway.models.t5 import T5, T5Config, config_from_hf
from tests.parity.sides import padded
from tests.parity.t5 import CASES, V, make


@pytest.fixture
def pair(tmp_path):
    """`pair(case)` is (ours, theirs)."""

    def both(case):
        torch.manual_seed(0)
        return make(CASES[case], tmp_path)

    return both


@pytest.mark.parametrize("case", ["1.0", "1.1", "few buckets"])
@torch.no_grad()
def test_cached_equals_uncached(case, pair):
    ours, _ = pair(case)
    source, real = padded([12, 7, 9], 2, V)
    target = torch.randint(2, V, (3, 14))
    memory = ours.encode(source, mask_BS=real)
    whole = ours(target, memory, memory_mask_BS=real)
    cache = ours.new_cache(3, 14)
    pieces = [ours(part, memory, memory_mask_BS=real, cache=cache) for part in target.split([5, 1, 1, 4, 3], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["1.0", "1.1"])
@torch.no_grad()
def test_backends_agree(case, pair):
    ours, _ = pair(case)
    source, real = padded([12, 7], 2, V)
    target = torch.randint(2, V, (2, 11))
    expected = ours(target, ours.encode(source, mask_BS=real), memory_mask_BS=real)
    for backend in ("reference", "tiled"):
        for module in ours.modules():
            if hasattr(module, "backend"):
                module.backend = backend
        found = ours(target, ours.encode(source, mask_BS=real), memory_mask_BS=real)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("beam", [Beam(width=4, n_best=3), Beam(width=3, length_penalty=0.4)])
@pytest.mark.parametrize("case", ["1.0", "1.1", "start and end of its own"])
@torch.no_grad()
def test_beams_token_for_token(case, beam, pair):
    ours, theirs = pair(case)
    source, real = padded([12, 5, 9, 1], 2, V)
    expected = theirs.generate(
        source,
        attention_mask=real.long(),
        num_beams=beam.width,
        num_return_sequences=beam.n_best,
        length_penalty=beam.length_penalty,
        max_new_tokens=20,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    c = ours.config
    sources = [row[keep].tolist() for row, keep in zip(source, real, strict=True)]
    found = translate(ours, sources, beam, {c.eos_token_id}, c.decoder_start_token_id, 20)
    ours_ids = [one.ids for hypotheses in found for one in hypotheses]
    theirs_ids = [row[1:].tolist() for row in expected.sequences]
    assert ours_ids == [row[: row.index(c.eos_token_id) + 1] if c.eos_token_id in row else row for row in theirs_ids]
    if case == "start and end of its own":
        assert len({len(ids) for ids in ours_ids}) > 1, "the test covers targets that end before others"
    scores = [one.score for hypotheses in found for one in hypotheses]
    assert scores == pytest.approx(expected.sequences_scores.tolist(), abs=1e-4)


@torch.no_grad()
def test_a_folder_with_a_tokeniser_generates_in_transformers(pair, tiny_chat, tmp_path):
    """What generation begins with is told there too."""
    ours, _ = pair("start and end of its own")
    save_model(ours, tiny_chat(32).tokenizer, tmp_path / "saved")
    theirs = T5ForConditionalGeneration.from_pretrained(tmp_path / "saved")
    assert theirs.generate(torch.tensor([[3, 4]]), max_new_tokens=2, do_sample=False)[0, 0] == 7


def test_a_feed_forward_we_lack_is_named():
    with pytest.raises(CheckpointError, match=r"feed_forward_proj='gated-silu'.*relu and gated-gelu"):
        config_from_hf({"model_type": "t5", "feed_forward_proj": "gated-silu"})


def test_a_published_config_is_read():
    """Flan-T5's, as it is published: the head is its own, and its input not scaled."""
    published = json.loads(
        '{"architectures": ["T5ForConditionalGeneration"], "d_ff": 1024, "d_kv": 64, "d_model": 512, "num_heads": 6,'
        '"decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",'
        '"initializer_factor": 1.0, "is_encoder_decoder": true, "layer_norm_epsilon": 1e-06, "model_type": "t5",'
        '"n_positions": 512, "num_decoder_layers": 8, "num_layers": 8, "output_past": true, "pad_token_id": 0,'
        '"relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "task_specific_params": {},'
        '"tie_word_embeddings": false, "transformers_version": "4.23.1", "use_cache": true, "vocab_size": 32128}'
    )
    with torch.device("meta"):
        model = T5(config_from_hf(published))
    assert not model.config.tie_word_embeddings
    assert sum(parameter.numel() for parameter in model.parameters()) == 76_961_152  # 77M, as the model card says


def test_a_fresh_model_has_scores_of_unit_scale():
    """The initialisation does what the division by √K does elsewhere."""
    torch.manual_seed(0)
    model = T5(T5Config(vocab_size=50, d_model=256, d_kv=32, d_ff=64, num_layers=1, num_heads=8))
    x = torch.randn(4, 16, 256)
    attention = model.encoder.block[0].layer[0].SelfAttention
    q, k = (part(x).view(4, 16, 8, 32).transpose(1, 2) for part in (attention.q, attention.k))
    assert (q @ k.transpose(-1, -2)).std().item() == pytest.approx(1, rel=0.1)
