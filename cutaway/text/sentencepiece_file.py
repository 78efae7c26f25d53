"""SentencePiece `.model` files (Unigram and BPE), and the same vocabulary as GGUF files store it.

The pieces, scores and normalisation rules move into a `tokenizers` tokeniser that gives the same ids.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from cutaway.core.errors import TokenizerError
from cutaway.text.tokenizer import WORD_START, Tokenizer

# SentencePiece's types of piece; GGUF uses the same numbers.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def read_sentencepiece(path: Path) -> Tokenizer:
    """Read a `.model` file; errors as `sentencepiece_tokenizer`."""
    return sentencepiece_tokenizer(path.read_bytes(), path)


def sentencepiece_tokenizer(data: bytes, path: Path) -> Tokenizer:
    """The tokeniser in the bytes of a `.model` file; `path` is for the errors.

    Raises:
        TokenizerError: the bytes are no model, or one of another kind than Unigram and BPE.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as protocol

    proto = protocol.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(data)
    except DecodeError as err:
        raise TokenizerError(f"is not a SentencePiece model: {err}", field="tokenizer", value=str(path)) from None
    pieces = [piece.piece for piece in proto.pieces]
    if not pieces:
        raise TokenizerError("holds no pieces", field="tokenizer", value=str(path))
    scores, types = [piece.score for piece in proto.pieces], [piece.type for piece in proto.pieces]
    spec, rules = proto.trainer_spec, proto.normalizer_spec
    if spec.model_type not in (1, 2):
        raise TokenizerError("is neither Unigram nor BPE", field="tokenizer", value=str(path))
    steps: list[normalizers.Normalizer] = []
    if rules.precompiled_charsmap:
        steps.append(normalizers.Precompiled(rules.precompiled_charsmap))
    if rules.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.model_type == 1:
        backend = _unigram(pieces, scores, types, steps, rules.add_dummy_prefix)
    else:
        backend = bpe_from_scores(pieces, scores, types, steps, rules.add_dummy_prefix)
    control = {piece for piece, kind in zip(pieces, types, strict=True) if kind == CONTROL}
    roles = {"bos": spec.bos_piece, "eos": spec.eos_piece, "pad": spec.pad_piece}
    present = {role: piece for role, piece in roles.items() if piece in control}
    return Tokenizer(backend, **present, unk=spec.unk_piece, adds_bos="bos" in present)


def bpe_from_scores(
    pieces: Sequence[str],
    scores: Sequence[float],
    types: Sequence[int],
    steps: Sequence[normalizers.Normalizer] = (),
    prefix: bool = True,
) -> tokenizers.Tokenizer:
    """SentencePiece's BPE: the pair whose joined piece has the best score merges first; unknown characters fall to bytes."""
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    usable = {piece for piece, kind in zip(pieces, types, strict=True) if kind in (NORMAL, USER_DEFINED, UNUSED)}
    merges = []
    for piece, score, kind in zip(pieces, scores, types, strict=True):
        if kind == NORMAL:
            for cut in range(1, len(piece)):
                left, right = piece[:cut], piece[cut:]
                if left in usable and right in usable:
                    merges.append((-score, vocabulary[left], vocabulary[right], left, right))
    merges.sort()
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocabulary,
            [(left, right) for *_, left, right in merges],
            unk_token=_unknown(pieces, types),
            fuse_unk=True,
            byte_fallback=BYTE in types,
        )
    )
    return _with_spaces(backend, pieces, types, steps, prefix)


def _unigram(
    pieces: Sequence[str],
    scores: Sequence[float],
    types: Sequence[int],
    steps: Sequence[normalizers.Normalizer],
    prefix: bool,
) -> tokenizers.Tokenizer:
    unknown = types.index(UNKNOWN) if UNKNOWN in types else None
    model = models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=unknown, byte_fallback=BYTE in types)
    backend = tokenizers.Tokenizer(model)
    # SentencePiece never finds these pieces in a text; `tokenizers` would, so their spellings are cut in two.
    hidden = [piece for piece, kind in zip(pieces, types, strict=True) if kind in (UNKNOWN, CONTROL, BYTE)]
    spellings = Regex("|".join(f"{re.escape(piece[0])}(?={re.escape(piece[1:])})" for piece in hidden) or "(?!)")
    backend.pre_tokenizer = pre_tokenizers.Split(spellings, behavior="merged_with_previous")
    return _with_spaces(backend, pieces, types, steps, prefix)


def _with_spaces(
    backend: tokenizers.Tokenizer,
    pieces: Sequence[str],
    types: Sequence[int],
    steps: Sequence[normalizers.Normalizer],
    prefix: bool,
) -> tokenizers.Tokenizer:
    """Spaces are written as a letter; with `prefix` every text, one that starts with a space too, gets one more in front."""
    start = [normalizers.Prepend(WORD_START)] if prefix else []
    backend.normalizer = normalizers.Sequence([*steps, *start, normalizers.Replace(" ", WORD_START)])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(WORD_START, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    _add_special(backend, pieces, types)
    return backend


def _unknown(pieces: Sequence[str], types: Sequence[int]) -> str | None:
    return next((piece for piece, kind in zip(pieces, types, strict=True) if kind == UNKNOWN), None)


def _add_special(backend: tokenizers.Tokenizer, pieces: Sequence[str], types: Sequence[int]) -> None:
    for piece, kind in zip(pieces, types, strict=True):
        if kind in (UNKNOWN, CONTROL):
            backend.add_special_tokens([AddedToken(piece, special=True, normalized=False)])
        elif kind == USER_DEFINED:
            backend.add_tokens([AddedToken(piece, special=False, normalized=False)])
