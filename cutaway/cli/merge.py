"""cutaway merge MODEL ADAPTER OUT

Add a LoRA adapter (ours or PEFT's) to the weights of its model and write the result as an ordinary model folder.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Train"


def main(
    model: Annotated[str, typer.Argument(help="The adapter's model: a folder, a .gguf file or a packaged model.")],
    adapter: Annotated[Path, typer.Argument(help="A folder with adapter_config.json and adapter_model.safetensors.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not be there yet.")],
    dtype: Annotated[str, typer.Option(help="Format of the weights: float32, bfloat16, float16 or auto.")] = "float32",
) -> None:
    """Fold a LoRA adapter into its model."""
    from cutaway.adapt.lora import fold
    from cutaway.adapt.peft_files import load_adapter
    from cutaway.core.errors import ConfigError
    from cutaway.models.huggingface import save_model
    from cutaway.models.load import load

    if out.exists():
        raise ConfigError("is there already", field="OUT", value=str(out), hint="give a new folder")
    loaded = load(model, dtype=dtype, device="cpu")
    config = load_adapter(loaded.model, adapter)
    fold(loaded.model)
    save_model(loaded.model, loaded.tokenizer, out)
    typer.echo(f"{out}: {loaded.name} with {len(config.targets)} adapted layers (rank {config.rank}) folded in")
    typer.echo(f'next: cutaway generate {out} "…" --chat')
