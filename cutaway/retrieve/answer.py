"""A question, the passages that answer it, and what the reply rests on.

grounding = ground(question, index)            before: the prompt, or that the documents hold no answer
text = generate(grounding.messages)            whoever runs the model; it may stream
answer = conclude(text, grounding)             after: sentences, and the passages that support them
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cutaway.core.errors import ContextLengthError, RequestError
from cutaway.decode.sampling import Sampling
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.infer.request import Request
from cutaway.models.load import Loaded
from cutaway.retrieve.cite import Sentence, attribute, with_citations
from cutaway.retrieve.extract import best_sentences
from cutaway.retrieve.full_text import coverage, is_chinese, terms
from cutaway.retrieve.index import Hit, Index
from cutaway.text.chat import ChatRenderer

PASSAGES = 3
SENTENCES = 5  # of those passages, put before the question
MAX_TOKENS = 60  # after the opening
# A repetition penalty also counts the prompt, and so punishes quoting; the frequency penalty counts only the reply.
SAMPLING = Sampling(temperature=0, frequency_penalty=0.2)
# A question is answerable when meaning (cosine) and words (coverage) of its passages sum to this. On 260 XQuAD questions, with
# and without the article that answers them: 7.3 % refused though answerable, 1.2 % answered though not (docs/log.md).
LEAST_RELEVANCE = 0.95
# A Chinese one is judged by its characters and their pairs alone. On half of tests/retrieve/questions.jsonl and of 838 Chinese
# instructions about other things: 1 of 16 refused, 2.9 % answered (docs/log.md).
CHINESE_COVERAGE = 0.6

Generate = Callable[[list[dict[str, str]], str], str]
"""Messages, and what the reply begins with, to the whole reply."""

# In English, and (true) in Chinese.
_INSTRUCTION = {False: "Use the text above to answer in one or two sentences: ", True: "请根据上文用一两句话回答："}
# A small model that has answered, in Chinese above all, may go on by reciting its prompt: there the reply ends.
STOP = tuple(text.strip(" :：") for text in _INSTRUCTION.values())
_NO_ANSWER = {False: "The documents do not answer this question.", True: "这些文档没有回答这个问题。"}
_MARK = re.compile(r"\s*\[\d+\??\]")


@dataclass(frozen=True)
class Grounding:
    """What goes before the reply.

    Args:
        messages: the conversation for the model, passages inside the last question.
        passages: what was found, best first; number 1 is the first.
        opening: the sentence nearest to the question. A reply that begins with it begins with a quotation: a small model
            left to itself paraphrases, and is wrong more often than not.
        answerable: false when the passages do not cover the question: then `refusal` is the reply, and no model is asked.
    """

    question: str
    messages: list[dict[str, str]]
    passages: list[Hit]
    answerable: bool
    opening: str = ""

    @property
    def refusal(self) -> str:
        """'The documents do not answer this question', in the question's language."""
        return _NO_ANSWER[is_chinese(self.question)]


@dataclass(frozen=True)
class Answer:
    """A reply and what it rests on.

    Args:
        text: as the model wrote it; `cited` is the same with `[1]` … after supported sentences, `[1?]` after related ones.
        citations: numbers of the passages that support or are related to a sentence, in order of their first use.
        grounded: every sentence is supported; false for a refusal.
        timings: seconds.
    """

    question: str
    text: str
    cited: str
    sentences: list[Sentence]
    citations: list[int]
    passages: list[Hit]
    answerable: bool
    grounded: bool
    timings: dict[str, float] = field(default_factory=dict)

    def printed(self) -> str:
        """For a terminal: the reply with its citations, and what they stand for."""
        lines = [self.cited]
        for number in self.citations:
            hit = self.passages[number - 1]
            place = f"page {hit.page}" if hit.page else hit.heading
            lines.append(f"  [{number}] {', '.join(filter(None, (hit.source, place)))}")
        if self.answerable and not self.grounded:
            lines.append("[n?]: passage n is about this, but was not found to say it. No number: no passage is.")
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **asdict(self),
            "sentences": [{**asdict(one), "passages": list(one.passages)} for one in self.sentences],
            "passages": [{"number": number, **asdict(hit)} for number, hit in enumerate(self.passages, 1)],
        }


