"""cutaway generate MODEL PROMPT [--chat] [--beams N] [--extend yarn=4] [--json] [--config FILE.yaml] [sampling.temperature=0.7 …]

Continue a text, or answer a message, in the terminal.
"""

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Use"


def main(
    model: Annotated[str, typer.Argument(help="A folder, a .gguf file or the name of a packaged model.")],
    prompt: Annotated[str, typer.Argument(help="The beginning of a text; with --chat, a message.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="For example sampling.top_p=0.9 max_tokens=64.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Answer the prompt as an assistant.")] = False,
    beams: Annotated[int | None, typer.Option(help="Beam search with this width.")] = None,
    extend: Annotated[
        str | None, typer.Option(help="A longer context than the trained one: yarn=4, ntk=2, sinks=8 …")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a YAML file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Continue a text, or answer a message, as it is written."""
    from json import dumps
    from time import monotonic

    from cutaway.core.config import load_config
    from cutaway.infer.engine import gather
    from cutaway.infer.generate import GenerateConfig, prompt_ids, stream
    from cutaway.infer.generate import beams as beam_search
    from cutaway.infer.native_decoder import serving_dtype
    from cutaway.models.load import load

    flags = [*(["chat=true"] if chat else []), *([f"beam.width={beams}"] if beams is not None else [])]
    resolved = load_config(GenerateConfig, config, [*flags, *(settings or [])])
    dtype = serving_dtype(model, resolved.dtype, resolved.device)
    loaded = load(model, dtype=dtype, device=resolved.device, extend=extend)
    ids = prompt_ids(loaded.tokenizer, prompt, resolved)
    started = monotonic()
    if resolved.beam:
        found = [
            {"text": loaded.tokenizer.decode(one.ids), "ids": one.ids, "score": one.score}
            for one in beam_search(loaded, ids, resolved)
        ]
        for one in found if not json else []:
            typer.echo(f"[{one['score']:.4f}] {one['text']}")
        result: dict[str, object] = {"prompt_tokens": len(ids), "beams": found}
    else:
        outputs = []
        for output in stream(loaded, ids, resolved):
            outputs.append(output)
            if not json:
                typer.echo(output.text, nl=False)
        completion = gather(outputs)
        result = {
            "prompt_tokens": len(ids),
            "text": completion.text,
            "ids": completion.ids,
            "finish_reason": completion.finish_reason,
        }
        if not json:
            rate = len(completion.ids) / (monotonic() - started)
            typer.echo("")
            typer.echo(f"{len(completion.ids)} tokens, {rate:.1f}/s, ended by {completion.finish_reason}", err=True)
    if json:
        result["seconds"] = round(monotonic() - started, 3)
        typer.echo(dumps(result, ensure_ascii=False))
