"""The logit lens at the last layer is the model's own output."""

import torch

from cutaway.lens.logit_lens import logit_lens, residual_stream


def test_last_layer_is_the_model(model):
    ids_1T = torch.randint(260, (1, 9))
    stream_LTD = residual_stream(model, ids_1T)
    with torch.inference_mode():
        own = model.logits(model(ids_1T))[0].log_softmax(-1)
    lens_LTV = logit_lens(model, stream_LTD)
    assert lens_LTV.shape == (3, 9, 260)
    torch.testing.assert_close(lens_LTV[-1], own)
