"""From a model to a GGUF file of fewer bits, with what that costs measured on the file that was written."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.errors import ConfigError
from cutaway.core.files import write_text
from cutaway.core.progress import Progress, step
from cutaway.data.examples import Example, Skipped, tokenize
from cutaway.data.read import find_files, read_records
from cutaway.evaluate.closeness import closeness
from cutaway.evaluate.perplexity import PerplexityConfig
from cutaway.models.gguf_out import check_gguf, write_gguf
from cutaway.models.load import STORED, load
from cutaway.quant.calibration import Calibrated
from cutaway.quant.quantise import QuantConfig, plan, quantise
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.finetune import RETENTION


class QuantiseConfig(QuantConfig):
    """How a model is quantised, and on what that is judged."""

    calibration: Path | None = Field(
        None, description="text on which codes make up for each other's errors (GPTQ); none: nearest codes"
    )
    calibration_tokens: int = Field(8192, ge=1, description="tokens of it that are read")
    text: Path = Field(RETENTION, description="text on which the written file is compared; by default one that ships")
    reading: PerplexityConfig = PerplexityConfig(stride=512)


def quantise_to_file(spec: str, out: Path, config: QuantiseConfig) -> dict[str, Any]:
    """Write `out`, and beside it `out` with the ending `.json`: the report that is returned.

    The report gives, on `config.text`, perplexity and bits per byte before and after, the divergence of the file's predictions
    from the model's, and the share of tokens whose likeliest successor stayed.

    Args:
        spec: a folder, a `.gguf` file or a packaged model, of the Llama family.

    Raises:
        CutawayError: whatever of the files or the configuration stands in the way; the file is then not there.
    """
    if out.suffix != ".gguf":
        raise ConfigError("must end in .gguf", field="OUT", value=str(out))
    if out.exists():
        raise ConfigError("is there already", field="OUT", value=str(out), hint="give a new name")
    texts = find_files(str(config.text))
    calibration = find_files(str(config.calibration)) if config.calibration else []
    with step("loading the model"):
        loaded = load(spec, dtype="float32", device="cpu")
        check_gguf(loaded.model)
    encoder = None
    if calibration:
        pieces = list(_pieces(_examples(loaded.tokenizer, calibration), loaded.model.context, config))
        encoder = Calibrated(plan(loaded.model, config)[0], lambda: _read(loaded.model, pieces))
    with step("quantising"):
        done = quantise(loaded.model, config, encoder)
    with step("writing"):
        write_gguf(loaded.model, loaded.tokenizer, out, loaded.name)
    with step("comparing"):
        before, after = load(spec, dtype="float32", device="cpu"), load(out, dtype=STORED, device="cpu")
        found = closeness(
            before.model, after.model, before.tokenizer, _examples(before.tokenizer, texts), config.reading
        )
    weights = sum(parameter.numel() for parameter in after.model.parameters())
    report = {
        "model": spec,
        "file": str(out),
        "bytes": out.stat().st_size,
        "bits_per_weight": 8 * out.stat().st_size / weights,
        "formats": dict(Counter(done.formats.values())),
        "left": done.left,
        "quality": found.numbers(),
        "config": config.model_dump(mode="json"),
    }
    write_text(out.with_suffix(".json"), json.dumps(report, indent=2, ensure_ascii=False))
    return report


def _examples(tokenizer: Tokenizer, files: list[Path]) -> Iterator[Example]:
    return tokenize(read_records(files), tokenizer, Skipped())


def _pieces(examples: Iterator[Example], context: int, config: QuantiseConfig) -> Iterator[Tensor]:
    """1 × T ids at a time."""
    left, window = config.calibration_tokens, min(config.reading.window, context)
    for example in examples:
        ids = torch.from_numpy(example.ids[:left]).long()
        yield from ids[None].split(window, 1)
        left -= len(ids)
        if not left:
            return


def _read(model: Any, pieces: list[Tensor]) -> None:
    with Progress("reading the calibration text", len(pieces), "window") as progress:
        for ids_BT in pieces:
            model(ids_BT)
            progress.advance()