def ground(
    question: str,
    index: Index,
    history: Sequence[Mapping[str, str]] = (),
    k: int = PASSAGES,
    where: Mapping[str, str] | None = None,
) -> Grounding:
    """Search, and put what was found before the question.

    Args:
        history: the conversation so far, without the question.
        k: passages in the prompt, at most.
        where: which passages count, as in `Index.search`.

    Raises:
        RequestError: an empty question.
    """
    if not question.strip():
        raise RequestError("is empty", field="question")
    hits = index.search(question, k, where=where)
    text, opening = best_sentences(question, hits, index.embedder, SENTENCES)
    prompt = "\n".join(text) + f"\n\n{_INSTRUCTION[is_chinese(question)]}{question.strip()}"
    messages = [*(dict(message) for message in history), {"role": "user", "content": prompt}]
    return Grounding(question, messages, hits, is_answerable(question, hits), opening)


def is_answerable(question: str, hits: Sequence[Hit]) -> bool:
    """Whether the passages are about the question, by the nearest in meaning and the best in words together."""
    wanted = terms(question)
    shared = max((coverage(wanted, terms(f"{hit.heading} {hit.text}")) for hit in hits), default=0.0)
    if is_chinese(question):
        return shared >= CHINESE_COVERAGE
    cosine = max((hit.cosine or 0.0 for hit in hits), default=0.0)
    return cosine + shared >= LEAST_RELEVANCE


def conclude(text: str, grounding: Grounding) -> Answer:
    """Attribute a reply. Citations that the model wrote itself are taken out, since it may number what is not there, and so is
    half a character at the end, where the limit of tokens fell."""
    text = _MARK.sub("", text).rstrip("\ufffd").strip()
    found = attribute(text, grounding.passages) if grounding.answerable else []
    return Answer(
        question=grounding.question,
        text=text,
        cited=with_citations(text, found),
        sentences=found,
        citations=list(dict.fromkeys(number for sentence in found for number in sentence.passages)),
        passages=grounding.passages,
        answerable=grounding.answerable,
        grounded=bool(found) and all(sentence.supported for sentence in found),
    )


def longest_reply(opening: Sequence[int], room: int) -> int | None:
    """Tokens of a grounded reply at most; None where the context has no room for so many: then what it has."""
    length = len(opening) + MAX_TOKENS
    return length if length <= room else None


def generator(loaded: Loaded) -> Generate:
    """Replies of a model, one at a time, with the settings that suit grounded answers.

    Raises, when it is asked:
        ContextLengthError: the model cannot even read the passages.
    """
    engine, renderer = Engine(loaded, EngineConfig(max_batch=1)), ChatRenderer(loaded.tokenizer)

    def generate(messages: list[dict[str, str]], opening: str) -> str:
        ids = renderer.render(messages, generation_prompt=True).ids
        start, room = tuple(loaded.tokenizer.encode(opening)), engine.context - len(ids)
        if room < 1:
            why = f"holds {engine.context} tokens, and the question with its passages has {len(ids)}"
            raise ContextLengthError(why, field="model", value=loaded.name, hint="a model with a longer context")
        request = Request(ids, SAMPLING, longest_reply(start, room), STOP, opening=start)
        return engine.run([request])[0].text

    return generate


def answer(question: str, index: Index, generate: Generate) -> Answer:
    """The whole way: search, generate unless the documents hold no answer, attribute."""
    started = time.perf_counter()
    grounding = ground(question, index)
    searched = time.perf_counter()
    text = generate(grounding.messages, grounding.opening) if grounding.answerable else grounding.refusal
    generated = time.perf_counter()
    result = conclude(text, grounding)
    timings = {
        "search": searched - started,
        "generate": generated - searched,
        "attribute": time.perf_counter() - generated,
        "total": time.perf_counter() - started,
    }
    result.timings.update({name: round(seconds, 4) for name, seconds in timings.items()})
    return result
