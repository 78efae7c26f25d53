"""What must be true of the tokens that training reads, examined with the tokeniser and the renderer that serve."""

from itertools import groupby, islice
from typing import Any

import numpy as np
from tokenizers import AddedToken

from cutaway.data.examples import Example, Skipped, tokenize
from cutaway.data.read import Record
from cutaway.data.shapes import Conversation, Document
from cutaway.evaluate.check import Check
from cutaway.evaluate.subject import Subject
from cutaway.infer.generate import GenerateConfig, prompt_ids
from cutaway.text.chat import ChatRenderer
from cutaway.text.load import load_tokenizer
from cutaway.text.tokenizer import Tokenizer

_PROBE = "<|cutaway-probe|>"


def prompts(subject: Subject) -> Check:
    """What the model is trained to answer against what it is asked to answer when it is served."""
    tokenizer = subject.loaded.tokenizer
    renderer, compared = ChatRenderer(tokenizer), 0
    different: list[dict[str, Any]] = []
    for record in subject.records:
        value = record.text if isinstance(record, Document) else {"messages": record.messages}
        for example in tokenize([Record(value, record.where)], tokenizer, Skipped()):
            for served in _served(record, tokenizer, renderer):
                compared += 1
                trained = example.ids[: len(served)].tolist()
                if trained != served or (isinstance(record, Conversation) and not example.learned[len(served)]):
                    at = next(
                        (i for i, (a, b) in enumerate(zip(trained, served, strict=False)) if a != b), len(trained)
                    )
                    different.append({"where": record.where, "token": at, "served": tokenizer.decode(served, False)})
    says = "ids before every learned reply against the prompt served for it, and that learning begins right there"
    return Check(
        "trained prompt equals served prompt",
        not different,
        {"prompts": compared, "different": different[:3]},
        0.0,
        says,
    )


def supervision(subject: Subject) -> Check:
    """That no batch trains nothing; and the mask, to look at."""
    stream = subject.stream()
    counts = [batch.n_targets for batch in islice(stream, stream.batches_per_epoch)]
    shown = next((one for one in subject.examples if not one.learned.all()), subject.examples[0])
    numbers = {"targets_per_batch": counts, "mask": spans(shown, subject.loaded.tokenizer)}
    says = f"learned tokens in each of {len(counts)} batches; one example, its learned parts marked"
    return Check("every batch supervises something", min(counts) > 0, numbers, 0.0, says)


def ends(subject: Subject) -> Check:
    """One BOS where the tokeniser adds it, and an end that is learned."""
    tokenizer, examples = subject.loaded.tokenizer, subject.examples
    bos = [_leading(example.ids, tokenizer.bos_id) for example in examples] if tokenizer.adds_bos else []
    wrong_bos = sum(count != 1 for count in bos)
    runs = [run for example in examples for run in _learned_runs(example)]
    unended = sum(int(run[-1]) not in tokenizer.end_ids for run in runs) if tokenizer.end_ids else len(runs)
    says = (
        "BOS stands once at the beginning" if tokenizer.adds_bos else "this tokeniser adds no BOS"
    ) + f"; each of {len(runs)} documents and replies ends in a learned end token"
    numbers = {"examples": len(examples), "without_exactly_one_bos": wrong_bos, "without_learned_end": unended}
    return Check("exactly one BOS, EOS supervised", not wrong_bos and not unended, numbers, 0.0, says)


def added_tokens(subject: Subject) -> Check:
    """A tokeniser with a token added, before and after saving."""
    subject.loaded.tokenizer.save(subject.folder / "tokenizer")
    copy = load_tokenizer(subject.folder / "tokenizer")
    copy.backend.add_special_tokens([AddedToken(_PROBE, special=True, normalized=False)])
    grown = Tokenizer(copy.backend, **copy.tokens, chat_template=copy.chat_template, adds_bos=copy.adds_bos)
    grown.save(subject.folder / "grown")
    again = load_tokenizer(subject.folder / "grown")
    texts = [subject.loaded.tokenizer.decode(one.ids.tolist(), False) + _PROBE for one in subject.examples]
    facts = {
        "ids": all(grown.encode(text, special=True) == again.encode(text, special=True) for text in texts),
        "one_id": again.encode(_PROBE, special=True) == [grown.special.get(_PROBE)],
        "old_ids": all(
            subject.loaded.tokenizer.encode(text.removesuffix(_PROBE)) == again.encode(text.removesuffix(_PROBE))
            for text in texts
        ),
        "special": subject.loaded.tokenizer.special | {_PROBE: grown.special.get(_PROBE)} == again.special,
        "roles": subject.loaded.tokenizer.tokens == again.tokens,
        "adds_bos": subject.loaded.tokenizer.adds_bos == again.adds_bos,
        "chat_template": subject.loaded.tokenizer.chat_template == again.chat_template,
    }
    says = "ids, special tokens, their roles and the chat template of a tokeniser with one more token, saved and loaded"
    return Check("added tokens survive saving", all(facts.values()), facts, 0.0, says)


def spans(example: Example, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """An example as text, in parts that are learned and parts that are only read."""
    runs = groupby(zip(example.ids.tolist(), example.learned.tolist(), strict=True), key=lambda pair: pair[1])
    return [
        {"learned": learned, "text": tokenizer.decode([id for id, _ in run], skip_special=False)}
        for learned, run in runs
    ]


def _served(record: Document | Conversation, tokenizer: Tokenizer, renderer: ChatRenderer) -> list[list[int]]:
    """The prompt that would be served for each reply of a conversation, or for continuing a document."""
    if isinstance(record, Document):
        return [prompt_ids(tokenizer, record.text, GenerateConfig())] if record.text.strip() else []
    replies = [i for i, message in enumerate(record.messages) if message["role"] == "assistant"]
    return [renderer.render(record.messages[:i], generation_prompt=True).ids for i in replies if i]


def _leading(ids: np.ndarray, token: int | None) -> int:
    """How often `token` stands at the beginning."""
    other = np.flatnonzero(ids != token)
    return int(other[0]) if len(other) else len(ids)


def _learned_runs(example: Example) -> list[np.ndarray]:
    edges = np.flatnonzero(np.diff(example.learned.astype(np.int8), prepend=0, append=0))
    return [example.ids[a:b] for a, b in edges.reshape(-1, 2)]
