"""What a checkpoint's makers say of its targets: tokens never written, not written first, or written at a place.

They stand in `generation_config.json`, in folders from before that file in `config.json`. Whisper's say that it begins with a
language and a task and that it writes no signs which nobody speaks.

B rows, T positions, V vocabulary.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.config import Config, make_config
from cutaway.core.errors import CheckpointError, ConfigError
from cutaway.models.encoder_decoder import EncoderDecoder

GENERATION = "generation_config.json"


class TargetRules(Config):
    """Field names and meanings are those of transformers, where a banned token outside the vocabulary means nothing too."""

    suppress_tokens: tuple[int, ...] = Field((), description="never written")
    begin_suppress_tokens: tuple[int, ...] = Field((), description="not written as the first free token")
    forced_bos_token_id: int | None = Field(None, ge=0, description="the first token after the start token")
    forced_eos_token_id: int | None = Field(None, ge=0, description="the last token of a target of full length")
    forced_decoder_ids: tuple[tuple[int, int | None], ...] = Field(
        (), description="Whisper's (place, token) after the start token; None: the language, which the model detects"
    )
    lang_to_id: dict[str, int] = Field({}, description="the tokens of the languages that Whisper detects")
    no_timestamps_token_id: int | None = Field(None, ge=0, description="ends what Whisper's targets begin with")

    def kept(self, log_BV: Tensor, opening: int, written: int, max_tokens: int) -> Tensor:
        """Log-probabilities of the next token with -inf for what may not come; a forced token has 0.

        Args:
            opening: tokens that the target began with.
            written: new tokens so far, of `max_tokens` at most.
        """
        bos = self.forced_bos_token_id if opening == 1 else None
        forced = bos if written == 0 else None
        if self.forced_eos_token_id is not None and written == max_tokens - 1:
            forced = self.forced_eos_token_id
        if forced is not None:
            log_BV = torch.full_like(log_BV, -math.inf).index_fill(1, torch.tensor([forced], device=log_BV.device), 0)
        first = written == (0 if bos is None else 1)
        return _without(log_BV, (*self.suppress_tokens, *(self.begin_suppress_tokens if first else ())))

    @property
    def detects(self) -> bool:
        """Whether the language is left to be detected."""
        return bool(self.lang_to_id) and (not self.forced_decoder_ids or self.forced_decoder_ids[0][1] is None)

    def prompt(self, start_id: int, language: int | None = None) -> list[int]:
        """What Whisper's targets begin with: the start token, the language, the task, and that no times are written.

        Args:
            language: its token, where it is left to be detected.
        """
        ids = [start_id, language, *(token for _, token in self.forced_decoder_ids)]
        if self.no_timestamps_token_id is not None and ids[-1] != self.no_timestamps_token_id:
            ids.append(self.no_timestamps_token_id)
        return [id for id in ids if id is not None]

    def forcing(self, prompt: Sequence[int]) -> "TargetRules":
        """The same rules with that prompt, whatever was detected before."""
        return self.model_copy(update={"forced_decoder_ids": tuple(enumerate(prompt))[1:]})

    def opening(self, model: EncoderDecoder, memory_BSD: Tensor, start_id: int) -> Tensor:
        """B × T: the prompt of every row, its language detected where it is left to be."""
        languages = self.languages(model, memory_BSD, start_id).tolist() if self.detects else [None] * len(memory_BSD)
        return torch.tensor([self.prompt(start_id, language) for language in languages])

    @torch.inference_mode()
    def languages(self, model: EncoderDecoder, memory_BSD: Tensor, start_id: int) -> Tensor:
        """B: the likeliest token of a language after the start token (Radford et al. 2022, section 2.3)."""
        start_B1 = torch.full((len(memory_BSD), 1), start_id, device=memory_BSD.device)
        tokens = torch.tensor(sorted(self.lang_to_id.values()), device=memory_BSD.device)
        return tokens[model.logits(model(start_B1, memory_BSD)[:, -1])[:, tokens].argmax(-1)]


def read_target_rules(folder: Path, vocabulary: int) -> TargetRules:
    """The rules of a checkpoint's folder; a file, or a folder that states none, has none.

    Raises:
        CheckpointError: a value that cannot be, by name.
    """
    values = {**read_values(folder / "config.json"), **read_values(folder / GENERATION)}
    stated = {name: values[name] for name in TargetRules.model_fields if values.get(name) is not None}
    try:
        rules = make_config(TargetRules, stated)
    except ConfigError as err:
        raise CheckpointError(str(err), field=GENERATION) from None
    places = [place for place, _ in rules.forced_decoder_ids]
    if places != list(range(1, len(places) + 1)):
        raise CheckpointError("places must be 1, 2, 3 …", field="forced_decoder_ids", value=places)
    must_exist = {
        "forced_bos_token_id": [rules.forced_bos_token_id],
        "forced_eos_token_id": [rules.forced_eos_token_id],
        "forced_decoder_ids": [token for _, token in rules.forced_decoder_ids],
        "lang_to_id": rules.lang_to_id.values(),
        "no_timestamps_token_id": [rules.no_timestamps_token_id],
    }
    for name, tokens in must_exist.items():
        for token in tokens:
            if token is not None and not 0 <= token < vocabulary:
                raise CheckpointError(f"is outside the vocabulary of {vocabulary}", field=name, value=token)
    return rules


def read_values(file: Path) -> dict[str, Any]:
    """The JSON object of a file; one that is not there has no values.

    Raises:
        CheckpointError: it holds something else.
    """
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise CheckpointError(f"cannot be read: {err}", field=file.name, value=str(file)) from None
    if not isinstance(values, dict):
        raise CheckpointError("is not a JSON object", field=file.name, value=str(file))
    return values


def _without(log_BV: Tensor, tokens: Sequence[int]) -> Tensor:
    known = [token for token in tokens if 0 <= token < log_BV.shape[1]]
    return log_BV.index_fill(1, torch.tensor(known, dtype=torch.int64, device=log_BV.device), -math.inf)
