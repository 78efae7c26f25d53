"""What is said in a sound, written by a model that reads sounds (Whisper), 30 seconds at a time.

Whisper's own loop for long sounds (Radford et al. 2022, section 3.8) moves on by the times that it writes; here pieces are of
one length and no times are written, so that a word on a border may be lost.
"""

import torch

from cutaway.data.audio import chunks, log_mel, mel_config, read_audio
from cutaway.data.media import Source, read_preprocessor
from cutaway.decode.beam import Beam
from cutaway.infer.target_rules import read_target_rules
from cutaway.infer.translate import write
from cutaway.models.load import Loaded


@torch.inference_mode()
def transcribe(loaded: Loaded, sound: Source, beam: Beam, max_tokens: int, rows: int) -> str:
    """The text of a sound.

    Args:
        loaded: an encoder-decoder that reads sounds, with a `preprocessor_config.json` in its folder.
        sound: a file of any format that libsndfile knows, or its bytes.
        max_tokens: of a piece, at most; no more than the model's context.
        rows: pieces at once.

    Raises:
        DataError: the sound cannot be read.
        CheckpointError: the folder lacks a file, or states what cannot be.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    config = mel_config(read_preprocessor(loaded.source))
    rules = read_target_rules(loaded.source, model.embedding.num_embeddings)
    texts = []
    for some in chunks(read_audio(sound, config.sampling_rate), config).split(rows):
        memory = model.encode(log_mel(some, config).to(model.embedding.weight.device))
        start = rules.opening(model, memory, model.config.decoder_start_token_id)
        limit = min(max_tokens, model.context - start.shape[1])
        found = write(model, memory, None, beam, {model.config.eos_token_id}, start, limit, rules)
        texts += [tokenizer.decode(hypotheses[0].ids).strip() for hypotheses in found]
    return " ".join(text for text in texts if text)
