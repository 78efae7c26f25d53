"""What decoders must keep beside their logits: cache, rows, packing, padding, backends."""

import pytest
import torch

from tests.parity.decoders import CASES


# Dynamic scaling turns earlier keys by the frequencies of a shorter length, in transformers too: no equality to expect.
@pytest.mark.parametrize("case", [case for case in CASES if "dynamic" not in case])
@torch.no_grad()
def test_cached_equals_uncached(case, both):
    ours, _ = both(*CASES[case])
    ids = torch.randint(97, (3, 14))
    whole = ours.logits(ours(ids))
    cache = ours.new_cache(3, 14)
    pieces = [ours.logits(ours(part, cache=cache)) for part in ids.split([5, 1, 1, 4, 3], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["llama", "mistral, window", "gpt2"])
@torch.no_grad()
def test_rows_of_different_lengths_decode_like_single_rows(case, both):
    ours, _ = both(*CASES[case])
    prompts = [torch.randint(97, (1, n)) for n in (9, 3, 6)]
    cache = ours.new_cache(4, 16)
    for row, prompt in enumerate(prompts):
        ours(prompt, cache=cache.rows(row, row + 1))
    new = torch.randint(97, (3, 4))
    together = torch.cat([ours(step, cache=cache.rows(0, 3)) for step in new.split(1, dim=1)], dim=1)
    for row, prompt in enumerate(prompts):
        alone = ours(torch.cat((prompt, new[row : row + 1]), dim=1))[:, -4:]
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["llama", "qwen2, tied", "gpt2"])
@torch.no_grad()
def test_packed_equals_unpacked(case, both):
    from cutaway.nn.masks import segment_mask

    ours, _ = both(*CASES[case])
    documents = [torch.randint(97, (1, n)) for n in (7, 4, 9)]
    segments = torch.tensor([[1] * 7 + [2] * 4 + [3] * 9 + [0] * 2])
    positions = torch.tensor([[*range(7), *range(4), *range(9), 0, 0]])
    ids = torch.cat([*documents, torch.zeros(1, 2, dtype=torch.int64)], dim=1)
    packed = ours(ids, positions_BT=positions, mask_BTS=segment_mask(segments))
    for document, part in zip(documents, packed[:, :20].split([7, 4, 9], dim=1), strict=True):
        torch.testing.assert_close(part, ours(document), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["llama", "gpt2"])
@torch.no_grad()
def test_padded_batch_equals_transformers(case, both):
    """Padding on the left, as generation batches it there."""
    ours, theirs = both(*CASES[case])
    ids = torch.randint(97, (2, 8))
    real = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [1] * 8], dtype=torch.bool)
    positions = (real.cumsum(1) - 1).clamp(min=0)
    expected = theirs(ids, attention_mask=real.long(), position_ids=positions).logits
    mask = torch.ones(8, 8, dtype=torch.bool).tril()[None] & real[:, None]
    found = ours.logits(ours(ids, positions_BT=positions, mask_BTS=mask))
    torch.testing.assert_close(found[real], expected[real], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", ["llama", "gpt2"])
@torch.no_grad()
def test_backends_agree(case, both):
    ours, _ = both(*CASES[case])
    ids = torch.randint(97, (2, 21))
    expected = ours(ids)
    for backend in ("reference", "tiled"):
        for module in ours.modules():
            if hasattr(module, "backend"):
                module.backend = backend
        torch.testing.assert_close(ours(ids), expected, atol=1e-5, rtol=1e-5)
