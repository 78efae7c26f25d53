"""What Whisper keeps beside its logits: cache, rows that end early, masks, backends; it learns; and sounds that cannot be."""

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from cutaway.core.errors import CheckpointError, ContextLengthError, CutawayError, DataError
from cutaway.data.audio import MelConfig, chunks, log_mel, read_audio
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, model_config
from cutaway.models.whisper import with_labels
from tests.parity.sides import up_to_end
from tests.parity.whisper import CASES, SHAPE, generated, transcribed

CLOSE = dict(atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_checkpoint_without_a_head(both, tmp_path):
    ours, theirs = both(*CASES["plain"])
    theirs.model.save_pretrained(tmp_path / "trunk")
    trunk = load_model(tmp_path / "trunk", torch.float32, torch.device("cpu"))
    mel, target = torch.randn(1, 7, 38), torch.randint(61, (1, 5))
    assert torch.equal(trunk(target, trunk.encode(mel)), ours(target, ours.encode(mel)))


@pytest.mark.parametrize("case", ["plain", "unlike stacks"])
@torch.no_grad()
def test_rows_that_end_at_different_steps(case, both):
    ours, theirs = both(*CASES[case])
    mel = 3 * torch.randn(4, 7, 38)
    free = generated(theirs, mel, end=2)
    first = {token: (free == token).int().argmax(1).unique().numel() for token in free[:, 1:].unique().tolist()}
    end = max(first, key=lambda token: first[token])  # what rows write first at different steps
    assert first[end] > 1
    expected = [up_to_end(row[1:].tolist(), end) for row in generated(theirs, mel, end)]
    assert len({len(row) for row in expected}) > 1
    assert transcribed(ours, mel, end) == expected


@pytest.mark.parametrize("case", ["plain", "unlike stacks"])
@torch.no_grad()
def test_cached_equals_uncached(case, both):
    ours, _ = both(*CASES[case])
    target, memory = torch.randint(61, (3, 14)), ours.encode(torch.randn(3, 7, 38))
    whole = ours(target, memory)
    cache = ours.new_cache(3, 14)
    pieces = [ours(part, memory, cache=cache) for part in target.split([5, 1, 1, 4, 3], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, **CLOSE)


@torch.no_grad()
def test_silence_that_is_masked_is_not_heard(both):
    """What the mask hides changes nothing beyond the convolutions' reach, a position or two."""
    ours, _ = both(*CASES["plain"])
    mel, target = torch.randn(2, 7, 31), torch.randint(61, (2, 5))
    sound = torch.arange(16) < torch.tensor([[16], [10]])
    quiet = mel.clone()
    quiet[1, :, 24:] += 5
    expected = ours(target, ours.encode(mel, mask_BS=sound), memory_mask_BS=sound)
    found = ours(target, ours.encode(quiet, mask_BS=sound), memory_mask_BS=sound)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert not torch.allclose(ours(target, ours.encode(quiet)), ours(target, ours.encode(mel)), atol=1e-2)


@torch.no_grad()
def test_backends_agree(both):
    ours, _ = both(*CASES["plain"])
    mel, target = torch.randn(2, 7, 38), torch.randint(61, (2, 11))
    expected = ours(target, ours.encode(mel))
    for backend in ("reference", "tiled"):
        for module in ours.modules():
            if hasattr(module, "backend"):
                module.backend = backend
        torch.testing.assert_close(ours(target, ours.encode(mel)), expected, **CLOSE)


@torch.no_grad()
def test_labels_on_the_encoder_of_a_model_that_writes(both):
    """The encoder is the same one, whatever head it had, and its positions stay sinusoids that nothing changes."""
    ours, _ = both(*CASES["plain"])
    mel = torch.randn(2, 7, 38)
    first = with_labels(ours, ("no", "yes"))
    second = with_labels(first, ("a", "b", "c"))
    assert second.encoder is first.encoder is ours.model.encoder
    torch.testing.assert_close(second(mel), ours.encode(mel))
    assert second.label_logits(second(mel)).shape == (2, 3)
    assert torch.equal(first(mel[..., :20]), ours.encode(mel[..., :20]))


def test_a_sum_over_layers_is_refused():
    values = {
        "model_type": "whisper",
        "architectures": ["WhisperForAudioClassification"],
        "use_weighted_layer_sum": True,
    }
    with pytest.raises(CheckpointError, match=r"use_weighted_layer_sum=True: unsupported \(false\)"):
        model_config(values)


def test_a_fresh_model_has_the_positions_of_transformers_and_leaves_them_alone():
    theirs = WhisperForConditionalGeneration(CASES["plain"][1])
    ours = make_model({"model_type": "whisper", **SHAPE})
    positions = ours.model.encoder.embed_positions.weight
    torch.testing.assert_close(positions, theirs.model.encoder.embed_positions.weight)
    ours.logits(ours(torch.tensor([[3, 5]]), ours.encode(torch.randn(1, 7, 20)))).logsumexp(-1).sum().backward()
    assert [name for name, weight in ours.named_parameters() if weight.grad is None] == [
        "model.encoder.embed_positions.weight"
    ]


def test_a_small_model_learns_spoken_digits(data):
    """Sound files to tokens, end to end: a few recordings of two speakers, one token for each digit."""
    config = MelConfig(chunk_length=0.64)
    files = [file for digit in range(4) for file in sorted((data / "fsdd_small").glob(f"{digit}_*_0.wav"))[:2]]
    sounds = [chunks(read_audio(file, config.sampling_rate), config)[:1] for file in files]
    mel = log_mel(torch.cat(sounds), config)
    digits = torch.tensor([int(file.name[0]) for file in files])
    torch.manual_seed(0)
    shape = {**SHAPE, "num_mel_bins": 80, "max_source_positions": 32, "vocab_size": 12}
    model = make_model({"model_type": "whisper", **shape})
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    start = torch.full((len(files), 1), 3)
    for _ in range(60):
        logits = model.logits(model(start, model.encode(mel)))[:, 0]
        loss = torch.nn.functional.cross_entropy(logits, digits)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    assert logits.argmax(-1).tolist() == digits.tolist()


@torch.no_grad()
def test_half_precision_weights_take_spectrograms_as_they_are(both):
    ours, _ = both(*CASES["plain"])
    mel, target = torch.randn(2, 7, 38), torch.randint(61, (2, 5))
    expected = ours.logits(ours(target, ours.encode(mel)))
    found = ours.bfloat16().logits(ours(target, ours.encode(mel)))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


def test_bad_sounds(both):
    ours, _ = both(*CASES["plain"])
    with pytest.raises(DataError, match=r"audio=8: wrong number of mel bands \(7\)"):
        ours.encode(torch.zeros(1, 8, 38))
    with pytest.raises(ContextLengthError, match=r"audio=39: too many frames \(at most 38; cut the sound\)"):
        ours.encode(torch.zeros(1, 7, 39))


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (dict(decoder_attention_heads=5), "d_model 24 is not a multiple of decoder_attention_heads 5"),
        (dict(eos_token_id=61), "eos_token_id 61 is outside the vocabulary of 61"),
        (dict(d_model=3), "d_model"),
    ],
)
def test_shapes_that_cannot_be(over, message):
    with pytest.raises(CutawayError, match=message):
        make_model({"model_type": "whisper", **SHAPE, **over})


def test_an_activation_that_is_not_here():
    with pytest.raises(CheckpointError, match="activation_function='mish': unsupported"):
        model_config({"model_type": "whisper", "activation_function": "mish"})
