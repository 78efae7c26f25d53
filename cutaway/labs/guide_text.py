"""The project's own guide as a small bilingual corpus."""

import random

from cutaway.core.files import resource


def guide(seed: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Pages to train on and pages held out (a quarter, drawn by `seed`), by language (`en`, `zh`).

    A topic is on one side in both languages.
    """
    folder = resource("docs/topics")
    topics = sorted({file.name.split(".")[0] for file in folder.glob("*.en.md")})
    held = set(random.Random(seed).sample(topics, max(1, len(topics) // 4)))
    sides: tuple[dict[str, list[str]], dict[str, list[str]]] = {}, {}
    for language in ("en", "zh"):
        for side, chosen in zip(sides, (set(topics) - held, held), strict=True):
            side[language] = [(folder / f"{name}.{language}.md").read_text("utf-8") for name in sorted(chosen)]
    return sides
