"""cutaway vae train [--text] [--config FILE.yaml] [data.path=… out=… model.latent_size=16 loss.beta=0.5 loss.anneal_steps=500]
cutaway vae sample MODEL --n 16 --out samples.png

Train a variational auto-encoder of images or texts, and draw from it.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Train"

app = typer.Typer(help="Train a variational auto-encoder of images or texts, and draw from it.", no_args_is_help=True)


@app.command()
def train(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="For example data.path=digits out=runs/vae.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    text: Annotated[bool, typer.Option("--text", help="The data is text; otherwise it is images.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train on image files, or on texts; Ctrl-C saves, and the same command goes on."""
    from json import dumps

    from cutaway.core.config import load_config
    from cutaway.train.vae import ImageVAERun, TextVAERun, train_vae

    kind: type[ImageVAERun] | type[TextVAERun] = TextVAERun if text else ImageVAERun
    resolved = load_config(kind, config, settings or [])
    report = train_vae(resolved)
    if json:
        typer.echo(dumps(report, ensure_ascii=False))
        return
    loss, of = report["held_out_loss"]["held_out"], "texts" if text else "images"
    for why, count in report["skipped"]["counts"].items():
        typer.echo(f"left out: {count:,} {of} {why} (first: {report['skipped']['first'][why]})")
    typer.echo(f"{report['rows']:,} {of}, {report['parameters']['all']:,} parameters, {report['steps']:,} steps")
    step = f"(step {report['best_step']})"
    typer.echo(f"held-out −ELBO {loss['before']:.4f} → {loss['after']:.4f} {report['unit']} {step}")
    typer.echo(f"z says {report['kl']:.2f} nats, with {report['active_units']} of its dimensions")
    typer.echo(f"next: cutaway vae sample {resolved.out / 'model'}{'' if text else ' --out samples.png'}")


@app.command()
def sample(
    model: Annotated[str, typer.Argument(help="A folder with a variational auto-encoder.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many.")] = 16,
    out: Annotated[Path, typer.Option(help="Images go here, as one PNG file.")] = Path("samples.png"),
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a text at most.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Decides what is drawn.")] = 0,
) -> None:
    """Draw z from the prior: images as a grid in a file, texts as lines."""
    import torch

    from cutaway.core.errors import ConfigError
    from cutaway.data.images import write_grid
    from cutaway.models.huggingface import load_model
    from cutaway.models.load import find
    from cutaway.models.text_vae import TextVAE
    from cutaway.models.vae import VAE
    from cutaway.text.load import load_tokenizer

    folder, noise = find(model), torch.Generator().manual_seed(seed)
    loaded = load_model(folder, torch.float32, torch.device("cpu"))
    if isinstance(loaded, TextVAE):
        tokenizer = load_tokenizer(folder)
        for ids in loaded.sample(n, max_tokens, generator=noise).tolist():
            end = next((place for place, id in enumerate(ids) if id == tokenizer.eos_id), len(ids))
            typer.echo(" ".join(tokenizer.decode(ids[:end]).split()))
    elif isinstance(loaded, VAE) and loaded.config.image_shape:
        write_grid(loaded.sample(n, generator=noise).unflatten(1, loaded.config.image_shape), out)
        typer.echo(f"{n:,} images in {out}")
    else:
        raise ConfigError("draws neither images nor texts", field="model", value=model, hint="cutaway vae train")
