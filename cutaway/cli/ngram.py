"""cutaway ngram train FILES… --tokenizer TOKENIZER --out FOLDER [--order 5] [--discounts 3]
cutaway ngram score FOLDER TEXT… [--json]
cutaway ngram sample FOLDER [PROMPT] [--tokens 50] [--seed 0] [--json]

An interpolated Kneser-Ney n-gram model: count one on your files, say how well it predicts a text (bits per byte stand beside
those of `cutaway evaluate`), let it write on. TOKENIZER is whatever `cutaway tokenizer` takes.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cutaway.models.ngram import NGram
    from cutaway.text.tokenizer import Tokenizer

PANEL = "Train"
app = typer.Typer(help="Count an n-gram model; score a text and write with it.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="What `train` wrote.")]
Encoding = Annotated[str, typer.Option(help="How the text is written.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("train")
def train(
    files: Annotated[list[str], typer.Argument(help="Files, folders or patterns: text, JSONL, JSON or Parquet.")],
    tokenizer: Annotated[str, typer.Option(help="A folder, file or packaged model.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    order: Annotated[int | None, typer.Option(help="Tokens of the longest n-grams; 5 by default.")] = None,
    discounts: Annotated[int | None, typer.Option(help="3 (modified Kneser-Ney, the default) or 1.")] = None,
    encoding: Encoding = "utf-8",
    json: Json = False,
) -> None:
    """Count the n-grams of files."""
    from json import dumps

    from cutaway.cli.tokenizer import open_tokenizer
    from cutaway.core.config import make_config
    from cutaway.core.progress import step
    from cutaway.data.examples import Skipped, tokenize
    from cutaway.data.read import find_files, read_records
    from cutaway.models.ngram import NGramConfig, fit

    opened = open_tokenizer(tokenizer)
    given = {"order": order, "discounts": discounts}
    shape = {name: value for name, value in given.items() if value is not None}
    config = make_config(NGramConfig, {"vocab_size": opened.vocab_size, **shape})
    found, skipped = find_files(files), Skipped()
    with step(f"reading {len(found)} files"):
        documents = [example.ids for example in tokenize(read_records(found, encoding), opened, skipped)]
    with step(f"counting {config.order}-grams"):
        model = fit(documents, config)
    model.save(out, opened)
    kinds = [int((level.counts > 0).sum()) for level in model.levels]  # without those that end in a start symbol
    tokens = sum(map(len, documents))
    if json:
        typer.echo(dumps({"out": str(out), "tokens": tokens, "ngrams": kinds, "skipped": skipped.counts}))
        return
    typer.echo(f"{tokens:,} tokens; n-grams of order 1 to {config.order}: {', '.join(f'{n:,}' for n in kinds)} → {out}")
    if skipped.counts:
        typer.echo(f"left out: {skipped}")
    typer.echo(f"next: cutaway ngram score {out} FILE")


@app.command("score")
def score(
    model: Folder,
    text: Annotated[list[str], typer.Argument(help="Files, folders or patterns: text, JSONL, JSON or Parquet.")],
    encoding: Encoding = "utf-8",
    json: Json = False,
) -> None:
    """Say how well the model predicts a text."""
    from json import dumps

    from cutaway.data.examples import Skipped, tokenize
    from cutaway.data.read import find_files, read_records
    from cutaway.evaluate.ngram import ngram_perplexity

    files, skipped = find_files(text), Skipped()
    ngram, tokenizer = _load(model)
    report = ngram_perplexity(ngram, tokenizer, tokenize(read_records(files, encoding), tokenizer, skipped))
    found = report.perplexity
    if json:
        numbers = {
            "loss": found.loss,
            "perplexity": found.perplexity,
            "bits_per_byte": found.bits_per_byte,
            "tokens": found.tokens,
            "bytes": found.bytes,
            "unseen": report.unseen,
            "matched": report.matched,
        }
        typer.echo(dumps({"model": str(model), "text": text, **numbers, "skipped": skipped.counts}))
        return
    typer.echo(
        f"{found.loss:.4f} nats per token, perplexity {found.perplexity:.2f}, {found.bits_per_byte:.4f} bits per byte "
        f"({found.tokens} tokens, {found.bytes} bytes); {report.unseen:.1%} of the {ngram.config.order}-grams unseen"
    )
    if skipped.counts:
        typer.echo(f"left out: {skipped}")


@app.command("sample")
def sample(
    model: Folder,
    prompt: Annotated[str, typer.Argument(help="What to go on from; nothing: a document's beginning.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="The most tokens to draw.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same tokens.")] = 0,
    json: Json = False,
) -> None:
    """Write on with the model."""
    from json import dumps

    import numpy as np

    ngram, tokenizer = _load(model)
    before = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    ids = ngram.sample(
        [*before, *tokenizer.encode(prompt)], tokens, np.random.default_rng(seed), ends=tokenizer.end_ids
    )
    text = tokenizer.decode(ids)
    typer.echo(dumps({"text": text, "ids": ids}, ensure_ascii=False) if json else prompt + text)


def _load(folder: Path) -> "tuple[NGram, Tokenizer]":
    from cutaway.core.errors import CheckpointError
    from cutaway.models.ngram import NGram
    from cutaway.text.load import load_tokenizer

    if not folder.is_dir():
        raise CheckpointError("no such folder", field="model", value=str(folder))
    model, tokenizer = NGram.load(folder), load_tokenizer(folder)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"the tokeniser has {tokenizer.vocab_size} tokens and the model counts {model.config.vocab_size}",
            field="model",
            value=str(folder),
        )
    return model, tokenizer
