"""What a model writes of a file: what is said in a sound (Whisper), 30 seconds at a time, or what is seen in an image.

Whisper's own loop for long sounds (Radford et al. 2022, section 3.8) moves on by the times that it writes; here pieces are of
one length and no times are written, so that a word on a border may be lost.
"""

import torch

from cutaway.data.media import Source
from cutaway.data.preprocess import pieces, preprocessor
from cutaway.decode.beam import Beam
from cutaway.infer.translate import write
from cutaway.models.load import Loaded
from cutaway.models.target_rules import read_target_rules


@torch.inference_mode()
def text_of_file(loaded: Loaded, file: Source, beam: Beam, max_tokens: int, rows: int) -> str:
    """The text of a sound or of an image.

    Args:
        loaded: an encoder-decoder that reads such files, with a `preprocessor_config.json` in its folder.
        file: of any format that libsndfile or Pillow knows, or its bytes.
        max_tokens: of a piece, at most; no more than the model's context.
        rows: pieces at once.

    Raises:
        DataError: the file cannot be read.
        CheckpointError: the folder lacks a file, or states what cannot be.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    rules = read_target_rules(loaded.source, model.embedding.num_embeddings)
    texts = []
    for some in pieces(file, preprocessor(model.SOURCE, loaded.source)).split(rows):
        memory = model.encode(some.to(model.embedding.weight.device))
        start = rules.opening(model, memory, model.config.decoder_start_token_id)
        limit = min(max_tokens, model.context - start.shape[1])
        found = write(model, memory, None, beam, {model.config.eos_token_id}, start, limit, rules)
        texts += [tokenizer.decode(hypotheses[0].ids).strip() for hypotheses in found]
    return " ".join(text for text in texts if text)
