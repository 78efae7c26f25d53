"""cutaway tokenizer train FILES… --out FOLDER [--kind bpe|wordpiece|unigram] [vocab_size=8192 …]
cutaway tokenizer encode|inspect TOKENIZER TEXT [--json]
cutaway tokenizer inspect TOKENIZER --file FILE [--json]
cutaway tokenizer decode TOKENIZER IDS… [--json]

Train a tokeniser on your files; look at what one does to a text or a file. TOKENIZER is a folder, a tokenizer.json, a
SentencePiece .model, a .tiktoken file, a .gguf file or the name of a packaged model.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cutaway.text.tokenizer import Tokenizer

PANEL = "Use"
app = typer.Typer(help="Train a tokeniser; see what one does to a text.", no_args_is_help=True)

Spec = Annotated[str, typer.Argument(metavar="TOKENIZER", help="A folder, file or packaged model.")]
Encoding = Annotated[str, typer.Option(help="How text files are encoded.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("train")
def train(
    files: Annotated[list[str], typer.Argument(help="Text files and folders, then settings (vocab_size=8192).")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    kind: Annotated[str, typer.Option(help="bpe, wordpiece or unigram.")] = "bpe",
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    encoding: Encoding = "utf-8",
) -> None:
    """Train a tokeniser on files."""
    from cutaway.cli.data import files_and_settings
    from cutaway.core.config import save_config
    from cutaway.core.progress import step
    from cutaway.data.read import find_files
    from cutaway.data.shapes import Texts
    from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

    paths, settings = files_and_settings([f"kind={kind}", *files], TrainTokenizerConfig, config)
    found = find_files(paths)
    with step(f"training on {len(found)} files"):
        tokenizer = train_tokenizer(Texts(found, encoding), settings)
    tokenizer.save(out)
    save_config(settings, out / "tokenizer.yaml")
    typer.echo(f"{tokenizer.vocab_size} tokens → {out}; look at it with: cutaway tokenizer inspect {out} 'some text'")


@app.command("encode")
def encode(
    tokenizer: Spec,
    text: Annotated[str, typer.Argument(help="The text.")],
    special: Annotated[bool, typer.Option("--special", help="Read special tokens written in the text.")] = False,
    json: Json = False,
) -> None:
    """Text to ids."""
    from json import dumps

    ids = open_tokenizer(tokenizer).encode(text, special)
    typer.echo(dumps(ids) if json else " ".join(map(str, ids)))


@app.command("decode")
def decode(tokenizer: Spec, ids: Annotated[list[int], typer.Argument(help="Token ids.")], json: Json = False) -> None:
    """Ids to text."""
    from json import dumps

    opened = open_tokenizer(tokenizer)
    for id in ids:
        opened.token_bytes(id)  # an id that does not exist is named
    text = opened.decode(ids, skip_special=False)
    typer.echo(dumps(text, ensure_ascii=False) if json else text)


@app.command("inspect")
def inspect(
    tokenizer: Spec,
    text: Annotated[str | None, typer.Argument(help="The text; or use --file.")] = None,
    file: Annotated[list[str] | None, typer.Option(help="A file or folder to count over, instead of a text.")] = None,
    special: Annotated[bool, typer.Option("--special", help="Read special tokens written in the text.")] = False,
    encoding: Encoding = "utf-8",
    json: Json = False,
) -> None:
    """The pieces of a text: id, characters, bytes, place. Of a file: how well the tokeniser fits, the most frequent pieces."""
    from dataclasses import asdict
    from json import dumps

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from cutaway.core.errors import DataError
    from cutaway.data.shapes import Texts
    from cutaway.text.report import fit

    if bool(text) == bool(file):
        raise DataError("give a text that is not empty, or --file", field="text", value=text)
    opened = open_tokenizer(tokenizer)
    measured = fit(opened, text or Texts(file or [], encoding))
    pieces = opened.pieces(text, special) if text else None
    if json:
        rows = [{**asdict(piece), "bytes": list(piece.bytes)} for piece in pieces or []]
        typer.echo(
            dumps(
                {"pieces": rows, "fit": asdict(measured)} if text else {"fit": asdict(measured)},
                ensure_ascii=False,
                indent=1,
            )
        )
        return
    if pieces is not None:
        table = Table("id", "piece", "bytes", "characters")
        for piece in pieces:
            shown = f"[bold]{escape(piece.text)}[/bold]" if piece.special else escape(repr(piece.text))
            table.add_row(str(piece.id), shown, piece.bytes.hex(" "), f"{piece.start}–{piece.end}")
    else:
        table = Table("id", "piece", "times", "share")
        for one in measured.frequent:
            table.add_row(str(one.id), escape(repr(one.text)), str(one.count), f"{one.count / measured.tokens:.2%}")
    Console().print(table)
    typer.echo(
        f"{measured.tokens} tokens ({measured.distinct} of {opened.vocab_size}), "
        f"{measured.characters} characters, {measured.bytes} bytes: "
        f"{measured.bytes_per_token:.2f} bytes per token, {measured.tokens_per_word:.2f} tokens per word, "
        f"{measured.unknown_rate:.1%} unknown, {measured.byte_rate:.1%} parts of characters, "
        f"round trip {'exact' if measured.round_trip else 'NOT exact'}"
    )


def open_tokenizer(spec: str) -> "Tokenizer":
    """The tokeniser behind what the command line takes for one (see the top of this file)."""
    from cutaway.models.gguf_file import open_gguf
    from cutaway.models.packaged import PACKAGED, packaged_path
    from cutaway.text.gguf import tokenizer_from_gguf
    from cutaway.text.load import load_tokenizer

    path = (packaged_path(spec) if spec in PACKAGED else None) or Path(spec)
    if path.suffix == ".gguf":
        return tokenizer_from_gguf(open_gguf(path).metadata)
    return load_tokenizer(path)
