"""What a model writes of files: what is said in sounds (Whisper), 30 seconds at a time, or what is seen in images.

Whisper's own loop for long sounds (Radford et al. 2022, section 3.8) moves on by the times that it writes; here pieces are of
one length and no times are written, so that a word on a border may be lost.
"""

from collections.abc import Sequence
from itertools import islice

import torch

from cutaway.core.progress import Progress
from cutaway.data.media import Source
from cutaway.data.preprocess import pieces, preprocessor
from cutaway.decode.beam import Beam
from cutaway.infer.translate import write
from cutaway.models.load import Loaded
from cutaway.models.target_rules import read_target_rules


@torch.inference_mode()
def texts_of_files(loaded: Loaded, files: Sequence[Source], beam: Beam, max_tokens: int, rows: int) -> list[str]:
    """The text of every sound or image.

    Args:
        loaded: an encoder-decoder that reads such files, with a `preprocessor_config.json` in its folder.
        files: of any format that libsndfile or Pillow knows, or their bytes.
        max_tokens: of a piece, at most; no more than the model's context.
        rows: pieces at once.

    Raises:
        DataError: a file cannot be read.
        CheckpointError: the folder lacks a file, or states what cannot be.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    rules = read_target_rules(loaded.source, model.embedding.num_embeddings)
    wants = preprocessor(model.SOURCE, loaded.source)
    texts: list[list[str]] = [[] for _ in files]
    waiting = ((number, piece) for number, file in enumerate(files) for piece in pieces(file, wants))
    with Progress("writing", unit="piece") as progress:
        while some := list(islice(waiting, rows)):
            memory = model.encode(torch.stack([piece for _, piece in some]).to(model.embedding.weight.device))
            start = rules.opening(model, memory, model.config.decoder_start_token_id)
            limit = min(max_tokens, model.context - start.shape[1])
            found = write(model, memory, None, beam, {model.config.eos_token_id}, start, limit, rules)
            for (number, _), hypotheses in zip(some, found, strict=True):
                texts[number].append(tokenizer.decode(hypotheses[0].ids).strip())
            progress.advance(len(some))
    return [" ".join(filter(None, parts)) for parts in texts]
