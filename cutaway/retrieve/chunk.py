"""Documents become passages: whole sentences of one section, up to a size in the embedder's tokens, with an overlap."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field, model_validator

from cutaway.core.config import Config
from cutaway.retrieve.load import Document, Section
from cutaway.text.sentences import Span, sentences

_PIECE = re.compile(r"\S{1,32}\s*")


class ChunkConfig(Config):
    """How documents are cut."""

    size: int = Field(180, ge=8, description="tokens of the embedder in a passage, at most")
    overlap: int = Field(30, ge=0, description="tokens at the end of a passage that the next one repeats, at most")

    @model_validator(mode="after")
    def _moves_on(self) -> "ChunkConfig":
        if self.overlap >= self.size:
            raise ValueError(f"overlap {self.overlap} must be less than size {self.size}")
        return self


@dataclass(frozen=True)
class Chunk:
    """A passage of a document: `document.text[start:end]` is `text`, to the character."""

    text: str
    start: int
    end: int
    headings: tuple[str, ...] = ()
    page: int | None = None


def chunk(document: Document, count: Callable[[Sequence[str]], list[int]], config: ChunkConfig) -> list[Chunk]:
    """Cut a document; no passage crosses a heading or a page.

    Args:
        count: the number of tokens of each text.
    """
    chunks = []
    for section in document.sections:
        atoms = list(_atoms(document.text, section, count, config.size))
        sizes = count([document.text[start:end] for start, end in atoms])
        for first, last in _windows(sizes, config):
            start, end = atoms[first][0], atoms[last][1]
            chunks.append(Chunk(document.text[start:end], start, end, section.headings, section.page))
    return chunks


def _atoms(text: str, section: Section, count: Callable[[Sequence[str]], list[int]], size: int) -> Iterator[Span]:
    """Sentences; one that alone is over the size falls apart at spaces, and a run without spaces anywhere."""
    spans = [
        (section.start + start, section.start + end) for start, end in sentences(text[section.start : section.end])
    ]
    for (start, end), tokens in zip(spans, count([text[a:b] for a, b in spans]), strict=True):
        if tokens <= size:
            yield start, end
        else:
            for piece in _PIECE.finditer(text, start, end):
                yield piece.start(), piece.start() + len(piece[0].rstrip())


def _windows(sizes: Sequence[int], config: ChunkConfig) -> Iterator[Span]:
    """Runs of atoms (first, last) of at most `size` tokens; each starts inside the one before by at most `overlap`."""
    first = 0
    while first < len(sizes):
        last, total = first, sizes[first]
        while last + 1 < len(sizes) and total + sizes[last + 1] <= config.size:
            last += 1
            total += sizes[last]
        yield first, last
        if last + 1 == len(sizes):
            return
        start, shared = last + 1, 0
        while start - 1 > first and shared + sizes[start - 1] <= config.overlap:
            start -= 1
            shared += sizes[start]
        first = start
